"""What an upload is, by its structure."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import time
from typing import BinaryIO

import pytest

from app.documents.adapter.file_check import FileScan
from app.documents.application.library import CheckedUpload
from app.documents.domain.processors import DOCX, PDF, FileRefused
from tests.corpus import docxs, pdfs
from tests.corpus.hostile import CASES, OK, Case

LIGHT = [case for case in CASES if case.name != "5-million-elements.docx"]


PIECE = 2**20


def checked(file: BinaryIO, filename: str) -> CheckedUpload:
    scan = FileScan(filename)
    while piece := file.read(PIECE):
        scan.take(piece)
    return scan.end(file)


def code_of(content: bytes, filename: str) -> str:
    try:
        checked(io.BytesIO(content), filename)
    except FileRefused as refused:
        return refused.code
    return OK


@pytest.mark.parametrize("case", LIGHT, ids=lambda case: case.name)
def test_each_file_is_taken_or_refused_with_its_code(case: Case) -> None:
    content = case.make()
    started = time.process_time()
    assert code_of(content, case.name) == case.upload
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("content", "filename", "content_type"),
    [(pdfs.pdf(["a"]), "a.pdf", PDF), (docxs.docx(["a"]), "b.DOCX", DOCX), (docxs.strict(), "c.docx", DOCX)],
)
def test_type_size_and_hash_are_found_here(content: bytes, filename: str, content_type: str) -> None:
    found = checked(io.BytesIO(content), filename)
    assert found == CheckedUpload(content_type, len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("filename", ["a", "a.txt", "pdf", "a.pdf.exe", ""])
def test_another_extension_is_no_document(filename: str) -> None:
    assert code_of(pdfs.pdf(["a"]), filename) == "unsupported_file_type"


def test_an_empty_file_of_another_extension_is_no_document_either() -> None:
    assert code_of(b"", "a.txt") == "unsupported_file_type"


def test_what_is_no_document_is_known_by_its_first_bytes() -> None:
    with pytest.raises(FileRefused, match="unsupported_file_type"):
        FileScan("a.pdf").take(b"MZ\x90\0\x03\0\0\0")


@pytest.mark.parametrize("rest", [b"more", b"more" * 10_000], ids=["at the end", "far from it"])
@pytest.mark.parametrize("padding", range(PIECE - 12, PIECE + 3))
def test_the_end_of_a_pdf_is_found_across_pieces(padding: int, rest: bytes) -> None:
    start = b"%PDF-1.7\n"
    content = start + b" " * (padding - len(start)) + b"startxref\n9\n%%EOF\n" + rest
    assert code_of(content, "a.pdf") == OK
    assert code_of(content.replace(b"startxref", b"startxxxx"), "a.pdf") == "file_corrupt"


def test_the_end_of_a_pdf_is_found_in_the_smallest_pieces() -> None:
    scan = FileScan("a.pdf")
    for piece in (b"%PDF-1.7", *(b"startxref"[at : at + 1] for at in range(9))):
        scan.take(memoryview(piece))
    assert scan.ends_as_pdf


def test_a_comment_behind_the_archive_is_no_damage() -> None:
    content = bytearray(docxs.with_parts())
    content[-2:] = (5).to_bytes(2, "little")
    assert code_of(bytes(content) + b"words", "a.docx") == OK


def test_the_api_loads_no_parser_of_documents() -> None:
    script = (
        "import sys\n"
        "import app.documents.adapter.file_check, app.documents.adapter.registry, app.documents.adapter.docx_archive\n"
        "heavy = {'pypdfium2', 'pypdfium2_raw', 'PIL', 'py3langid', 'numpy', 'lxml', 'docx', 'xml.etree', 'xml.dom'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.strip() == "[]"
