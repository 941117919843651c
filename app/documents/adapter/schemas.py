"""JSON of documents, their processing status and results."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from app.documents.adapter.upload import ExternalId, FolderId, Metadata
from app.documents.domain.document import Document, DocumentView, RunResult, Status, view_of
from app.documents.domain.processors import ErrorCode, RegisteredProcessor
from core.http.routes import Body


class DocumentRead(BaseModel):
    document_id: str = Field(examples=["doc_01kd4v8w3zj5n9q2r7t6x1y0ab"])
    filename: str
    content_type: str = Field(description="What the file's structure says, whatever the sender declared")
    size: int = Field(description="Bytes")
    sha256: str | None
    status: Status
    folder_id: str | None
    external_id: str | None
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, document: Document) -> "DocumentRead":
        return cls.model_validate(view_of(document))


class DocumentUpdate(Body):
    """What is absent stays as it is; null clears."""

    filename: str | None = Field(default=None, max_length=1024)
    folder_id: FolderId | None = None
    external_id: ExternalId | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _no_null_name(self) -> "DocumentUpdate":
        if "filename" in self.model_fields_set and self.filename is None:
            raise ValueError("filename must not be null")
        return self

    def fields(self) -> dict[str, Any]:
        given = self.model_dump(exclude_unset=True)
        if "metadata" in given and given["metadata"] is None:
            given["metadata"] = {}
        return given


class ContentUrl(BaseModel):
    url: str = Field(description="Needs no credential; give it to whoever may have the file")
    expires_at: datetime


class ProcessRequest(Body):
    processor: str | None = Field(default=None, max_length=40, examples=["extract"], description="Default: `extract`")
    options: dict[str, Any] = Field(default_factory=dict, examples=[{}])
    force: bool = Field(default=False, description="Process again although it is COMPLETED")


class ProcessingErrorRead(BaseModel):
    code: ErrorCode
    detail: str
    retryable: bool


class StatusRead(BaseModel):
    document_id: str
    status: Status
    progress: int = Field(ge=0, le=100, description="Never goes back within an attempt")
    message: str
    attempt: int
    processor: str | None
    error: ProcessingErrorRead | None
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime

    @classmethod
    def of(cls, view: DocumentView) -> "StatusRead":
        progress = 0 if view["status"] == "UPLOADED" else view["run"]["progress"]
        return cls.model_validate({**view, **view["run"], "progress": progress})


class ProcessorName(BaseModel):
    name: str
    version: str


class WarningRead(BaseModel):
    page: int | None
    code: str


class ResultRead(BaseModel):
    """The whole result; for `extract` its `result` holds text, pages and metadata."""

    document_id: str
    status: Literal["COMPLETED"] = "COMPLETED"
    attempt: int
    processor: ProcessorName
    partial: bool = Field(description="Something could not be read; `warnings` says what")
    warnings: list[WarningRead]
    result: dict[str, Any]

    @classmethod
    def of(cls, stored: dict[str, Any], known: RunResult) -> "ResultRead":
        return cls.model_validate({**stored, "attempt": known.attempt})


class ProcessorRead(BaseModel):
    name: str
    version: str
    content_types: list[str]
    description: str

    @classmethod
    def of(cls, processor: RegisteredProcessor) -> "ProcessorRead":
        return cls(
            name=processor.name,
            version=processor.version,
            content_types=sorted(processor.content_types),
            description=processor.description,
        )
