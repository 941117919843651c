"""What an uploaded file really is, decided by its structure; names and declared types decide nothing alone.

Runs in the API, in threads, on pieces as they arrive: it opens no PDF and parses no part of a DOCX but its two index
parts.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from app.documents.adapter.docx_archive import OLE_MAGIC, ZIP_MAGIC, ArchiveRefused, Package
from app.documents.application.library import CheckedUpload
from app.documents.domain.filename import extension
from app.documents.domain.limits import MIB
from app.documents.domain.processors import DOCX, EXTENSIONS, PDF, FileRefused, RefusalCode

_PDF_MAGIC = (b"%PDF-1.", b"%PDF-2.")
_START = b"startxref"
_TAIL_BYTES = 4096


class FileScan:
    """One file, piece by piece. Raises FileRefused with the code of the problem as soon as there is one."""

    def __init__(self, filename: str) -> None:
        self._named = extension(filename.strip(" ."))
        self._digest, self._size, self._content_type = hashlib.sha256(), 0, ""
        self._tail = b""

    def take(self, piece: bytes | memoryview) -> None:
        """The first piece holds at least eight bytes, or the whole file."""
        if not self._size:
            self._content_type = self._type_of(bytes(piece[: len(OLE_MAGIC)]))
        self._digest.update(piece)
        self._size += len(piece)
        self._tail = (self._tail + piece[-_TAIL_BYTES:])[-_TAIL_BYTES:]

    def end(self, file: BinaryIO) -> CheckedUpload:
        """What it is; an archive is looked into, for which it must be seekable."""
        if not self._size:
            code: RefusalCode = "file_corrupt" if self._named in EXTENSIONS.values() else "unsupported_file_type"
            raise FileRefused(code, "empty")
        if self.is_pdf and not self.ends_as_pdf and not _holds(file, _START):
            raise FileRefused("file_corrupt", "no startxref")
        if not self.is_pdf:
            try:
                Package(file, macros=False).check_contents()
            except ArchiveRefused as refused:
                raise FileRefused(refused.code, refused.reason) from refused
        return CheckedUpload(self._content_type, self._size, self._digest.hexdigest())

    @property
    def ends_as_pdf(self) -> bool:
        """Where nearly every PDF does; else all of it is searched."""
        return _START in self._tail

    @property
    def is_pdf(self) -> bool:
        return self._named == EXTENSIONS[PDF]

    def _type_of(self, start: bytes) -> str:
        if start.startswith(_PDF_MAGIC) and self.is_pdf:
            return PDF
        is_docx = self._named == EXTENSIONS[DOCX]
        if start.startswith(ZIP_MAGIC) and is_docx:
            return DOCX
        if start == OLE_MAGIC and is_docx:
            raise FileRefused("file_encrypted", "OLE container")
        raise FileRefused("unsupported_file_type", f"starts with {start!r}, named {self._named!r}")


def _holds(file: BinaryIO, wanted: bytes) -> bool:
    file.seek(0)
    before = b""
    while piece := file.read(MIB):
        if wanted in before + piece:
            return True
        before = piece[-len(wanted) :]
    return False
