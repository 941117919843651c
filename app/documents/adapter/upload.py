"""Receiving a file: the multipart form, spooled to disk as it arrives, then checked in a thread."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, BinaryIO

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.datastructures import FormData, UploadFile

from app.documents.adapter.file_check import check_file
from app.documents.application.library import CheckedUpload, OnDuplicate, Upload
from core.errors import Invalid, Malformed, Overloaded, TooLarge, Unsupported
from core.strict_json import read_json

FORM_OVERHEAD_BYTES = 262_144  # what a multipart body may hold beside the file
MAX_FIELD_BYTES = 65_536
FIELDS = ("folder_id", "external_id", "metadata", "on_duplicate")

Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,40}$")],
        Annotated[str, StringConstraints(max_length=500)],
    ],
    Field(max_length=20, examples=[{"customer": "4711"}], description="Up to 20 strings of your own"),
]
ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=200)]
FolderId = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class UploadForm(BaseModel):
    """The body of an upload, for OpenAPI and for checking the text parts."""

    model_config = ConfigDict(strict=True)

    file: bytes = Field(default=b"", json_schema_extra={"format": "binary"}, description="A PDF or DOCX file")
    folder_id: FolderId | None = None
    external_id: ExternalId | None = Field(default=None, description="Your own id of this document")
    metadata: Metadata = Field(default_factory=dict, description="A JSON object of up to 20 strings")
    on_duplicate: OnDuplicate = Field(
        default="allow", description="What to do when you already have a document with the same bytes"
    )


class ThreadedUploadCheck:
    """UploadCheck by structure, in a thread: it reads the whole file."""

    async def check(self, file: BinaryIO, filename: str) -> CheckedUpload:
        found = await asyncio.to_thread(check_file, file, filename)
        return CheckedUpload(found.content_type, found.size, found.sha256)


class UploadGate:
    """How many uploads are read at a time; further ones wait unread, then are told to come back."""

    def __init__(self, places: int, wait_s: float) -> None:
        self._places, self._wait_s = asyncio.Semaphore(places), wait_s

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._places.acquire()
        except TimeoutError as cause:
            raise Overloaded from cause
        try:
            yield
        finally:
            self._places.release()


@asynccontextmanager
async def received(request: Request, gate: UploadGate, max_bytes: int) -> AsyncIterator[Upload]:
    """The upload of a request; its spooled file is gone afterwards. The place is taken before anything is read."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise Unsupported("Send multipart/form-data.")
    async with (
        gate.place(),
        request.form(max_files=1, max_fields=len(FIELDS), max_part_size=MAX_FIELD_BYTES) as form,
    ):
        yield _upload(form, max_bytes)


async def contents(upload: Upload) -> dict[str, object]:
    """What makes two uploads the same request: not their bytes, whose boundary differs."""
    file: Any = upload.file  # the type of binary files in `typing` misses `readinto`
    digest = await asyncio.to_thread(hashlib.file_digest, file, "sha256")
    return {**vars(upload), "file": digest.hexdigest()}


def _upload(form: FormData, max_bytes: int) -> Upload:
    names = [name for name, _ in form.multi_items()]
    if len(set(names)) != len(names):
        raise Malformed("Each part may stand once.")
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise Invalid("This part is required and must be a file.", pointer="/file", rule="missing")
    if file.size is not None and file.size > max_bytes:
        raise TooLarge
    unknown = set(names) - {"file", *FIELDS}
    if unknown:
        raise Invalid("There is a part that is not known.", pointer="", rule="extra_forbidden")
    fields = {name: value for name, value in form.multi_items() if name in FIELDS}
    if any(isinstance(value, UploadFile) for value in fields.values()):
        raise Invalid("Only `file` may be a file.", pointer="", rule="string_type")
    checked = _checked({name: value for name, value in fields.items() if isinstance(value, str)})
    return Upload(
        file=file.file,
        filename=file.filename or "",
        folder_id=checked.folder_id,
        external_id=checked.external_id,
        metadata=checked.metadata,
        on_duplicate=checked.on_duplicate,
    )


def _checked(fields: dict[str, str]) -> UploadForm:
    for name, value in fields.items():
        if "\0" in value:
            raise Invalid("A text holds a NUL.", pointer=f"/{name}", rule="string")
    values: dict[str, object] = dict(fields)
    if "metadata" in fields:
        try:
            values["metadata"] = read_json(fields["metadata"].encode())
        except Malformed as cause:
            raise Invalid("This part must be a JSON object.", pointer="/metadata", rule="json_invalid") from cause
    try:
        return UploadForm.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        pointer = f"/{problem['loc'][0]}"
        raise Invalid("The value is not acceptable.", pointer=pointer, rule=problem["type"]) from None
