"""Receiving a file: a place first, then the form as it arrives, then what it says about the file."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from tempfile import SpooledTemporaryFile
from typing import Annotated, BinaryIO, cast

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.documents.adapter.file_check import FileScan
from app.documents.adapter.upload_form import KEPT_BYTES, UploadForm
from app.documents.application.library import CheckedUpload, OnDuplicate, Upload
from app.documents.application.uploads import Feed
from app.documents.domain.processors import FileRefused
from core.errors import Invalid, Malformed, Overloaded, Unsupported
from core.http.gate import Gate
from core.strict_json import read_json

FORM_OVERHEAD_BYTES = 262_144  # what a multipart body may hold beside the file
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


class UploadFields(BaseModel):
    """The body of an upload, for OpenAPI and for checking the text parts."""

    model_config = ConfigDict(strict=True)

    file: bytes = Field(default=b"", json_schema_extra={"format": "binary"}, description="A PDF or DOCX file")
    folder_id: FolderId | None = None
    external_id: ExternalId | None = Field(default=None, description="Your own id of this document")
    metadata: Metadata = Field(default_factory=dict, description="A JSON object of up to 20 strings")
    on_duplicate: OnDuplicate = Field(
        default="allow", description="What to do when you already have a document with the same bytes"
    )


class StoredFileScan:
    """StoredFileCheck: PDFs on the fly; archives, and PDFs that end strangely, from a copy on disk."""

    async def check(self, feed: Feed, filename: str) -> CheckedUpload:
        scan = FileScan(filename)
        with SpooledTemporaryFile(KEPT_BYTES) as copy:

            def keep(chunk: bytes) -> None:
                try:
                    copy.write(chunk)
                except OSError as cause:  # the disk is full
                    raise Overloaded from cause

            def take(chunk: bytes) -> None:
                scan.take(chunk)
                if not scan.is_pdf:
                    keep(chunk)

            await feed(take)
            if scan.is_pdf and not scan.ends_as_pdf:
                await feed(keep)
            return await asyncio.to_thread(scan.end, cast(BinaryIO, copy))


@asynccontextmanager
async def received(request: Request, gate: Gate, max_bytes: int) -> AsyncIterator[Upload]:
    """The upload of a request; its spooled file is gone afterwards. The place is taken before anything is read."""
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise Unsupported("Send multipart/form-data.")
    async with gate.place():
        with closing(UploadForm(content_type, max_bytes)) as form:
            checked = await form.read(request.stream())
            told = _checked(form.fields)
            yield Upload(
                file=form.file,
                filename=form.filename,
                checked=checked,
                folder_id=told.folder_id,
                external_id=told.external_id,
                metadata=told.metadata,
                on_duplicate=told.on_duplicate,
            )


def contents(upload: Upload) -> dict[str, object]:
    """What makes two uploads the same request: not their bytes, whose boundary differs."""
    checked = upload.checked
    known = checked.code if isinstance(checked, FileRefused) else checked.sha256
    return {**vars(upload), "file": None, "checked": known}


def _checked(fields: dict[str, str]) -> UploadFields:
    if not set(fields) <= set(FIELDS):
        raise Invalid("There is a part that is not known.", pointer="", rule="extra_forbidden")
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
        return UploadFields.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        pointer = f"/{problem['loc'][0]}"
        raise Invalid("The value is not acceptable.", pointer=pointer, rule=problem["type"]) from None
