"""JSON of scans."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints, model_validator

from app.scans.contracts import ScanOrder, ScanStatus
from core.http.routes import Body

# Visible ASCII without slashes: they stand in prefixes of sources and in the host's own paths.
HostId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[!-.0-~]*$")]
Source = Annotated[str, Field(min_length=1, max_length=2048, examples=["s3://imports/2026/"])]


class ScanFolderCreate(Body):
    folder_id: HostId
    source: Source


class ScanCreate(Body):
    user_id: HostId = Field(description="Whose folders they are; may confine the sources")
    folders: list[ScanFolderCreate] = Field(min_length=1, max_length=1000)
    callback: str | None = Field(
        default=None, min_length=1, max_length=64, examples=["default"], description="Name of a registered URL"
    )
    callback_url: str | None = Field(default=None, max_length=2048, description="Under a registered one, in its place")
    correlation_id: Annotated[str, StringConstraints(max_length=128, pattern=r"^[!-~]*$")] | None = Field(
        default=None, description="Yours, repeated in every message"
    )

    @model_validator(mode="after")
    def _is_clear(self) -> "ScanCreate":
        if (self.callback is None) == (self.callback_url is None):
            raise ValueError("exactly one of callback and callback_url")
        if len({folder.folder_id for folder in self.folders}) < len(self.folders):
            raise ValueError("a folder stands once")
        return self

    def order(self) -> ScanOrder:
        return ScanOrder.model_validate({**self.model_dump(), "callback": self.callback or ""})


class ScanOrdered(BaseModel):
    scan_id: str
    status: ScanStatus
    status_url: str = Field(examples=["/scans/scn_01k9zv5n3e8h2q4r6t8w0y2a4c"])
