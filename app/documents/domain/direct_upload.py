"""A file on its way from a client straight into storage, whole or in parts."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

from pydantic import BaseModel, Field

from app.documents.domain.limits import MIB
from app.documents.domain.processors import RefusalCode
from core.ids import random_token
from core.object_keys import OWN_ROOT

UPLOADS = f"{OWN_ROOT}uploads/"
LIFE, LINK_LIFE = timedelta(hours=24), timedelta(minutes=15)
MAX_BYTES: Final = 5 * 1024 * MIB  # what S3 copies at once
WHOLE_BYTES: Final = 64 * MIB  # larger ones come in parts, where the store takes any
PART_BYTES, MAX_PARTS = 16 * MIB, 1000

State = Literal["open", "completed", "refused", "aborted"]


class DirectUpload(BaseModel):
    """`document_id` is fixed before the first link is given out; it expires with all that it has left in storage."""

    id: str
    owner_id: str
    document_id: str
    filename: str
    content_type: str
    size: int
    folder_id: str | None = None
    external_id: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    key: str
    part_size: int | None = None
    parts_id: str | None = None
    state: State = "open"
    refusal: RefusalCode | None = None
    created_at: datetime
    expires_at: datetime

    @property
    def part_sizes(self) -> dict[int, int]:
        """Bytes of each part by its number; a whole file is one."""
        step = self.part_size or self.size
        starts = range(0, self.size, step)
        return {number: min(step, self.size - start) for number, start in enumerate(starts, 1)}

    def is_over(self, now: datetime) -> bool:
        return self.state == "refused" or (self.state == "open" and self.expires_at <= now)


def part_size_for(size: int) -> int | None:
    """None for what is sent whole; few parts, so that one page of a listing holds them all."""
    return None if size <= WHOLE_BYTES else max(PART_BYTES, -(-size // MAX_PARTS))


def new_upload_key(upload_id: str) -> str:
    """Where its bytes arrive; what becomes of them lies elsewhere, under a key that no link names."""
    return uploads_prefix(upload_id) + random_token()


def uploads_prefix(upload_id: str) -> str:
    return f"{UPLOADS}{upload_id}/"


def upload_of(key: str) -> str:
    """The id inside the key of an upload."""
    return key.split("/")[2]


class DirectUploads(Protocol):
    """Somebody else's upload, and an aborted one, is not there."""

    async def add(self, upload: DirectUpload) -> DirectUpload:
        """The stored one, which another run of the same command may have made."""

    async def get(self, upload_id: str, owner_id: str) -> DirectUpload:
        """Raises UploadNotFound."""

    async def begin_parts(self, upload_id: str, parts_id: str) -> DirectUpload:
        """Names the upload in parts, unless it has one; the stored one."""

    async def complete(self, upload_id: str) -> None: ...

    async def refuse(self, upload_id: str, refusal: RefusalCode) -> None: ...

    async def abort(self, upload_id: str, owner_id: str, until: datetime) -> None:
        """Of an open one: it is gone; `until` then its links may still be used."""

    async def expired(self, now: datetime, limit: int) -> Sequence[DirectUpload]:
        """What is to be removed, whatever became of it; longest first."""

    async def purge(self, upload_id: str) -> None: ...

    async def known(self, upload_ids: Collection[str]) -> Mapping[str, DirectUpload]:
        """Those of these ids that have a record, whoever the owner is."""
