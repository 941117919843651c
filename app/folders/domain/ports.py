"""What the folders module needs from the world."""

from typing import Protocol

from app.folders.domain.folder import Folder
from core.paging import Page, Position


class Folders(Protocol):
    """Every call names the owner; somebody else's folder is not there."""

    async def add(self, folder: Folder) -> Folder:
        """The stored one, which another run of the same command may have made. Raises FolderExists."""

    async def get(self, folder_id: str, owner_id: str) -> Folder:
        """Raises FolderNotFound."""

    async def list(self, owner_id: str, after: Position | None, limit: int) -> Page[Folder]: ...

    async def replace(self, folder: Folder, *, expected_version: int) -> None:
        """Stores the new state where the version still is the expected one. Raises FolderExists, PreconditionFailed."""

    async def remove(self, folder_id: str, owner_id: str) -> None: ...
