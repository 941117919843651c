"""The lines of a reading child, taken as hostile input."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.documents.domain import limits
from app.documents.domain.processors import Remark

# What a child may say; the other codes are for the service to find
ChildCode = Literal[
    "document_corrupt",
    "document_encrypted",
    "too_many_pages",
    "memory_limit",
    "cpu_limit",
    "timeout",
    "parser_crash",
    "internal",
]
MetadataKey = Literal[
    "title", "author", "subject", "keywords", "creator", "producer", "created", "modified", "pdf_version", "form"
]
Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PageNumber = Annotated[int, Field(ge=1, le=limits.PAGES)]


class BadLine(Exception):
    """A line that breaks the protocol: the child is not to be trusted any further."""


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Ready(_Line):
    ev: Literal["ready"]


class Open(_Line):
    ev: Literal["open"]
    kind: Literal["pdf", "docx"]
    pages: PageNumber | None
    metadata: dict[MetadataKey, Annotated[str, Field(max_length=limits.METADATA_CHARACTERS)]]
    remarks: Annotated[list[Remark], Field(max_length=limits.REMARKS)]


class Page(_Line):
    ev: Literal["page"]
    number: PageNumber
    width: Finite
    height: Finite
    text: str


class Text(_Line):
    ev: Literal["text"]
    part: Annotated[str, Field(max_length=1_000)]
    text: Annotated[str, Field(max_length=limits.TEXT_LINE_CHARACTERS)]
    done: Finite
    total: Finite


class PageError(_Line):
    ev: Literal["page_error"]
    number: PageNumber | None
    code: ChildCode


class Progress(_Line):
    ev: Literal["progress"]
    done: Finite
    total: Finite
    message: Annotated[str, Field(max_length=limits.MESSAGE_CHARACTERS)] | None = None


class Handover(_Line):
    ev: Literal["handover"]
    next: PageNumber


class Image(_Line):
    ev: Literal["image"]
    webp: str

    def content(self) -> bytes:
        """The decoded image. Raises BadLine if it is no WebP or too large."""
        try:
            content = base64.b64decode(self.webp, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadLine("image is not base64") from error
        if len(content) > limits.THUMBNAIL_BYTES or content[:4] != b"RIFF" or content[8:12] != b"WEBP":
            raise BadLine("image is no small WebP")
        return content


class Result(_Line):
    ev: Literal["result"]
    value: dict[str, Any]


class Fatal(_Line):
    ev: Literal["fatal"]
    code: ChildCode
    detail: str


class Done(_Line):
    ev: Literal["done"]


Line = Ready | Open | Page | Text | PageError | Progress | Handover | Image | Result | Fatal | Done
FINAL = (Fatal, Handover, Done)
_LINES: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="ev")])


def parse(raw: bytes) -> Line:
    """One line of the child. Raises BadLine for anything but exactly the agreed fields and types."""
    try:
        line = _LINES.validate_json(raw)
        if isinstance(line, Result):
            _check_value(line.value)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"{type(error).__name__} in {raw[:80]!r}") from error
    return line


def _check_value(value: dict[str, Any]) -> None:
    # NaN and infinity pass as Any, and neither JSON nor a client can hold them
    if len(json.dumps(value, allow_nan=False)) > limits.RESULT_BYTES:
        raise ValueError("result is too large")
