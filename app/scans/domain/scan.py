"""A scan: which folders it lists, how far it is, and the messages that tell the host what lies there."""

import json
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

from pydantic import Field

from app.scans.contracts import ScanError, ScanErrorCode, ScanFolder, ScanState, ScanStatus
from core.tracing import carried
from core.values import Value

DETAILS: dict[ScanErrorCode, str] = {
    "source_unreadable": "None of the sources could be read.",
    "callback_failed": "The host did not take everything within 24 hours.",
    "worker_lost": "Listing ended its worker again and again.",
}


class Cursor(Value):
    """The folder that is listed now, by its place in the order, and the last key seen in it."""

    folder: int = 0
    after: str = ""


class Run(Value):
    """Listing. `state` None: it is over; `token` is the fence; `tries` counts claims since the last page."""

    state: Literal["queued", "running"] | None = "queued"
    token: str | None = None
    tries: int = 0
    locked_until: datetime | None = None
    ready_at: datetime | None = None
    woken_at: datetime | None = None


class Sending(Value):
    """Who sends for this scan, until when: one process at a time."""

    token: str | None = None
    locked_until: datetime | None = None


class Batch(Value):
    """One message to the host. Its id is derived, so that it stays over retries; the last one is the completion."""

    id: str
    scan_id: str
    number: int
    body: bytes
    created_at: datetime
    tries: int = 0


class Scan(Value):
    """`callback_url` None is the receiver in this process; `key_id` tells with which token it was ordered."""

    id: str
    status: ScanStatus = "PENDING"
    user_id: str
    folders: tuple[ScanFolder, ...]
    callback_url: str | None
    correlation_id: str | None
    key_id: str
    request_id: str
    trace: str = Field(default_factory=carried)
    cursor: Cursor = Cursor()
    failed_folders: tuple[str, ...] = ()
    batches: int = 0
    documents: int = 0
    error: ScanError | None = None
    run: Run = Run()
    sending: Sending = Sending()
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def folder(self) -> ScanFolder | None:
        """The one that is listed now; None when there is no further one."""
        return self.folders[self.cursor.folder] if self.cursor.folder < len(self.folders) else None

    def listed(self, after: str, *, more: bool) -> "Scan":
        """Behind a page of the current folder."""
        cursor = Cursor(folder=self.cursor.folder, after=after) if more else Cursor(folder=self.cursor.folder + 1)
        return self.model_copy(update={"cursor": cursor})

    def without_folder(self) -> "Scan":
        """The current folder could not be read; the others go on."""
        assert self.folder is not None
        failed = (*self.failed_folders, self.folder.folder_id)
        return self.listed("", more=False).model_copy(update={"failed_folders": failed})

    def with_batch(self, documents: Sequence[dict[str, Any]], now: datetime) -> "tuple[Scan, Batch]":
        assert self.folder is not None
        told = {"folder_id": self.folder.folder_id, "batch": self.batches, "documents": documents}
        counted = {"batches": self.batches + 1, "documents": self.documents + len(documents)}
        return self.model_copy(update=counted), self._message("scan.batch", self.folder.folder_id, told, now)

    def completed(self, now: datetime, code: ScanErrorCode | None = None) -> "tuple[Scan, Batch]":
        """Nothing more is listed: the state after it, and the message that says so."""
        if code is None and len(self.failed_folders) == len(self.folders):
            code = "source_unreadable"
        told = {
            "status": "FAILED" if code else "COMPLETED",
            "total_batches": self.batches,
            "total_documents": self.documents,
            "failed_folders": self.failed_folders,
        }
        ended = {"error": ScanError(code=code, detail=DETAILS[code]) if code else None, "run": Run(state=None)}
        return self.model_copy(update=ended), self._message("scan.completed", "", told, now)

    def state(self, batches_delivered: int) -> ScanState:
        return ScanState(
            scan_id=self.id,
            folders_total=len(self.folders),
            folders_done=self.cursor.folder,
            documents_found=self.documents,
            batches_delivered=batches_delivered,
            error=self.error if self.status == "FAILED" else None,
            **self.model_dump(include={"status", "correlation_id", "failed_folders", "created_at", "finished_at"}),
        )

    def _message(self, kind: str, folder_id: str, told: dict[str, Any], now: datetime) -> Batch:
        message = {"type": kind, "scan_id": self.id, "correlation_id": self.correlation_id, **told}
        name = json.dumps([self.id, folder_id, self.batches]).encode()
        return Batch(
            id=f"msg_{sha256(name).hexdigest()[:40]}",
            scan_id=self.id,
            number=self.batches,
            body=json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode(),
            created_at=now,
        )
