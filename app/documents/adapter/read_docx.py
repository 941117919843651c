"""Reads a DOCX as a stream of XML, never as a tree; runs in the child only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.parsers import expat

from app.documents.adapter.docx_archive import OLE_MAGIC, ArchiveRefused, Package, feed
from app.documents.adapter.plain_text import clean, clean_metadata, w3c_date
from app.documents.domain.limits import (
    ARCHIVE_INDEX_PART_BYTES,
    PIECE_BYTES,
    TEXT_LINE_CHARACTERS,
    XML_DEPTH,
    XML_ELEMENTS,
)

Line = dict[str, Any]
# Whoever knows one of them only reads an empty text from the other, without an error
WORD = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "http://purl.oclc.org/ooxml/wordprocessingml/main",
)
COMPATIBILITY = "http://schemas.openxmlformats.org/markup-compatibility/2006"
FURTHER_PARTS = frozenset({"footnotes", "endnotes", "comments", "header", "footer"})
CODES = {"archive_bomb": "memory_limit", "file_encrypted": "document_encrypted"}


def _word(*names: str) -> frozenset[str]:
    return frozenset(f"{namespace} {name}" for namespace in WORD for name in names)


ROOT, TEXT, PARAGRAPH, CELL = _word("document"), _word("t"), _word("p"), _word("tc")
# properties hold no text, but tab stops, which have the name of tab characters
SKIPPED = _word("del", "moveFrom", "pPr") | {f"{COMPATIBILITY} Fallback"}
CHARACTERS = {
    **dict.fromkeys(_word("tab"), "\t"),
    **dict.fromkeys(_word("br", "cr"), "\n"),
    **dict.fromkeys(_word("noBreakHyphen"), "-"),
}
METADATA = {"title": "title", "creator": "author", "subject": "subject", "keywords": "keywords"}
DATES = ("created", "modified")


class TooMuch(Exception):
    """More depth or elements than any honest part has."""


def process(job: Any) -> Iterator[Line]:
    """`open`, then `text` lines of the main part and those it names; or `fatal`."""
    with open(job.path, "rb") as file:
        try:
            if file.read(len(OLE_MAGIC)) == OLE_MAGIC:
                raise ArchiveRefused("file_encrypted", "OLE container")
            package = Package(file, macros=True)
            package.check_contents()
            yield from _read(package)
        except (ArchiveRefused, TooMuch) as refused:
            yield {"ev": "fatal", "code": _code(refused), "detail": str(refused)}


def _code(error: Exception) -> str:
    if isinstance(error, TooMuch):
        return "memory_limit"
    return CODES.get(getattr(error, "code", ""), "document_corrupt")


def _read(package: Package) -> Iterator[Line]:
    related = package.relationships_of(package.main)
    # a hyperlink leads out of nearly every document and is nothing to remark
    external = any(one.external and one.kind != "hyperlink" for one in related)
    yield {
        "ev": "open",
        "kind": "docx",
        "pages": None,
        "metadata": _metadata(package),
        "remarks": ["external_relationship"] if external else [],
    }
    further = (one.target for one in related if one.kind in FURTHER_PARTS and not one.external)
    parts = [package.main, *dict.fromkeys(part for part in further if part in package and part != package.main)]
    total = sum(map(package.size, parts))
    before = 0
    for part in parts:
        try:
            for text, done in _texts(package, part):
                yield {"ev": "text", "part": part, "text": text, "done": before + done, "total": total}
        except (ArchiveRefused, TooMuch) as refused:
            if part == package.main:
                raise
            yield {"ev": "page_error", "number": None, "code": _code(refused)}
        before += package.size(part)


def _texts(package: Package, part: str) -> Iterator[tuple[str, int]]:
    """A part's text, cut behind paragraphs where possible, with the bytes parsed so far."""
    reader = _Reader(ROOT if part == package.main else None)
    done, text = 0, ""
    for done in feed(reader.parser, package.pieces(part)):
        text += reader.taken()
        while len(text) > TEXT_LINE_CHARACTERS:
            cut = text.rfind("\n", 0, TEXT_LINE_CHARACTERS) + 1 or TEXT_LINE_CHARACTERS
            yield text[:cut], done
            text = text[cut:]
    if text:
        yield text, done


class _Reader:
    """Collects the text of a part while expat walks over it; `root` is what its first element may be."""

    def __init__(self, root: frozenset[str] | None) -> None:
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text, self.parser.buffer_size = True, PIECE_BYTES
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self._root = root
        self._depth = self._elements = self._skipped_from = 0
        self._in_text = False
        self._parts: list[str] = []

    def taken(self) -> str:
        """What was collected since the last call."""
        text = clean("".join(self._parts))
        self._parts.clear()
        return text

    def _start(self, name: str, _: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > XML_DEPTH or self._elements > XML_ELEMENTS:
            raise TooMuch(f"depth {self._depth}, {self._elements} elements")
        if self._depth == 1 and self._root is not None and name not in self._root:
            raise ArchiveRefused("file_corrupt", f"the main part is a {name!r}")
        if self._skipped_from:
            return
        if name in SKIPPED:
            self._skipped_from = self._depth
        elif name in TEXT:
            self._in_text = True
        elif name in CHARACTERS:
            self._parts.append(CHARACTERS[name])

    def _end(self, name: str) -> None:
        if self._skipped_from:
            if self._skipped_from == self._depth:
                self._skipped_from = 0
        elif name in TEXT:
            self._in_text = False
        elif name in PARAGRAPH:
            self._parts.append("\n")
        elif name in CELL:
            self._parts.append("\t")
        self._depth -= 1

    def _characters(self, text: str) -> None:
        if self._in_text and not self._skipped_from:
            self._parts.append(text)


def _metadata(package: Package) -> dict[str, str]:
    """Title, author and the like from the core properties; nothing if they cannot be read."""
    part = next((one.target for one in package.relationships if one.kind == "core-properties"), None)
    if part is None or part not in package:
        return {}
    found: dict[str, str | None] = {}
    current = ""

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal current
        current = name.rpartition(" ")[2]

    def characters(text: str) -> None:
        if current in METADATA or current in DATES:
            found[current] = (found.get(current) or "") + text

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.CharacterDataHandler = start, characters
    try:
        for _ in feed(parser, package.pieces(part, ARCHIVE_INDEX_PART_BYTES)):
            pass
    except ArchiveRefused:
        return {}
    named = {METADATA[key]: value for key, value in found.items() if key in METADATA}
    return clean_metadata(named | {key: w3c_date(found.get(key) or "") for key in DATES})
