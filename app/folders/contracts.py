"""What other modules may know of folders."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Protocol


class FolderDirectory(Protocol):
    """Offered by folders: whether a folder is there, and whose it is."""

    async def exists(self, folder_id: str, owner_id: str) -> bool:
        """Ask once more when something was put into it: from then on the folder stays."""


class FolderContents(Protocol):
    """Needed by folders: what lies in one. Implemented by documents."""

    async def has_documents(self, folder_id: str, owner_id: str) -> bool: ...


@dataclass(frozen=True)
class ScannedFolder:
    """One folder in one sync; a later sync has a higher generation."""

    folder_id: str
    owner_id: str
    source: str
    generation: int


@dataclass(frozen=True)
class ScannedFile:
    """An object of a source as a scan saw it: `path` is its key, `size` in bytes."""

    path: str
    filename: str
    size: int
    etag: str
    content_type: str


@dataclass(frozen=True)
class ScanCounts:
    """Documents of a folder in one sync."""

    seen: int = 0
    created: int = 0
    updated: int = 0
    missing: int = 0

    def __add__(self, other: "ScanCounts") -> "ScanCounts":
        return ScanCounts(*map(int.__add__, astuple(self), astuple(other)))


class ScannedDocuments(Protocol):
    """Needed by folders: the documents that scans find. Implemented by documents; all of it may be repeated."""

    async def take(self, folder: ScannedFolder, files: Sequence[ScannedFile]) -> int:
        """Stores what is newer than what is known; returns how many files are no documents and were skipped."""

    async def sweep(self, folder: ScannedFolder) -> None:
        """Marks as missing what this sync did not see."""

    async def count(self, folder: ScannedFolder) -> ScanCounts: ...
