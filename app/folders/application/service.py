"""What people do with folders."""

import asyncio
from collections.abc import Callable
from itertools import count

from app.folders.contracts import FolderContents
from app.folders.domain.errors import FolderNotEmpty, FolderNotFound
from app.folders.domain.folder import Folder
from app.folders.domain.ports import Folders
from core.clock import Clock
from core.ids import id_for, random_token
from core.paging import Page, Position
from core.sources import Sources

LOOK_S, PATIENCE = 0.05, 40  # how often, and how many times, before a process that removes a folder is taken for dead


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

    async def remove(self, owner_id: str, folder_id: str, *, demand: Callable[[Folder], None]) -> None:
        """Raises FolderNotFound or FolderNotEmpty; `demand` as for `rename`.

        Marks the folder and then looks for documents; whoever puts one into it writes and then asks `exists`. So one
        of the two sees the other.
        """
        while True:
            folder = await self._settled(folder_id, owner_id)
            demand(folder)
            marked = folder.model_copy(update={"removal": random_token()})
            if not await self._folders.mark(folder, marked.removal):
                continue
            is_empty = not await self._contents.has_documents(folder_id, owner_id)
            if is_empty and await self._folders.remove(marked):
                return
            await self._folders.mark(marked, None)
            if not is_empty:
                raise FolderNotEmpty

    async def exists(self, folder_id: str, owner_id: str) -> bool:
        """For other modules (FolderDirectory). Waits for what comes of a removal."""
        try:
            await self._settled(folder_id, owner_id)
        except FolderNotFound:
            return False
        return True

    async def _settled(self, folder_id: str, owner_id: str) -> Folder:
        """Once nobody is removing it. Without his mark, whoever was taken for dead removes nothing."""
        for look in count(1):
            folder = await self._folders.get(folder_id, owner_id)
            if folder.removal is None:
                break
            if look % PATIENCE == 0:
                await self._folders.mark(folder, None)
            await asyncio.sleep(LOOK_S)
        return folder
