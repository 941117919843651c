"""What reads documents, what a run ends in, and the closed set of processing errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from app.documents.domain.limits import Limits

PDF: Final = "application/pdf"
DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
EXTENSIONS: Final[Mapping[str, str]] = {PDF: "pdf", DOCX: "docx"}

RefusalCode = Literal["unsupported_file_type", "file_corrupt", "file_encrypted", "macro_not_allowed", "archive_bomb"]
ErrorCode = Literal[
    "document_corrupt",
    "document_encrypted",
    "too_many_pages",
    "memory_limit",
    "cpu_limit",
    "timeout",
    "parser_crash",
    "cancelled",
    "storage_unavailable",
    "worker_lost",
    "internal",
]
Remark = Literal["javascript", "embedded_files", "trailing_data", "external_relationship"]
StopReason = Literal["cancelled", "lost", "shutdown"]

SENTENCES: Final[Mapping[ErrorCode, str]] = {
    "document_corrupt": "The file is damaged and cannot be read.",
    "document_encrypted": "The file is protected by a password.",
    "too_many_pages": "The document has too many pages.",
    "memory_limit": "Reading the document needs more memory or output than allowed.",
    "cpu_limit": "Reading the document needs more computing time than allowed.",
    "timeout": "Processing took longer than allowed.",
    "parser_crash": "The reader stopped unexpectedly on this document.",
    "cancelled": "Processing was cancelled.",
    "storage_unavailable": "The stored file could not be read or the result not be stored.",
    "worker_lost": "The worker that processed the document was lost.",
    "internal": "Processing failed for an internal reason.",
}
RETRYABLE: Final[frozenset[ErrorCode]] = frozenset(
    {"timeout", "cancelled", "storage_unavailable", "worker_lost", "internal"}
)


class FileRefused(Exception):
    """An upload whose structure is not acceptable; `reason` is for the log."""

    def __init__(self, code: RefusalCode, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code: RefusalCode = code
        self.reason = reason


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProcessingError(_Value):
    """What clients see of a failure: the public sentence, never a library's message."""

    code: ErrorCode
    detail: str
    retryable: bool

    @classmethod
    def of(cls, code: ErrorCode, *, retryable: bool | None = None) -> ProcessingError:
        """The error of `code`; `retryable` overrides the rule, for an original that is gone or altered."""
        known = code in RETRYABLE if retryable is None else retryable
        return cls(code=code, detail=SENTENCES[code], retryable=known)


class PageWarning(_Value):
    """Something lost (an error code) or worth knowing (a remark); `page` is null for the whole document."""

    page: int | None
    code: ErrorCode | Remark


class PageSummary(_Value):
    """One page that was read; sizes in points after rotation."""

    number: int
    width: float
    height: float
    characters: int


class ExtractionSummary(_Value):
    """The part of an extraction that is small enough for the record."""

    kind: Literal["pdf", "docx"]
    page_count: int | None
    metadata: dict[str, str]
    language: str
    has_text_layer: bool
    characters: int


class Extraction(ExtractionSummary):
    """`Result.result` of the API for all that yields pages or text, plus `characters` of the document."""

    pages: tuple[PageSummary, ...]
    text: str
    text_truncated: bool

    def summary(self) -> ExtractionSummary:
        return ExtractionSummary(**{name: getattr(self, name) for name in ExtractionSummary.model_fields})


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU and wall seconds and the number of children one attempt took."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    children: int = 0


@dataclass(frozen=True, slots=True)
class Completed:
    """`files` are in the run's workdir: text.txt, pages.ndjson, thumbnail.webp, those that exist."""

    processor: str
    version: str
    result: Extraction | dict[str, Any]
    partial: bool
    warnings: tuple[PageWarning, ...]
    files: tuple[Path, ...]
    usage: Usage

    def value(self) -> dict[str, Any]:
        """`Result.result` as JSON values."""
        return self.result.model_dump(mode="json") if isinstance(self.result, Extraction) else self.result


@dataclass(frozen=True, slots=True)
class Failed:
    """A final failure; `reason` is for the log only."""

    code: ErrorCode
    reason: str
    usage: Usage = field(default_factory=Usage)

    def error(self) -> ProcessingError:
        return ProcessingError.of(self.code)


@dataclass(frozen=True, slots=True)
class Stopped:
    """The claim was lost or the process is stopping: nothing may be written."""

    reason: Literal["lost", "shutdown"]


RunOutcome = Completed | Failed | Stopped
Report = Callable[[int, str], None]  # progress 0-100, message; called from the run's thread


class StopFlag:
    """Raised from any thread, read by the one that runs; the first reason stays."""

    def __init__(self) -> None:
        self._reason: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        self._reason = self._reason or reason

    @property
    def reason(self) -> StopReason | None:
        return self._reason


class Job(Protocol):
    """What a processor sees in its child, read-only."""

    path: str  # local copy of the original
    content_type: str
    options: Mapping[str, Any]
    start: int  # first page to read, from 1
    run_key: str  # equal for all attempts of one request: the idempotency key for paid services
    workdir: str  # a folder of this child alone, gone after the run
    page_count: int  # pages that `pages()` yields

    def pages(self) -> Iterator[dict[str, Any]]:
        """`{number, width, height, text}` of the needed extraction; for a DOCX pieces without a size."""

    def text(self) -> str:
        """The whole text of the needed extraction."""

    def result(self, name: str) -> dict[str, Any]:
        """`Result.result` of the needed processor `name`."""


class NoOptions(BaseModel):
    """Options of a processor that takes none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class RegisteredProcessor:
    """A processor as API and worker know it; `entries` says per content type what the child loads."""

    name: str
    version: str
    description: str
    entries: Mapping[str, str]  # content type -> "file.py:function" of the readers, or "module:attribute"
    limits: Limits
    options: type[BaseModel] = NoOptions
    needs: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    thumbnails: Mapping[str, str] = field(default_factory=dict)  # content type -> what makes the thumbnail
    site: str | None = None  # folder of a third-party distribution; None for the built-in ones

    @property
    def content_types(self) -> frozenset[str]:
        return frozenset(self.entries)

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with their defaults, as JSON values. Raises pydantic.ValidationError."""
        return self.options.model_validate(dict(options)).model_dump(mode="json")


class ProcessorRegistry(Protocol):
    def list(self) -> tuple[RegisteredProcessor, ...]:
        """All processors, the default first."""

    def find(self, name: str) -> RegisteredProcessor | None: ...


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One attempt. `workdir` holds `path` and, if an earlier result is at hand, `needs/{name}/`."""

    processor: str
    path: Path
    content_type: str
    workdir: Path
    run_key: str
    options: Mapping[str, Any] = field(default_factory=dict)


class ProcessRunner(Protocol):
    def run(self, request: RunRequest, stop: StopFlag, report: Report) -> RunOutcome:
        """One whole attempt, blocking, to be called in a thread of its own. Progress goes from 5 to 94."""
