"""The rules a DOCX has to keep before anything of it is read: its ZIP archive and its two index parts.

Standard library only: the API imports it for uploads, the reading child loads it by path.
"""

from __future__ import annotations

import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal
from xml.parsers import expat

from app.documents.domain.limits import (
    ARCHIVE_DIRECTORY_BYTES,
    ARCHIVE_ENTRIES,
    ARCHIVE_INDEX_PART_BYTES,
    ARCHIVE_RATIO,
    ARCHIVE_RATIO_FROM_BYTES,
    ARCHIVE_UNPACKED_BYTES,
    ARCHIVE_XML_PART_BYTES,
    PIECE_BYTES,
)

Code = Literal["unsupported_file_type", "file_corrupt", "file_encrypted", "macro_not_allowed", "archive_bomb"]
ZIP_MAGIC = b"PK\x03\x04"
OLE_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")  # a password-protected DOCX, and an old .doc
MAIN_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"

# End record, APPNOTE.TXT 4.3.16: signature, four counts, size and offset of the directory, comment length
_END = struct.Struct("<4s4H2LH")
_END_MAGIC, _ZIP64_LOCATOR_MAGIC, _ZIP64_LOCATOR_BYTES = b"PK\x05\x06", b"PK\x06\x07", 20
_COMMENT_BYTES = 65_535
_SYMLINK, _FILE_TYPE = 0o120000, 0o170000
_ENCRYPTED_FLAGS = 0x1 | 0x40 | 0x2000
_DRIVE = re.compile(r"[A-Za-z]:")
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, struct.error, NotImplementedError, RuntimeError)


class ArchiveRefused(Exception):
    """The archive breaks a rule; `code` is the problem code of an upload."""

    def __init__(self, code: Code, reason: str) -> None:
        self.code: Code = code
        self.reason = reason[:300]  # names in an archive are up to 64 KiB long
        super().__init__(f"{code}: {self.reason}")


@dataclass(frozen=True, slots=True)
class Relationship:
    """A relationship of a part; `target` is an entry's name, or an address if it is external."""

    kind: str  # last segment of its type
    target: str
    external: bool


class Package:
    """A DOCX whose archive keeps the rules. Every read goes in pieces through a counter.

    `main` is the main part's name, `relationships` are those of the package, `remarks` what is worth knowing.
    """

    def __init__(self, file: BinaryIO, *, macros: bool) -> None:
        """Check everything but the contents. Raises ArchiveRefused; `macros` lets macro-enabled ones pass."""
        _check_end_record(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except (*_BROKEN, ValueError) as error:
            raise ArchiveRefused("file_corrupt", f"directory: {error}") from error
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}
        _check_sizes(self._zip.infolist())
        _check_entries(self._zip.infolist())
        self.relationships = self.relationships_of("")
        self.main = self._main_part(macros)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def size(self, name: str) -> int:
        """The declared size of a part, in bytes."""
        return self._entries[name].file_size

    def pieces(self, name: str, most: int = ARCHIVE_XML_PART_BYTES) -> Iterator[bytes]:
        """A part in pieces of at most 64 KiB. Raises ArchiveRefused on damage and above `most` bytes.

        Never `read()` without a size: it inflates the whole part before it compares the declared one.
        """
        count = 0
        try:
            with self._zip.open(self._entries[name]) as part:
                while piece := part.read(PIECE_BYTES):
                    count += len(piece)
                    if count > most:
                        raise ArchiveRefused("archive_bomb", f"{name!r} holds more than {most} bytes")
                    yield piece
        except _BROKEN as error:
            raise ArchiveRefused("file_corrupt", f"{name!r}: {error}") from error

    def check_contents(self) -> None:
        """Inflate every part once and drop it, since declared sizes may lie."""
        left = ARCHIVE_UNPACKED_BYTES
        for name in self._entries:
            most = min(left, ARCHIVE_XML_PART_BYTES) if _is_xml(name) else left
            left -= sum(map(len, self.pieces(name, most)))

    def relationships_of(self, part: str) -> tuple[Relationship, ...]:
        """The relationships of a part, of the package for an empty name; none without a file of them."""
        folder, base = posixpath.split(part)
        name = posixpath.join(folder, "_rels", f"{base}.rels")
        found: list[Relationship] = []

        def element(tag: str, attributes: dict[str, str]) -> None:
            if tag == "Relationship":
                external = attributes.get("TargetMode") == "External"
                target = attributes.get("Target", "")
                if not external:
                    target = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
                found.append(Relationship(attributes.get("Type", "").rpartition("/")[2], target, external))

        if name in self._entries:
            self._scan(name, element)
        return tuple(found)

    def _main_part(self, macros: bool) -> str:
        found = [one.target for one in self.relationships if one.kind == "officeDocument" and not one.external]
        if not found or "[Content_Types].xml" not in self._entries:
            raise ArchiveRefused("unsupported_file_type", "a ZIP that is no office document")
        content_type = self._content_type(found[0])
        macro = "macroenabled" in content_type.lower()
        if not macros and (macro or any(name.lower().endswith("vbaproject.bin") for name in self._entries)):
            raise ArchiveRefused("macro_not_allowed", content_type)
        if content_type != MAIN_TYPE and not (macro and "ms-word.document" in content_type):
            raise ArchiveRefused("unsupported_file_type", content_type)
        if found[0] not in self._entries:
            raise ArchiveRefused("file_corrupt", f"the main part {found[0]!r} is missing")
        return found[0]

    def _content_type(self, part: str) -> str:
        overrides: dict[str, str] = {}
        defaults: dict[str, str] = {}

        def element(tag: str, attributes: dict[str, str]) -> None:
            if tag == "Override":
                overrides[attributes.get("PartName", "").lower()] = attributes.get("ContentType", "")
            elif tag == "Default":
                defaults[attributes.get("Extension", "").lower()] = attributes.get("ContentType", "")

        self._scan("[Content_Types].xml", element)
        extension = part.rpartition(".")[2].lower()
        return overrides.get(f"/{part}".lower()) or defaults.get(extension, "")

    def _scan(self, name: str, element: Callable[[str, dict[str, str]], None]) -> None:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = lambda tag, attributes: element(tag.rpartition(" ")[2], attributes)
        for _ in feed(parser, self.pieces(name, ARCHIVE_INDEX_PART_BYTES)):
            pass


