"""What a scan service reports: verified as raw bytes, then read, then taken; the same over HTTP and in the process."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from app.folders.application.syncs import SyncService
from app.folders.contracts import ScannedFile
from app.folders.domain.sync import ScanEnd
from core.clock import Clock
from core.errors import Invalid
from core.http.routes import Body
from core.security.signing import verify
from core.strict_json import read_json

MAX_DOCUMENTS, MAX_NUMBER = 1000, 2**53
Id = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Count = Annotated[int, Field(ge=0, le=MAX_NUMBER)]


class FileFound(Body):
    path: str = Field(min_length=1, max_length=4096, examples=["imports/2026/a.pdf"], description="The object's key")
    filename: str = Field(max_length=1024)
    size: Count = Field(description="Bytes")
    etag: str = Field(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]*$")
    content_type: str = Field(max_length=255)
    last_modified: Annotated[datetime, Field(strict=False)]


class Message(Body):
    scan_id: Id
    correlation_id: Id


class BatchFound(Message):
    """Documents of one folder; `batch` counts from 0."""

    type: Literal["scan.batch"]
    folder_id: Id
    batch: Count
    documents: list[FileFound] = Field(max_length=MAX_DOCUMENTS)


class AllFound(Message):
    """Everything is listed and was sent in so many batches."""

    type: Literal["scan.completed"]
    status: Literal["COMPLETED", "FAILED"]
    total_batches: Count
    total_documents: Count
    failed_folders: list[Id] = Field(max_length=10_000)


MESSAGES: Mapping[object, type[BatchFound | AllFound]] = {"scan.batch": BatchFound, "scan.completed": AllFound}


class ScanCallbacks:
    """CallbackReceiver of scans."""

    def __init__(self, syncs: SyncService, keys: Sequence[bytes], clock: Clock) -> None:
        """`keys`: any of which the sender may have signed with."""
        self._syncs, self._keys, self._clock = syncs, keys, clock

    async def receive(self, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Whether it was here before. Raises SignatureInvalid, SignatureExpired, Malformed, Invalid, SyncNotFound."""
        verify(self._keys, headers, body, self._clock().timestamp())
        told = _read(body)
        if isinstance(told, AllFound):
            end = ScanEnd(
                status=told.status, total_batches=told.total_batches, failed_folders=tuple(told.failed_folders)
            )
            return await self._syncs.take_end(told.correlation_id, told.scan_id, end)
        files = [ScannedFile(**file.model_dump(exclude={"last_modified"})) for file in told.documents]
        return await self._syncs.take(told.correlation_id, told.scan_id, told.folder_id, told.batch, files)


def _read(body: bytes) -> BatchFound | AllFound:
    value = read_json(body)
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in MESSAGES:
        raise Invalid("The message must be a scan.batch or a scan.completed.", pointer="/type", rule="literal_error")
    try:
        return MESSAGES[kind].model_validate(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        known = problem["loc"][:-1] if problem["type"] == "extra_forbidden" else problem["loc"]  # else it is submitted
        pointer = "".join(f"/{part}" for part in known)
        raise Invalid("The value is not acceptable.", pointer=pointer, rule=problem["type"]) from None
