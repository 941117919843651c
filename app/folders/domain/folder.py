"""A folder: a named place for documents, with or without a source in S3."""

from datetime import datetime

from pydantic import BaseModel


class Folder(BaseModel):
    """`version` counts changes, it is what If-Match compares; `generation` counts syncs."""

    id: str
    owner_id: str
    name: str
    source: str | None
    version: int
    generation: int = 0
    removal: str | None = None  # whoever is about to remove it, and still looks whether it is empty
    created_at: datetime
    updated_at: datetime
