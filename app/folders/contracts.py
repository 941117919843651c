"""What other modules may know of folders."""

from typing import Protocol


class FolderDirectory(Protocol):
    """Offered by folders: whether a folder is there, and whose it is."""

    async def exists(self, folder_id: str, owner_id: str) -> bool: ...


class FolderContents(Protocol):
    """Needed by folders: what lies in one. Implemented by documents."""

    async def has_documents(self, folder_id: str, owner_id: str) -> bool: ...
