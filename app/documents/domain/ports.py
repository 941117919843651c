"""What the documents module needs from the world, besides processors (processors.py)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.documents.domain.document import Document, DocumentView, RunResult, Status
from app.documents.domain.processors import ProcessingError
from core.paging import Page, Position


@dataclass(frozen=True)
class Filters:
    """What a list is narrowed by; all must fit."""

    status: Status | None = None
    folder_id: str | None = None
    external_id: str | None = None
    filename: str | None = None


@dataclass(frozen=True)
class NamedObjects:
    """Objects of one document that must stay: its original, and results of these attempts."""

    original: str
    attempts: frozenset[int]


@dataclass(frozen=True)
class StoredNames:
    """Keys of what one document has in our storage."""

    document_id: str
    original: str
    results: tuple[str, ...]


Listed = dict[str, Any]  # a document in a list, as clients see it: `document_id` and
LISTED_FIELDS = (
    "filename", "content_type", "size", "sha256", "status", "folder_id", "external_id", "metadata",
    "created_at", "updated_at",
)  # fmt: skip


class Documents(Protocol):
    """Every call names the owner; somebody else's document, and a deleted one, is not there."""

    async def add(self, document: Document) -> Document:
        """The stored one, which another run of the same command may have made, or the sole one of these bytes."""

    async def get(self, document_id: str, owner_id: str) -> Document:
        """Raises DocumentNotFound."""

    async def find(self, document_id: str, owner_id: str) -> Document | None: ...

    async def view(self, document_id: str, owner_id: str) -> DocumentView:
        """For who only looks, which is most. Raises DocumentNotFound."""

    async def find_by_sha256(self, sha256: str, owner_id: str) -> Document | None: ...

    async def list(self, owner_id: str, filters: Filters, after: Position | None, limit: int) -> Page[Listed]: ...

    async def update(self, document: Document, fields: dict[str, Any]) -> Document | None:
        """Sets fields where the document still is the version given. None where it has changed."""

    async def purge(self, document_id: str) -> None:
        """Forgets a tombstone whose objects are gone; a scanned one stays, else the next scan would bring it back."""

    async def removed(self, limit: int) -> Mapping[str, int]:
        """Tombstones whose objects may still be there, each with its last attempt."""

    async def objects_of(self, document_ids: Collection[str]) -> Mapping[str, NamedObjects]:
        """What the records name, tombstones left out; for the sweep, whoever the owner is."""

    async def stored_after(self, document_id: str, limit: int) -> Sequence[StoredNames]:
        """What the records behind an id name, in the order of ids; tombstones and scanned originals left out."""

    async def has_documents(self, folder_id: str, owner_id: str) -> bool:
        """For folders (FolderContents)."""


@dataclass(frozen=True)
class WakeUp:
    """One attempt that waits for a worker."""

    document_id: str
    attempt: int
    processor: str
    request_id: str
    trace: str = ""

    @classmethod
    def of(cls, document: Document) -> "WakeUp":
        """The attempt that a document waits with."""
        run = document.run
        return cls(document.id, run.attempt, run.processor or "", run.request_id or "", run.trace)


class Runs(Protocol):
    """Transitions of a run: one conditional update each, on the database's clock. No match is an answer, no error."""

    async def request(
        self, document_id: str, owner_id: str, *, processor: str, options: dict[str, Any], force: bool, request_id: str,
        command_id: str | None = None,
    ) -> Document | None:  # fmt: skip
        """One command starts one attempt, however often it asks."""

    async def claim(self, document_id: str, attempt: int, *, token: str, worker: str) -> Document | None:
        """Takes exactly this attempt, if it waits and is ready."""

    async def beat(self, document_id: str, token: str, *, progress: int, message: str) -> bool:
        """Extends the lease. False: the run is no longer ours, stop."""

    async def hashed(self, document_id: str, token: str, sha256: str) -> bool:
        """Keeps what the bytes of a scanned document are, once somebody has read them."""

    async def complete(self, document_id: str, token: str, result: RunResult) -> bool: ...

    async def fail(self, document_id: str, token: str, error: ProcessingError) -> bool: ...

    async def retry(self, document_id: str, token: str, *, delay_s: float) -> bool:
        """Queues the next attempt after something unexpected."""

    async def postpone(self, document_id: str, token: str, *, delay_s: float) -> bool:
        """Queues the next attempt after a storage outage, which is not counted as a try."""

    async def release(self, document_id: str, token: str) -> bool:
        """Gives an attempt back, because this process stops; not counted as a try."""

    async def cancel(self, document_id: str, owner_id: str) -> Document | None: ...

    async def remove(self, document_id: str, owner_id: str, version: int | None = None) -> Document | None:
        """Tombstone; a running attempt ends as cancelled. None where there was nothing (of this version) to remove."""

    async def wake_due(self, limit: int) -> list[WakeUp]:
        """Runs that wait longer than one interval since their last wake-up; each is due again an interval later."""

    async def end_overdue(self, limit: int) -> int:
        """Ends runs that beat to their hard end as `timeout`, and those out of tries as `worker_lost`."""

    async def free_dead(self, limit: int) -> list[WakeUp]:
        """Takes runs from workers whose lease ran out, and queues the next attempt."""


class Announcements(Protocol):
    async def run_for(self, aggregate_id: str) -> None:
        """Tells subscribers what happened to one document; best effort, a periodic task tells the rest."""


class ProcessingQueue(Protocol):
    def wake(self, wake_up: WakeUp) -> None:
        """Tells some worker. May be lost: the reconciler tells again."""

    async def backlog(self) -> int:
        """Messages that no worker has taken yet; 0 where nobody can tell."""
