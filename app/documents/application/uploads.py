"""Files that go straight to storage: a link is given out, the bytes arrive there, and then they are looked at."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol
from weakref import WeakValueDictionary

import structlog

from app.documents.application.library import (
    NO_FOLDER,
    CheckedUpload,
    checked_name,
    new_document,
    placed,
    refused_file,
    tell_uploaded,
)
from app.documents.domain.direct_upload import (
    LIFE,
    LINK_LIFE,
    MAX_BYTES,
    DirectUpload,
    DirectUploads,
    new_upload_key,
    part_size_for,
)
from app.documents.domain.document import Document, new_original_key
from app.documents.domain.errors import REFUSALS, DocumentNotFound, UnsupportedFileType, UploadIncomplete
from app.documents.domain.filename import extension
from app.documents.domain.ports import Documents, Runs
from app.documents.domain.processors import EXTENSIONS, FileRefused
from app.folders.contracts import FolderDirectory
from core.clock import Clock
from core.errors import TooLarge
from core.ids import id_for
from core.storage.base import FileMissing, StorageUnavailable, StoredPart, UploadStore

log = structlog.get_logger("documents")

BATCH = 100


Feed = Callable[[Callable[[bytes], None]], Awaitable[None]]  # of one file, piece by piece, as often as it is asked


class StoredFileCheck(Protocol):
    async def check(self, feed: Feed, filename: str) -> CheckedUpload:
        """Reads a file once; a strange one twice. Raises FileRefused or Overloaded."""


@dataclass(frozen=True)
class Announced:
    """A file that somebody is going to send."""

    filename: str
    size: int
    content_type: str
    folder_id: str | None = None
    external_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """An upload as its sender sees it; `urls` are those of the parts that have not arrived."""

    upload: DirectUpload
    status: Literal["open", "completed", "expired"]
    parts: Sequence[StoredPart] = ()
    urls: Mapping[int, str] = field(default_factory=dict)


class Uploads:
    def __init__(
        self, uploads: DirectUploads, documents: Documents, runs: Runs, files: UploadStore, folders: FolderDirectory,
        check: StoredFileCheck, max_bytes: int, clock: Clock,
    ) -> None:  # fmt: skip
        self._uploads, self._documents, self._runs, self._files = uploads, documents, runs, files
        self._folders, self._check, self._clock = folders, check, clock
        self._max_bytes = min(max_bytes, MAX_BYTES)
        self._completing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def begin(self, owner_id: str, announced: Announced, command_id: str | None = None) -> Progress:
        """The record first, then the links."""
        filename = checked_name(announced.filename)
        if EXTENSIONS.get(announced.content_type) != extension(filename):
            raise UnsupportedFileType("Name and content type must be those of a PDF or DOCX file.")
        if announced.size > self._max_bytes:
            raise TooLarge
        await self._demand_folder(announced.folder_id, owner_id)
        upload_id, now = id_for("upl", command_id), self._clock()
        in_parts = self._files.in_parts
        upload = await self._uploads.add(
            DirectUpload(
                id=upload_id, owner_id=owner_id, document_id=id_for("doc", command_id), key=new_upload_key(upload_id),
                part_size=part_size_for(announced.size) if in_parts else None,
                created_at=now, expires_at=now + LIFE, **{**vars(announced), "filename": filename},
            )
        )  # fmt: skip
        if in_parts and upload.part_size and upload.parts_id is None:
            parts_id = await in_parts.begin_parts(upload.key, upload.content_type)
            upload = await self._uploads.begin_parts(upload.id, parts_id)
        return Progress(upload, "open", urls=await self._urls(upload, upload.part_sizes))

    async def look(self, owner_id: str, upload_id: str) -> Progress:
        """What has arrived, and fresh links for the rest."""
        upload = await self._uploads.get(upload_id, owner_id)
        if upload.state == "completed" or upload.is_over(self._clock()):
            return Progress(upload, "completed" if upload.state == "completed" else "expired")
        arrived = await self._arrived(upload)
        sizes = {part.number: part.size for part in arrived}
        missing = {number: size for number, size in upload.part_sizes.items() if sizes.get(number) != size}
        return Progress(upload, "open", arrived, await self._urls(upload, missing))

    async def complete(self, owner_id: str, upload_id: str, sent: Mapping[int, str] | None) -> Document:
        """The document; however often and however many at a time ask, one is made. `sent`: etags by part number."""
        # Right without it, but each would copy and read the whole file.
        async with self._completing.setdefault(upload_id, asyncio.Lock()):
            return await self._complete(owner_id, upload_id, sent)

    async def abort(self, owner_id: str, upload_id: str) -> None:
        """Of an open upload. A late PUT may still arrive: what it leaves is swept when no link works any more."""
        upload = await self._uploads.get(upload_id, owner_id)
        if upload.state == "open":
            await self._uploads.abort(upload.id, owner_id, self._clock() + LINK_LIFE)
            await self._forget(upload)

    async def sweep(self) -> None:
        """Removes what is over, first from storage: a record that is left is swept again."""
        for upload in await self._uploads.expired(self._clock(), BATCH):
            await self._remove(upload)
            await self._uploads.purge(upload.id)
            log.info("upload_swept", upload_id=upload.id, state=upload.state)

    async def _complete(self, owner_id: str, upload_id: str, sent: Mapping[int, str] | None) -> Document:
        upload = await self._uploads.get(upload_id, owner_id)
        if upload.refusal is not None:
            raise REFUSALS[upload.refusal]
        document = await self._documents.find(upload.document_id, owner_id)
        if document is None:
            if upload.state == "completed":
                raise DocumentNotFound
            if upload.is_over(self._clock()):
                raise UploadIncomplete("The upload has expired.")
            await self._demand_folder(upload.folder_id, owner_id)
            document = await self._made(upload, sent)
        if upload.state == "open":
            tell_uploaded(await placed(document, self._folders, self._runs))
        await self._uploads.complete(upload.id)
        await self._forget(upload)
        return document

    async def _made(self, upload: DirectUpload, sent: Mapping[int, str] | None) -> Document:
        """Looks at a copy, which nobody can write to: a link to the original stays good for a while."""
        if upload.parts_id is not None:
            await self._join(upload, sent)
        key = new_original_key(upload.document_id)
        try:
            await self._files.copy(upload.key, key, upload.content_type)
        except FileMissing as cause:
            raise UploadIncomplete from cause
        try:
            checked = await self._checked(upload, key)
        except BaseException as error:
            with suppress(StorageUnavailable):  # then the sweep finds it
                await self._files.delete([key])
            if isinstance(error, FileRefused):
                await self._uploads.refuse(upload.id, error.code)
                await self._forget(upload)
                raise refused_file(error, upload.owner_id) from error
            raise
        told = upload.model_dump(include={"filename", "folder_id", "external_id", "metadata"})
        document = new_document(upload.document_id, upload.owner_id, key, checked, self._clock(), **told)
        stored = await self._documents.add(document)
        if stored.key != key:  # somebody else was first
            await self._files.delete([key])
            return stored
        return document

    async def _demand_folder(self, folder_id: str | None, owner_id: str) -> None:
        if folder_id is not None and not await self._folders.exists(folder_id, owner_id):
            raise DocumentNotFound(NO_FOLDER)

    async def _checked(self, upload: DirectUpload, key: str) -> CheckedUpload:
        if (await self._files.stat(key)).size != upload.size:
            raise UploadIncomplete("Not all bytes have arrived, or more than announced.")
        return await self._check.check(partial(self._files.feed, key), upload.filename)

    async def _join(self, upload: DirectUpload, sent: Mapping[int, str] | None) -> None:
        in_parts = self._files.in_parts
        assert in_parts is not None, "it has begun in parts"
        assert upload.parts_id is not None, "it has begun in parts"
        with suppress(FileMissing):  # joined by an earlier try
            arrived = await in_parts.parts(upload.key, upload.parts_id)
            if {part.number: part.size for part in arrived} != upload.part_sizes:
                raise UploadIncomplete
            if sent is not None and sent != {part.number: part.etag for part in arrived}:
                raise UploadIncomplete("The parts that arrived are not those that were named.")
            try:
                await in_parts.join_parts(upload.key, upload.parts_id, arrived)
            except StorageUnavailable:
                if not await self._arrived_whole(upload):  # by somebody else, a moment ago
                    raise

    async def _arrived(self, upload: DirectUpload) -> Sequence[StoredPart]:
        try:
            if upload.parts_id is not None and self._files.in_parts is not None:
                return await self._files.in_parts.parts(upload.key, upload.parts_id)
            found = await self._files.stat(upload.key)
        except FileMissing:
            return ()
        return (StoredPart(1, found.size, found.etag),)

    async def _arrived_whole(self, upload: DirectUpload) -> bool:
        try:
            return (await self._files.stat(upload.key)).size == upload.size
        except FileMissing:
            return False

    async def _urls(self, upload: DirectUpload, sizes: Mapping[int, int]) -> Mapping[int, str]:
        left_s = int((upload.expires_at - self._clock()).total_seconds())
        expires_s = max(1, min(left_s, int(LINK_LIFE.total_seconds())))
        if upload.parts_id is not None and self._files.in_parts is not None:
            return await self._files.in_parts.part_urls(upload.key, upload.parts_id, sizes, expires_s=expires_s)
        kind = upload.content_type
        return {
            number: await self._files.put_url(upload.key, size=size, content_type=kind, expires_s=expires_s)
            for number, size in sizes.items()
        }

    async def _forget(self, upload: DirectUpload) -> None:
        with suppress(StorageUnavailable):  # then the sweep does it
            await self._remove(upload)

    async def _remove(self, upload: DirectUpload) -> None:
        in_parts = self._files.in_parts
        if in_parts is not None and upload.part_size is not None:
            async for begun in in_parts.unfinished(upload.key):
                with suppress(FileMissing):
                    await in_parts.abort_parts(begun.key, begun.parts_id)
        await self._files.delete([upload.key])
