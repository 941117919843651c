"""The multipart body of an upload, taken apart as it arrives: text parts are kept, the file is spooled and looked at.

What is wrong with it ends the keeping, not the reading: a sender hears of it when he has sent all, and not by a
connection that breaks.
"""

import asyncio
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.documents.adapter.file_check import FileScan
from app.documents.application.library import CheckedUpload
from app.documents.domain.limits import KIB
from app.documents.domain.processors import FileRefused
from core.errors import AppError, Invalid, Malformed, Overloaded, TooLarge

MAX_PARTS, MAX_FIELD_BYTES = 5, 64 * KIB
PIECE_BYTES = 256 * KIB  # at least, from socket to disk at a time: less than one reading, which is then not copied
WARM_BYTES = 128 * KIB  # hashed and written while they are in the core's own cache
KEPT_BYTES = 512 * KIB  # of a file, in memory


class UploadForm:
    """One body. At most one piece of the file and one chunk are in memory; `close` forgets the rest."""

    def __init__(self, content_type: str, max_bytes: int) -> None:
        self._parser = self._make_parser(content_type)
        self.file = cast(BinaryIO, SpooledTemporaryFile(KEPT_BYTES))  # noqa: SIM115 – closed by `close`
        self.filename = ""
        self.fields: dict[str, str] = {}
        self._scan, self._refusal = FileScan(""), cast(FileRefused | None, None)
        self._max_bytes, self._size = max_bytes, 0
        self._pieces, self._pending, self._ended = list[bytes](), 0, False
        self._names, self._is_file = list[str](), False
        self._header, self._headers, self._value = bytearray(), dict[bytes, bytes](), bytearray()

    async def read(self, body: AsyncIterator[bytes]) -> CheckedUpload | FileRefused:
        """What the file is; takes the whole body. Raises Malformed, Invalid, TooLarge or Overloaded."""
        refused: AppError | None = None
        async for chunk in body:
            if refused is not None:
                continue
            try:
                self._parser.write(chunk)
                if self._pending >= PIECE_BYTES:
                    await asyncio.to_thread(self._spool)
            except FormParserError:
                refused = Malformed("The multipart form cannot be read.")
            except AppError as error:
                refused = error
        if refused is not None:
            raise refused
        if not self._ended:
            raise Malformed("The multipart form has no end.")
        if "file" not in self._names:
            raise Invalid("This part is required and must be a file.", pointer="/file", rule="missing")
        return await asyncio.to_thread(self._found)

    def close(self) -> None:
        self.file.close()

    def _found(self) -> CheckedUpload | FileRefused:
        self._spool()
        try:
            return self._refusal or self._scan.end(self.file)
        except FileRefused as refused:
            return refused

    def _spool(self) -> None:
        piece, self._pieces, self._pending = b"".join(self._pieces), [], 0
        if self._refusal is not None or not piece:
            return
        try:
            for start in range(0, len(piece), WARM_BYTES):
                part = memoryview(piece)[start : start + WARM_BYTES]
                self._scan.take(part)
                self.file.write(part)
        except FileRefused as refused:
            self._refusal = refused
        except OSError as cause:  # the disk is full
            raise Overloaded from cause

    def _make_parser(self, content_type: str) -> MultipartParser:
        _, options = parse_options_header(content_type)
        try:
            return MultipartParser(options[b"boundary"], {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_part_data,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            })  # fmt: skip
        except (KeyError, FormParserError) as cause:
            raise Malformed("The multipart form names no boundary.") from cause

    def _on_part_begin(self) -> None:
        self._headers, self._value, self._is_file = {}, bytearray(), False

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name", b"").decode(errors="replace")
        if name in self._names or len(self._names) == MAX_PARTS:
            raise Malformed("Each part may stand once.")
        self._names.append(name)
        self._is_file = b"filename" in options
        if self._is_file != (name == "file"):
            pointer = "/file" if name == "file" else ""
            raise Invalid("Only `file` may be a file, and must be one.", pointer=pointer, rule="string_type")
        if self._is_file:
            self.filename = options[b"filename"].decode(errors="replace")
            self._scan = FileScan(self.filename)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._value += data[start:end]
            if len(self._value) > MAX_FIELD_BYTES:
                raise Malformed("A part is too long.")
            return
        self._size += end - start
        if self._size > self._max_bytes:
            raise TooLarge
        self._pieces.append(data[start:end])
        self._pending += end - start

    def _on_part_end(self) -> None:
        if not self._is_file:
            self.fields[self._names[-1]] = self._value.decode(errors="replace")

    def _on_end(self) -> None:
        self._ended = True
