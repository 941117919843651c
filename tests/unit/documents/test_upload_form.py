"""Taking a form apart as it arrives, in pieces of any size, and looking at files that lie in storage."""

import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from app.documents.adapter import upload
from app.documents.adapter.upload import StoredFileScan
from app.documents.adapter.upload_form import UploadForm
from app.documents.application.library import CheckedUpload
from app.documents.domain.processors import DOCX, PDF, FileRefused
from core.errors import Overloaded
from tests.corpus import docxs, pdfs

SMALL = pdfs.pdf(["a"])
LARGE = SMALL[:9] + b"%\r\n--other\r" * 150_000 + SMALL[9:]  # more than is kept in memory


async def arriving(content: bytes, piece: int) -> AsyncIterator[bytes]:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n'
    body = head + content + b"\r\n--b--\r\n"
    for start in range(0, len(body), piece):
        yield body[start : start + piece]


@pytest.mark.parametrize(
    ("content", "piece"),
    [(SMALL, 1), (SMALL, 1000), (LARGE, 10_007), (LARGE, 300_000), (LARGE, 983_040), (LARGE, 2**30)],
)
async def test_the_file_is_the_same_whatever_the_pieces(content: bytes, piece: int) -> None:
    form = UploadForm("multipart/form-data; boundary=b", 2**30)
    assert await form.read(arriving(content, piece)) == CheckedUpload(
        PDF, len(content), hashlib.sha256(content).hexdigest()
    )
    form.file.seek(0)
    assert form.file.read() == content
    form.close()


def feeding(content: bytes) -> Any:
    async def feed(take: Callable[[bytes], None]) -> None:
        for start in range(0, len(content), 100_000):
            take(content[start : start + 100_000])

    return feed


@pytest.mark.parametrize(
    ("content", "filename", "kind"),
    [
        (LARGE, "a.pdf", PDF),
        (SMALL + b" " * 200_000, "a.pdf", PDF),
        (docxs.docx(["a"]), "a.docx", DOCX),
    ],
    ids=["pdf", "pdf with a long rest", "docx"],
)
async def test_what_lies_in_storage_is_looked_at_in_the_same_way(content: bytes, filename: str, kind: str) -> None:
    found = await StoredFileScan().check(feeding(content), filename)
    assert found == CheckedUpload(kind, len(content), hashlib.sha256(content).hexdigest())


async def test_a_pdf_without_its_table_is_refused() -> None:
    with pytest.raises(FileRefused, match="file_corrupt"):
        await StoredFileScan().check(feeding(LARGE.replace(b"startxref", b"startxxxx")), "a.pdf")


async def test_a_full_disk_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(tempfile.SpooledTemporaryFile[bytes]):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(upload, "SpooledTemporaryFile", Full)
    with pytest.raises(Overloaded):
        await StoredFileScan().check(feeding(docxs.docx(["a"])), "a.docx")
