"""What people do with their documents: upload, find, change, download, delete."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Literal

import structlog

from app.documents.application.originals import original_place
from app.documents.domain.document import Document, DocumentView, new_original_key, uploaded_event
from app.documents.domain.errors import (
    REFUSALS,
    DocumentNotFound,
    DuplicateDocument,
    FileNameInvalid,
    OriginalMissing,
    UnsupportedFileType,
)
from app.documents.domain.filename import FileNameRefused, clean_filename, extension
from app.documents.domain.ports import Documents, Filters, Listed, Runs
from app.documents.domain.processors import EXTENSIONS, FileRefused
from app.folders.contracts import FolderDirectory
from core.clock import Clock
from core.errors import AppError, PreconditionFailed
from core.ids import id_for
from core.paging import Page, Position
from core.storage.base import FileMissing, FileStore, StorageUnavailable

log = structlog.get_logger("documents")

PATCH_ROUNDS = 5
NO_FOLDER = "There is no such folder."
OnDuplicate = Literal["allow", "return", "reject"]


@dataclass(frozen=True)
class CheckedUpload:
    """What the structural check found out; `size` in bytes."""

    content_type: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Upload:
    """A received file, what was found in it, and what its sender says about it."""

    file: BinaryIO
    filename: str
    checked: CheckedUpload | FileRefused
    folder_id: str | None
    external_id: str | None
    metadata: dict[str, str]
    on_duplicate: OnDuplicate = "allow"


class Library:
    def __init__(
        self, documents: Documents, runs: Runs, files: FileStore, folders: FolderDirectory, clock: Clock
    ) -> None:
        self._documents, self._runs, self._files = documents, runs, files
        self._folders, self._clock = folders, clock

    async def upload(self, owner_id: str, upload: Upload, command_id: str | None = None) -> tuple[Document, bool]:
        """The document, and whether it is new. Name, type, bytes, record, in this order: a refusal stores nothing."""
        document_id = id_for("doc", command_id)
        if command_id is not None:  # an earlier run may have got this far; to `on_duplicate` it would be a duplicate
            known = await self._documents.find(document_id, owner_id)
            if known is not None:
                return await placed(known, self._folders, self._runs), True
        filename, checked = checked_name(upload.filename), upload.checked
        if upload.folder_id is not None:
            await self._demand_folder(upload.folder_id, owner_id)
        if isinstance(checked, FileRefused):
            raise refused_file(checked, owner_id) from checked
        if upload.on_duplicate != "allow":
            known = await self._documents.find_by_sha256(checked.sha256, owner_id)
        else:
            known = None
        stored = known or await self._store(document_id, owner_id, upload, filename, checked)
        is_new = stored.id == document_id
        if not is_new and upload.on_duplicate == "reject":
            raise DuplicateDocument
        return stored, is_new

    async def get(self, owner_id: str, document_id: str) -> Document:
        return await self._documents.get(document_id, owner_id)

    async def view(self, owner_id: str, document_id: str) -> DocumentView:
        return await self._documents.view(document_id, owner_id)

    async def list(self, owner_id: str, filters: Filters, after: Position | None, limit: int) -> Page[Listed]:
        return await self._documents.list(owner_id, filters, after, limit)

    async def list_folder(self, owner_id: str, folder_id: str, after: Position | None, limit: int) -> Page[Listed]:
        """As `list`, but a folder that is not there is an error."""
        await self._demand_folder(folder_id, owner_id)
        return await self._documents.list(owner_id, Filters(folder_id=folder_id), after, limit)

    async def change(
        self, owner_id: str, document_id: str, fields: dict[str, Any], demand: Callable[[Document], None]
    ) -> Document:
        """Sets the given fields. `demand` may refuse the state that was read; a state that moved on is read again."""
        if "filename" in fields:
            fields = {**fields, "filename": checked_name(fields["filename"])}
        if fields.get("folder_id") is not None:
            await self._demand_folder(fields["folder_id"], owner_id)
        for _ in range(PATCH_ROUNDS):
            document = await self._documents.get(document_id, owner_id)
            demand(document)
            if "filename" in fields and extension(fields["filename"]) != EXTENSIONS[document.content_type]:
                raise FileNameInvalid("The extension does not fit the type of the document.", pointer="/filename")
            changed = await self._documents.update(document, fields)
            if changed is None:
                continue
            before = {name: getattr(document, name) for name in fields}
            if fields.get("folder_id") is not None and await self._is_taken_back(changed, before):
                raise DocumentNotFound(NO_FOLDER)
            return changed
        raise PreconditionFailed

    async def remove(self, owner_id: str, document_id: str, demand: Callable[[Document], None] | None = None) -> None:
        """The document is gone at once; its bytes follow. With a `demand` as for `change`."""
        for _ in range(PATCH_ROUNDS):
            version = None
            if demand is not None:
                document = await self._documents.get(document_id, owner_id)
                demand(document)
                version = document.version
            removed = await self._runs.remove(document_id, owner_id, version)
            if removed is not None:
                log.info("deleted", document_id=document_id, attempt=removed.run.attempt)
                return
            if demand is None:
                raise DocumentNotFound
        raise PreconditionFailed

    @asynccontextmanager
    async def read(self, document: Document, start: int, end: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Raises OriginalMissing where a host has removed or replaced what was scanned."""
        files, etag = original_place(self._files, document)
        try:
            async with files.read(document.key, start, end if document.size else None, etag=etag) as chunks:
                yield chunks
        except FileMissing as cause:
            raise OriginalMissing from cause

    async def url(self, document: Document, *, expires_s: int, headers: Mapping[str, str]) -> str:
        files, _ = original_place(self._files, document)
        return await files.url(document.key, expires_s=expires_s, headers=headers)

    async def _store(
        self, document_id: str, owner_id: str, upload: Upload, filename: str, checked: CheckedUpload
    ) -> Document:
        document = new_document(
            document_id, owner_id, new_original_key(document_id), checked, self._clock(),
            filename=filename, folder_id=upload.folder_id, external_id=upload.external_id,
            metadata=upload.metadata, sole_sha256=None if upload.on_duplicate == "allow" else checked.sha256,
        )  # fmt: skip
        await self._files.put(document.key, upload.file, document.content_type)
        # Not undone when the insert fails: its outcome may be unknown, and the sweep finds what no record names.
        stored = await self._documents.add(document)
        if stored.id != document_id:
            with suppress(StorageUnavailable):  # then the sweep finds it
                await self._files.delete([document.key])
            return stored
        await placed(stored, self._folders, self._runs)
        tell_uploaded(document)
        return stored

    async def _demand_folder(self, folder_id: str, owner_id: str) -> None:
        if not await self._folders.exists(folder_id, owner_id):
            raise DocumentNotFound(NO_FOLDER)

    async def _is_taken_back(self, document: Document, before: dict[str, Any]) -> bool:
        """Whether the folder it was put into is gone; into none, where the one it came from is gone too."""
        here: Document | None = document
        while here and here.folder_id and not await self._folders.exists(here.folder_id, here.owner_id):
            here = await self._documents.update(here, before) or await self._documents.find(here.id, here.owner_id)
            before = {"folder_id": None}
        return here is not document


