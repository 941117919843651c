"""What can go wrong with folders."""

from app.folders.domain.sync import SyncErrorCode
from core.errors import Conflict, Invalid, NotFound, Unavailable


class FolderNotFound(NotFound):
    code = "not_found"


class FolderExists(Conflict):
    title = "A folder with this name exists"


class FolderNotEmpty(Conflict):
    title = "The folder still holds documents"


class NoSource(Invalid):
    code = "validation_failed"
    title = "There is no source to scan"


class SyncNotFound(NotFound):
    code = "not_found"


class NoScanService(Unavailable):
    code = "dependency_unavailable"
    title = "No scan service is set up"


class ScanRefused(Exception):
    """The scan service will not do it, however often it is asked."""

    def __init__(self, code: SyncErrorCode) -> None:
        self.code: SyncErrorCode = code
        super().__init__(code)
