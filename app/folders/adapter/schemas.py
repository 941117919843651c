"""JSON of folders."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from core.http.routes import Body

Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$"),
    Field(examples=["Invoices"]),
]


class FolderCreate(Body):
    name: Name
    source: str | None = Field(
        default=None,
        max_length=2048,
        examples=["s3://imports/2026/"],
        description="Objects that become its documents",
    )


class FolderUpdate(Body):
    name: Name


class FolderRead(BaseModel):
    folder_id: str
    name: str
    source: str | None
    created_at: datetime
    updated_at: datetime