def feed(parser: expat.XMLParserType, pieces: Iterator[bytes]) -> Iterator[int]:
    """Parse a part, yielding the bytes parsed so far. Raises ArchiveRefused on bad XML and any DOCTYPE."""

    def refuse(*_: object) -> None:
        raise ArchiveRefused("file_corrupt", "DOCTYPE")

    parser.StartDoctypeDeclHandler = refuse  # called before anything is expanded
    done = 0
    try:
        for piece in pieces:
            parser.Parse(piece, False)
            done += len(piece)
            yield done
        parser.Parse(b"", True)
        yield done
    except expat.ExpatError as error:
        if error.code == expat.errors.codes[expat.errors.XML_ERROR_NO_MEMORY]:
            raise MemoryError from error
        raise ArchiveRefused("file_corrupt", f"XML: {error}") from error
    except (ValueError, LookupError) as error:  # an encoding nobody knows
        raise ArchiveRefused("file_corrupt", f"XML: {error}") from error


def _check_end_record(file: BinaryIO) -> None:
    """All that can be known before zipfile walks the directory, whatever number of entries that declares."""
    size = file.seek(0, 2)
    start = max(0, size - _END.size - _COMMENT_BYTES)
    file.seek(start)
    tail = file.read()
    at = len(tail) - _END.size
    if at < 0 or not (tail[at:].startswith(_END_MAGIC) and tail.endswith(b"\0\0")):  # as zipfile finds it
        at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        raise ArchiveRefused("file_corrupt", "no end record")
    _, disk, first_disk, here, entries, length, offset, _ = _END.unpack_from(tail, at)
    if disk or first_disk or here != entries:
        raise ArchiveRefused("file_corrupt", "more than one disk")
    if tail[max(0, at - _ZIP64_LOCATOR_BYTES) : at].startswith(_ZIP64_LOCATOR_MAGIC):
        raise ArchiveRefused("file_corrupt", "Zip64")
    if length > ARCHIVE_DIRECTORY_BYTES:
        raise ArchiveRefused("archive_bomb", f"a directory of {length} bytes")
    if offset + length != start + at:
        raise ArchiveRefused("file_corrupt", "the directory is not where the end record says")
    file.seek(0)


def _check_sizes(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > ARCHIVE_ENTRIES:
        raise ArchiveRefused("archive_bomb", f"{len(entries)} entries")
    if (total := sum(entry.file_size for entry in entries)) > ARCHIVE_UNPACKED_BYTES:
        raise ArchiveRefused("archive_bomb", f"{total} bytes unpacked")
    for entry in entries:
        if _is_xml(entry.filename) and entry.file_size > ARCHIVE_XML_PART_BYTES:
            raise ArchiveRefused("archive_bomb", f"{entry.filename!r} has {entry.file_size} bytes")
        large = entry.file_size > ARCHIVE_RATIO_FROM_BYTES
        if large and entry.file_size > ARCHIVE_RATIO * max(entry.compress_size, 1):
            raise ArchiveRefused("archive_bomb", f"{entry.filename!r} is packed too well")


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    names: set[str] = set()
    for entry in entries:
        name = entry.orig_filename
        if name.lower() in names:  # part names are equal whatever their case, ECMA-376 part 2 §6.2
            raise ArchiveRefused("file_corrupt", f"duplicate name {name!r}")
        names.add(name.lower())
        if name.startswith("/") or _DRIVE.match(name) or "\\" in name or "\0" in name or ".." in name.split("/"):
            raise ArchiveRefused("file_corrupt", f"bad name {name!r}")
        if (entry.external_attr >> 16) & _FILE_TYPE == _SYMLINK:
            raise ArchiveRefused("file_corrupt", f"symlink {name!r}")
        if entry.flag_bits & _ENCRYPTED_FLAGS:
            raise ArchiveRefused("file_corrupt", f"encrypted entry {name!r}")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveRefused("file_corrupt", f"compression {entry.compress_type}")


def _is_xml(name: str) -> bool:
    return name.lower().endswith((".xml", ".rels"))