async def placed(document: Document, folders: FolderDirectory, runs: Runs) -> Document:
    """A new one, whose folder is still there now that it is stored; else it is taken back. Raises DocumentNotFound."""
    if document.folder_id is not None and not await folders.exists(document.folder_id, document.owner_id):
        await runs.remove(document.id, document.owner_id)
        raise DocumentNotFound(NO_FOLDER)
    return document


def tell_uploaded(document: Document) -> None:
    log.info("uploaded", document_id=document.id, attempt=0, size=document.size, content_type=document.content_type)


def new_document(
    document_id: str, owner_id: str, key: str, checked: CheckedUpload, now: datetime, **told: Any
) -> Document:
    """As it is stored, with its first event; `told` is what its sender says about it."""
    document = Document(
        id=document_id, owner_id=owner_id, key=key, created_at=now, updated_at=now,
        **vars(checked), **told,
    )  # fmt: skip
    return document.model_copy(update={"seq": 1, "outbox": (uploaded_event(document),)})


def refused_file(refused: FileRefused, owner_id: str) -> AppError:
    """What its sender is told; the reason is for the log."""
    log.info("security", name="file_refused", code=refused.code, reason=refused.reason, principal=owner_id)
    return REFUSALS[refused.code]()


def checked_name(raw: str) -> str:
    """The name without what does not belong there. Raises FileNameInvalid or UnsupportedFileType."""
    try:
        name = clean_filename(raw)
    except FileNameRefused as refused:
        raise FileNameInvalid(pointer="/filename") from refused
    if extension(name) not in EXTENSIONS.values():
        raise UnsupportedFileType
    return name
