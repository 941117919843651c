"""A sync: what was asked of the scan service for some folders, and how much of its answer is here."""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field

from app.folders.contracts import ScanCounts, ScannedFolder
from app.scans.contracts import ScanStatus
from core.events import OutboxEvent
from core.tracing import carried
from core.values import Value

SILENCE, TIMEOUT = timedelta(minutes=15), timedelta(hours=24)
MAX_FOLDERS = 500  # as many as a scan takes

EventType = Literal["scan.completed", "scan.failed"]
SyncErrorCode = Literal[
    "source_not_allowed", "callback_not_registered", "upstream_failed", "source_unreadable", "scan_failed",
    "scan_timeout",
]  # fmt: skip
SENTENCES: dict[SyncErrorCode, str] = {
    "source_not_allowed": "The scan service may not read the source of a folder.",
    "callback_not_registered": "The scan service does not know where to report to.",
    "upstream_failed": "The scan service did not take the order, or has lost it.",
    "source_unreadable": "Some sources could not be read. What is known of them stays as it is.",
    "scan_failed": "The scan failed before all was found.",
    "scan_timeout": "The scan did not end within a day.",
}


class SyncFolder(Value):
    folder_id: str
    source: str
    generation: int


class ScanEnd(Value):
    """What the completion marker says."""

    status: Literal["COMPLETED", "FAILED"]
    total_batches: int
    failed_folders: tuple[str, ...]


class Sync(BaseModel):
    """`batches`: those that are here, `<folder_id>:<number>`, each with how many of its files were skipped.

    `next_at` is when somebody looks after it, `heard_at` the last sign of the scan; whoever finalises holds `token`.
    """

    id: str
    owner_id: str
    status: ScanStatus = "PENDING"
    folders: tuple[SyncFolder, ...]
    scan_id: str | None = None
    batches: dict[str, int] = Field(default_factory=dict)
    end: ScanEnd | None = None
    counts: ScanCounts | None = None  # frozen when it is over
    error: SyncErrorCode | None = None
    request_id: str
    trace: str = Field(default_factory=carried)
    next_at: datetime
    heard_at: datetime
    token: str | None = None
    locked_until: datetime | None = None
    outbox: tuple[OutboxEvent, ...] = ()
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.status in {"PENDING", "RUNNING"}

    @property
    def all_is_here(self) -> bool:
        """Of a scan that failed there is nothing to wait for."""
        end = self.end
        return end is not None and (end.status == "FAILED" or len(self.batches) == end.total_batches)

    def scanned(self) -> tuple[ScannedFolder, ...]:
        return tuple(ScannedFolder(owner_id=self.owner_id, **folder.model_dump()) for folder in self.folders)
