"""What an uploaded file really is, decided by its structure; names and declared types decide nothing alone.

Runs in the API, in a thread: it opens no PDF and parses no part of a DOCX but its two index parts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.documents.adapter.docx_archive import OLE_MAGIC, ZIP_MAGIC, ArchiveRefused, Package
from app.documents.domain.filename import extension
from app.documents.domain.limits import MIB, PIECE_BYTES
from app.documents.domain.processors import DOCX, EXTENSIONS, PDF, FileRefused, Remark

_PDF_MAGIC = (b"%PDF-1.", b"%PDF-2.")
_START, _END = b"startxref", b"%%EOF"
_BLANK = b"\0\t\n\f\r "


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """Size in bytes and SHA-256 in hex, both counted here."""

    content_type: str
    size: int
    sha256: str
    remarks: tuple[Remark, ...] = ()


def check_file(file: BinaryIO | Path, filename: str) -> CheckedFile:
    """The type of a seekable file, left at its start. Raises FileRefused with the code of the problem."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return check_file(opened, filename)
    file.seek(0)
    magic = file.read(len(OLE_MAGIC))
    named = extension(filename)
    if named not in EXTENSIONS.values():
        raise FileRefused("unsupported_file_type", f"extension {named!r}")
    if not magic:
        raise FileRefused("file_corrupt", "empty")
    try:
        if magic.startswith(_PDF_MAGIC) and named == EXTENSIONS[PDF]:
            return _check_pdf(file)
        if magic.startswith(ZIP_MAGIC) and named == EXTENSIONS[DOCX]:
            return _check_docx(file)
    finally:
        file.seek(0)
    if magic == OLE_MAGIC and named == EXTENSIONS[DOCX]:
        raise FileRefused("file_encrypted", "OLE container")
    raise FileRefused("unsupported_file_type", f"starts with {magic!r}, named {named!r}")


def _check_pdf(file: BinaryIO) -> CheckedFile:
    digest, size, end, started = hashlib.sha256(), 0, -1, False
    overlap = b""
    file.seek(0)
    while piece := file.read(MIB):
        digest.update(piece)
        seen = overlap + piece
        started = started or _START in seen
        if (found := seen.rfind(_END)) >= 0:
            end = size - len(overlap) + found
        size += len(piece)
        overlap = seen[-len(_START) :]
    if not started:
        raise FileRefused("file_corrupt", "no startxref")
    file.seek(end + len(_END))
    trailing = end >= 0 and bool(file.read(PIECE_BYTES).strip(_BLANK))
    return CheckedFile(PDF, size, digest.hexdigest(), ("trailing_data",) if trailing else ())


def _check_docx(file: BinaryIO) -> CheckedFile:
    try:
        Package(file, macros=False).check_contents()
    except ArchiveRefused as refused:
        raise FileRefused(refused.code, refused.reason) from refused
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while piece := file.read(MIB):
        digest.update(piece)
        size += len(piece)
    return CheckedFile(DOCX, size, digest.hexdigest())
