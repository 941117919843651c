"""JSON of folders."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from app.folders.contracts import ScanCounts
from app.folders.domain.folder import Folder
from app.folders.domain.sync import MAX_FOLDERS, SENTENCES, Sync, SyncErrorCode
from app.scans.contracts import ScanStatus
from core.http.routes import Body

Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$"),
    Field(examples=["Invoices"]),
]


class FolderCreate(Body):
    name: Name
    source: str | None = Field(
        default=None, max_length=2048, examples=["s3://imports/2026/"], description="Objects that become its documents"
    )


class FolderUpdate(Body):
    name: Name


class FolderRead(BaseModel):
    folder_id: str
    name: str
    source: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, folder: Folder) -> "FolderRead":
        return cls(folder_id=folder.id, **folder.model_dump(include=set(cls.model_fields)))


class SyncCreate(Body):
    folder_ids: list[Annotated[str, StringConstraints(max_length=64)]] | None = Field(
        default=None, min_length=1, max_length=MAX_FOLDERS, description="Default: all that have a source"
    )


class SyncFolderRead(BaseModel):
    folder_id: str
    source: str


class SyncErrorRead(BaseModel):
    code: SyncErrorCode
    detail: str


class SyncRead(BaseModel):
    sync_id: str
    status: ScanStatus
    folders: list[SyncFolderRead]
    batches_received: int
    documents_seen: int
    documents_created: int
    documents_updated: int
    documents_missing: int = Field(description="Known, but no longer where they were; only counted when all is listed")
    error: SyncErrorRead | None
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, sync: Sync, counts: ScanCounts) -> "SyncRead":
        return cls(
            sync_id=sync.id,
            folders=[SyncFolderRead(folder_id=folder.folder_id, source=folder.source) for folder in sync.folders],
            batches_received=len(sync.batches),
            error=SyncErrorRead(code=sync.error, detail=SENTENCES[sync.error]) if sync.error else None,
            **{f"documents_{name}": count for name, count in asdict(counts).items()},
            **sync.model_dump(include={"status", "created_at", "finished_at"}),
        )
