"""A document, its public status, and the run that carries one request to process it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypedDict, cast

from pydantic import BaseModel, Field

from app.documents.domain.processors import ExtractionSummary, PageWarning, ProcessingError
from core.events import OutboxEvent, event_id
from core.ids import random_token
from core.object_keys import OWN_ROOT
from core.values import Value

EventType = Literal[
    "document.uploaded", "document.processing", "document.completed", "document.failed", "document.deleted"
]
ORIGINALS, RESULTS = f"{OWN_ROOT}originals/", f"{OWN_ROOT}results/"

Status = Literal["UPLOADED", "PROCESSING", "COMPLETED", "FAILED"]
RunState = Literal["queued", "running"]

# What a request asks of the status, by `force`; the updates in adapter/mongo_runs.py say the same to the database.
REQUESTABLE: Final[Mapping[bool, tuple[Status, ...]]] = {
    False: ("UPLOADED", "FAILED"),
    True: ("UPLOADED", "FAILED", "COMPLETED"),
}


class StoredObject(Value):
    """One object of a result; `size` in bytes."""

    key: str
    size: int
    sha256: str


class RunResult(Value):
    """What the record keeps of a result: small, and where the rest lies."""

    attempt: int
    processor: str
    version: str
    partial: bool
    warnings: tuple[PageWarning, ...]
    summary: ExtractionSummary | None
    objects: dict[str, StoredObject]  # by file name: result.json, text.txt, pages.ndjson, thumbnail.webp


class Run(BaseModel):
    """The state of processing. `state` is None when nothing is asked for or all is done."""

    state: RunState | None = None
    attempt: int = 0
    token: str | None = None
    worker: str | None = None
    tries: int = 0
    waits: int = 0
    requested_at: datetime | None = None
    queued_at: datetime | None = None
    ready_at: datetime | None = None
    woken_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    locked_until: datetime | None = None
    deadline_at: datetime | None = None
    progress: int = 0
    message: str = ""
    processor: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    request_id: str | None = None
    trace: str = ""  # what whoever works on it goes on with (core/tracing.py)
    command_id: str | None = None  # what asked for this attempt, where it may be asked again
    error: ProcessingError | None = None
    result: RunResult | None = None


class Source(Value):
    """Where a scanned document lies: an object of the host, which is read and never changed.

    A generation is one sync of the folder: the last that saw the object, the first, the one that saw it change, and the
    one that missed it.
    """

    folder_id: str  # whose source it is; the document's own folder_id may change
    bucket: str
    path: str
    etag: str
    generation: int
    created_generation: int
    changed_generation: int | None = None
    missing_generation: int | None = None
    missing_since: datetime | None = None


class Document(BaseModel):
    """`version` counts the changes a client can see in a Document; `seq` the events, `outbox` those not yet routed."""

    id: str
    owner_id: str
    filename: str
    content_type: str
    size: int
    sha256: str | None
    sole_sha256: str | None = None  # the same, where its sender wanted no second one
    key: str
    status: Status = "UPLOADED"
    folder_id: str | None = None
    external_id: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    version: int = 1
    seq: int = 0
    outbox: tuple[OutboxEvent, ...] = ()
    run: Run = Field(default_factory=Run)
    source: Source | None = None  # of a scanned document; then `key` is its path
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None
    purged_at: datetime | None = None  # a tombstone that stays, its objects are gone


class RunView(TypedDict):
    attempt: int
    progress: int
    message: str
    processor: str | None
    error: dict[str, Any] | None
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None


class DocumentView(TypedDict):
    """What its owner may see of a document, and `version` for ETags: read alone, it costs a third of the whole."""

    document_id: str
    filename: str
    content_type: str
    size: int
    sha256: str | None
    status: Status
    folder_id: str | None
    external_id: str | None
    metadata: dict[str, str]
    version: int
    run: RunView
    created_at: datetime
    updated_at: datetime


def view_of(document: Document) -> DocumentView:
    fields = document.model_dump(include={*DocumentView.__annotations__})
    return cast(DocumentView, {**fields, "document_id": document.id})


def uploaded_event(document: Document) -> OutboxEvent:
    """The first event of a document; later ones are written by the update that changes it."""
    told = {"document_id": document.id, "status": document.status, "attempt": 0, "error": None}
    return OutboxEvent(
        event_id=event_id(document.id, 1),
        seq=1,
        type="document.uploaded",
        at=document.created_at,
        owner_id=document.owner_id,
        data=told,
    )


def new_original_key(document_id: str) -> str:
    """A fresh place for an original; no request ever names it."""
    return originals_prefix(document_id) + random_token()


def originals_prefix(document_id: str) -> str:
    return f"{ORIGINALS}{document_id}/"


def result_prefix(document_id: str, attempt: int | None = None) -> str:
    """Where the results of a document, or of one of its attempts, lie."""
    return f"{RESULTS}{document_id}/" + ("" if attempt is None else f"{attempt}/")


def document_of(key: str) -> str:
    """The id inside the key of an original or of a result."""
    return key.split("/")[2]


def attempt_of(key: str) -> int:
    """The attempt inside the key of a result."""
    return int(key.split("/")[3])
