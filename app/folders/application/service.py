"""What people do with folders."""

from collections.abc import Callable

from app.folders.contracts import FolderContents
from app.folders.domain.errors import FolderNotEmpty, FolderNotFound
from app.folders.domain.folder import Folder
from app.folders.domain.ports import Folders
from core.clock import Clock
from core.ids import id_for
from core.paging import Page, Position
from core.sources import Sources


class FolderService:
    def __init__(self, folders: Folders, contents: FolderContents, clock: Clock, sources: Sources) -> None:
        self._folders, self._contents, self._clock, self._sources = folders, contents, clock, sources

    async def create(self, owner_id: str, *, name: str, source: str | None, command_id: str | None = None) -> Folder:
        """Raises SourceNotAllowed or FolderExists."""
        if source is not None:
            self._sources.check(source, owner_id, pointer="/source")
        now = self._clock()
        folder = Folder(
            id=id_for("fld", command_id),
            owner_id=owner_id,
            name=name,
            source=source,
            version=1,
            created_at=now,
            updated_at=now,
        )
        return await self._folders.add(folder)

    async def get(self, owner_id: str, folder_id: str) -> Folder:
        return await self._folders.get(folder_id, owner_id)

    async def list(self, owner_id: str, after: Position | None, limit: int) -> Page[Folder]:
        return await self._folders.list(owner_id, after, limit)

    async def rename(self, owner_id: str, folder_id: str, *, name: str, demand: Callable[[Folder], None]) -> Folder:
        """`demand` may refuse the state that was read; what is written replaces exactly that state."""
        folder = await self._folders.get(folder_id, owner_id)
        demand(folder)
        renamed = folder.model_copy(update={"name": name, "version": folder.version + 1, "updated_at": self._clock()})
        await self._folders.replace(renamed, expected_version=folder.version)
        return renamed

    async def remove(self, owner_id: str, folder_id: str) -> None:
        """Raises FolderNotFound or FolderNotEmpty."""
        await self._folders.get(folder_id, owner_id)
        if await self._contents.has_documents(folder_id, owner_id):
            raise FolderNotEmpty
        await self._folders.remove(folder_id, owner_id)

    async def exists(self, folder_id: str, owner_id: str) -> bool:
        """For other modules (FolderDirectory)."""
        try:
            await self._folders.get(folder_id, owner_id)
        except FolderNotFound:
            return False
        return True
