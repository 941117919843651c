"""Turns the lines of an attempt's children into text.txt, pages.ndjson and what the result says of them.

Texts go straight to the files: the worker does not grow with the document.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Self

from app.documents.adapter.child_lines import BadLine, Line, Open, Page, PageError, Progress, Result, Text
from app.documents.adapter.supervisor import OverLimit
from app.documents.domain.limits import DOCUMENT_CHARACTERS, PAGE_CHARACTERS, RESULT_TEXT_CHARACTERS, WARNINGS
from app.documents.domain.processors import ErrorCode, Extraction, PageSummary, PageWarning, Remark

PAGE_BREAK = "\f"


class Collector:
    """`progress` gets done, total and a message. `take` raises BadLine and OverLimit."""

    def __init__(self, folder: Path, progress: Callable[[float, float, str], None]) -> None:
        self._folder, self._progress = folder, progress
        self._files = ExitStack()
        self._text: BinaryIO | None = None
        self._ndjson: BinaryIO | None = None
        self._opened: Open | None = None
        self._child_opened = self._full = self._cut = False
        self._last, self._field, self._pieces = 0, 1, 0
        self._head, self._written, self._characters = "", 0, 0
        self._has_text = False
        self._summaries: list[PageSummary] = []
        self.warnings: list[PageWarning] = []
        self.first_error: ErrorCode | None = None
        self.value: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pages is not None:
            self._write(PAGE_BREAK * (self._pages - self._field))  # the n-th field is always page n
        self._files.close()

    @property
    def _pages(self) -> int | None:
        return self._opened.pages if self._opened else None

    @property
    def resumable(self) -> bool:
        """Whether a new child can go on behind the page that ended this one."""
        return self._child_opened and self._pages is not None and not self._full

    @property
    def partial(self) -> bool:
        """Whether a page was lost, cut or not reached, or a part of a DOCX not read."""
        return self._cut or len(self._summaries) < (self._pages or 0)

    def begin_child(self, start: int) -> None:
        self._child_opened, self._last = False, start - 1

    def lose_page(self, code: ErrorCode) -> int:
        """The child died of the page after the last one it told of; where to go on."""
        self.warn(self._last + 1, code)
        return self._last + 2

    def end_early(self, code: ErrorCode) -> None:
        """The child ended for good; what was read so far may still be a result."""
        self.warn(None if self._pages is None else self._last + 1, code)

    def warn(self, page: int | None, code: ErrorCode) -> None:
        if page is not None and self._pages is not None and page > self._pages:
            return  # it died with all pages told
        self.first_error = self.first_error or code
        self._warn(page, code)

    def _warn(self, page: int | None, code: ErrorCode | Remark) -> None:
        if len(self.warnings) < WARNINGS:
            self.warnings.append(PageWarning(page=page, code=code))

    def complete_before(self, start: int) -> bool:
        """Whether no page is left from `start` on."""
        return self._pages is not None and start > self._pages

    def failure(self, code: ErrorCode | None) -> ErrorCode | None:
        """Why there is no result, given how the last child ended; None if there is one."""
        if self._summaries:
            return None
        if code is None and (self.value is not None or (self._opened is not None and self._pages is None)):
            return None
        return self.first_error or code or "parser_crash"

    def extraction(self, language: Callable[[str], str]) -> Extraction:
        """The result of an attempt that opened a document."""
        assert self._opened is not None
        return Extraction(
            kind=self._opened.kind,
            page_count=self._pages,
            metadata={str(key): value for key, value in self._opened.metadata.items()},
            language=language(self._head),
            has_text_layer=self._has_text,
            characters=self._characters,
            pages=tuple(self._summaries),
            text=self._head,
            text_truncated=self._written > len(self._head),
        )

    def take(self, line: Line) -> None:
        """One line that is neither the first nor the final one of its child."""
        match line:
            case Open():
                self._open(line)
            case Page():
                self._page(line)
            case Text():
                self._piece(line)
            case PageError():
                self._page_error(line)
            case Progress():
                said = "".join(filter(str.isprintable, line.message or ""))
                self._progress(line.done, line.total, said or "processing")
            case Result() if self._opened is None and self.value is None:
                self.value = line.value
            case _:
                raise BadLine(f"{line.ev} does not belong here")

    def _open(self, line: Open) -> None:
        if self._child_opened or self.value is not None:
            raise BadLine("opened twice")
        if self._opened is None:
            self._opened = line
            self._text = self._files.enter_context((self._folder / "text.txt").open("wb"))
            self._ndjson = self._files.enter_context((self._folder / "pages.ndjson").open("wb"))
            for remark in line.remarks:
                self._warn(None, remark)
        elif line.pages != self._opened.pages:
            raise BadLine("another document than before")
        self._child_opened = True
        self._reading(self._last)

    def _reading(self, done: int) -> None:
        if self._pages is not None:
            self._progress(done, self._pages, f"reading page {min(done + 1, self._pages)} of {self._pages}")

    def _next_page(self, number: int) -> None:
        if not self._child_opened or self._pages is None or not self._last < number <= self._pages:
            raise BadLine(f"page {number} after {self._last} of {self._pages}")
        self._last = number

    def _page(self, line: Page) -> None:
        text = line.text[:PAGE_CHARACTERS]
        self._count(text)
        self._next_page(line.number)
        if len(line.text) > PAGE_CHARACTERS:
            self._cut = True
            self.warn(line.number, "memory_limit")
        self._write(PAGE_BREAK * (line.number - self._field) + text)
        self._field = line.number
        self._keep({"number": line.number, "width": line.width, "height": line.height, "text": text})
        self._summaries.append(
            PageSummary(number=line.number, width=line.width, height=line.height, characters=len(text))
        )
        self._reading(line.number)

    def _piece(self, line: Text) -> None:
        if not self._child_opened or self._pages is not None:
            raise BadLine("text of a part without a document of parts")
        self._count(line.text)
        self._write(line.text)
        self._pieces += 1
        self._keep({"number": self._pieces, "part": line.part, "text": line.text})
        self._progress(line.done, line.total, "reading")

    def _page_error(self, line: PageError) -> None:
        if line.number is not None:
            self._next_page(line.number)
        elif not self._child_opened or self._pages is not None:
            raise BadLine("the error of a part without a document of parts")
        self._cut = True
        self.warn(line.number, line.code)

    def _count(self, text: str) -> None:
        self._characters += len(text)
        if self._characters > DOCUMENT_CHARACTERS:
            self._characters -= len(text)
            self._full = True
            raise OverLimit(f"more than {DOCUMENT_CHARACTERS} characters")
        self._has_text = self._has_text or bool(text.strip())

    def _write(self, text: str) -> None:
        assert self._text is not None
        self._text.write(text.encode())
        self._written += len(text)
        if room := RESULT_TEXT_CHARACTERS - len(self._head):
            self._head += text[:room]

    def _keep(self, page: dict[str, Any]) -> None:
        assert self._ndjson is not None
        self._ndjson.write(json.dumps(page, ensure_ascii=False).encode() + b"\n")
