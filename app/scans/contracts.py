"""What other modules may know of scans: how one is ordered and followed, and who receives what it finds."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, Protocol

from core.values import Value

ScanStatus = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED"]
ScanErrorCode = Literal["source_unreadable", "callback_failed", "worker_lost"]


class ScanFolder(Value):
    """A folder of the host and where its objects lie: `s3://bucket/prefix/`."""

    folder_id: str
    source: str


class ScanOrder(Value):
    """`callback` is a registered name; a `callback_url` counts in its place."""

    user_id: str
    folders: tuple[ScanFolder, ...]
    callback: str = "default"
    callback_url: str | None = None
    correlation_id: str | None = None


class ScanError(Value):
    """Why a scan failed, for programs and for people."""

    code: ScanErrorCode
    detail: str


class ScanState(Value):
    """How far a scan is: `folders_done` counts failed folders too, `batches_delivered` not the completion marker."""

    scan_id: str
    status: ScanStatus
    correlation_id: str | None
    folders_total: int
    folders_done: int
    failed_folders: tuple[str, ...]
    documents_found: int
    batches_delivered: int
    error: ScanError | None
    created_at: datetime
    finished_at: datetime | None


class ScanService(Protocol):
    """Offered by scans to a host in the same process; elsewhere the host calls `POST /scans`."""

    async def order(self, order: ScanOrder, command_id: str | None) -> ScanState:
        """The same scan for the same command, a new one without. Raises CallbackNotRegistered, SourceNotAllowed."""

    async def state(self, scan_id: str) -> ScanState:
        """Raises NotFound."""


class CallbackReceiver(Protocol):
    """Needed by scans where no `default` is registered. Implemented by folders in the same process."""

    async def receive(self, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Takes one message as it would come over HTTP: names in lower case; whether it was here before.

        Raises an AppError when it is refused.
        """
