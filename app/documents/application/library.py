"""What people do with their documents: upload, find, change, download, delete."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol

import structlog

from app.documents.domain.document import Document, new_original_key, uploaded_event
from app.documents.domain.errors import (
    DocumentNotFound,
    DuplicateDocument,
    FileNameInvalid,
    UnsupportedFileType,
    refusal,
)
from app.documents.domain.filename import FileNameRefused, clean_filename, extension
from app.documents.domain.ports import Documents, Filters, Runs
from app.documents.domain.processors import EXTENSIONS, FileRefused
from app.folders.contracts import FolderDirectory
from core.clock import Clock
from core.errors import PreconditionFailed
from core.ids import id_for
from core.paging import Page, Position
from core.storage.base import FileStore

log = structlog.get_logger("documents")

PATCH_ROUNDS = 5
OnDuplicate = Literal["allow", "return", "reject"]


@dataclass(frozen=True)
class CheckedUpload:
    """What the structural check found out; `size` in bytes."""

    content_type: str
    size: int
    sha256: str


class UploadCheck(Protocol):
    async def check(self, file: BinaryIO, filename: str) -> CheckedUpload:
        """Reads the file once. Raises FileRefused."""


@dataclass(frozen=True)
class Upload:
    """A received file with what its sender says about it."""

    file: BinaryIO
    filename: str
    folder_id: str | None
    external_id: str | None
    metadata: dict[str, str]
    on_duplicate: OnDuplicate = "allow"


class Library:
    def __init__(
        self,
        documents: Documents,
        runs: Runs,
        files: FileStore,
        folders: FolderDirectory,
        check: UploadCheck,
        clock: Clock,
    ) -> None:
        self._documents, self._runs, self._files = documents, runs, files
        self._folders, self._check, self._clock = folders, check, clock

    async def upload(self, owner_id: str, upload: Upload, command_id: str | None = None) -> tuple[Document, bool]:
        """The document, and whether it is new. Name, type, bytes, record, in this order: a refusal stores nothing."""
        document_id = id_for("doc", command_id)
        if command_id is not None:  # an earlier run may have got this far; to `on_duplicate` it would be a duplicate
            known = await self._documents.find(document_id, owner_id)
            if known is not None:
                return known, True
        filename = _checked_name(upload.filename)
        if upload.folder_id is not None:
            await self._demand_folder(upload.folder_id, owner_id)
        try:
            checked = await self._check.check(upload.file, filename)
        except FileRefused as refused:
            log.info("security", name="file_refused", code=refused.code, reason=refused.reason, principal=owner_id)
            raise refusal(refused) from refused
        if upload.on_duplicate != "allow":
            known = await self._documents.find_by_sha256(checked.sha256, owner_id)
            if known is not None and upload.on_duplicate == "reject":
                raise DuplicateDocument
            if known is not None:
                return known, False
        return await self._store(document_id, owner_id, upload, filename, checked), True

    async def get(self, owner_id: str, document_id: str) -> Document:
        return await self._documents.get(document_id, owner_id)

    async def list(self, owner_id: str, filters: Filters, after: Position | None, limit: int) -> Page[Document]:
        return await self._documents.list(owner_id, filters, after, limit)

    async def list_folder(self, owner_id: str, folder_id: str, after: Position | None, limit: int) -> Page[Document]:
        """As `list`, but a folder that is not there is an error."""
        await self._demand_folder(folder_id, owner_id)
        return await self._documents.list(owner_id, Filters(folder_id=folder_id), after, limit)

    async def change(
        self, owner_id: str, document_id: str, fields: dict[str, Any], demand: Callable[[Document], None]
    ) -> Document:
        """Sets the given fields. `demand` may refuse the state that was read; a state that moved on is read again."""
        if "filename" in fields:
            fields = {**fields, "filename": _checked_name(fields["filename"])}
        if fields.get("folder_id") is not None:
            await self._demand_folder(fields["folder_id"], owner_id)
        for _ in range(PATCH_ROUNDS):
            document = await self._documents.get(document_id, owner_id)
            demand(document)
            if "filename" in fields and extension(fields["filename"]) != EXTENSIONS[document.content_type]:
                raise FileNameInvalid("The extension does not fit the type of the document.", pointer="/filename")
            changed = await self._documents.update(document, fields)
            if changed is not None:
                return changed
        raise PreconditionFailed

    async def remove(self, owner_id: str, document_id: str) -> None:
        """The document is gone at once; its bytes follow."""
        if not await self._runs.remove(document_id, owner_id):
            raise DocumentNotFound
        log.info("deleted", document_id=document_id)

    def read(self, document: Document, start: int, end: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._files.read(document.key, start, end)

    async def url(self, document: Document, *, expires_s: int, headers: Mapping[str, str]) -> str:
        return await self._files.url(document.key, expires_s=expires_s, headers=headers)

    async def _store(
        self, document_id: str, owner_id: str, upload: Upload, filename: str, checked: CheckedUpload
    ) -> Document:
        now = self._clock()
        document = Document(
            id=document_id,
            owner_id=owner_id,
            filename=filename,
            content_type=checked.content_type,
            size=checked.size,
            sha256=checked.sha256,
            key=new_original_key(document_id),
            folder_id=upload.folder_id,
            external_id=upload.external_id,
            metadata=upload.metadata,
            created_at=now,
            updated_at=now,
        )
        document = document.model_copy(update={"seq": 1, "outbox": (uploaded_event(document),)})
        await self._files.put(document.key, upload.file, checked.content_type)
        # Not undone when the insert fails: its outcome may be unknown, and the sweep finds what no record names.
        stored = await self._documents.add(document)
        log.info("uploaded", document_id=document_id, size=checked.size, content_type=checked.content_type)
        return stored

    async def _demand_folder(self, folder_id: str, owner_id: str) -> None:
        if not await self._folders.exists(folder_id, owner_id):
            raise DocumentNotFound("There is no such folder.")


def _checked_name(raw: str) -> str:
    try:
        name = clean_filename(raw)
    except FileNameRefused as refused:
        raise FileNameInvalid(pointer="/filename") from refused
    if extension(name) not in EXTENSIONS.values():
        raise UnsupportedFileType
    return name
