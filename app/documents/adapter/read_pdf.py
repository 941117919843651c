"""Reads a PDF with PDFium, page by page; runs in the child only."""

from __future__ import annotations

import base64
import io
import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from app.documents.adapter.plain_text import clean, clean_metadata, pdf_date
from app.documents.domain.limits import (
    PAGE_CHARACTERS,
    PAGES,
    PIECE_BYTES,
    THUMBNAIL_PIXELS,
    THUMBNAIL_QUALITY,
    THUMBNAIL_SCALE,
)

Line = dict[str, Any]
FORMS = {
    pdfium_c.FORMTYPE_NONE: "none",
    pdfium_c.FORMTYPE_ACRO_FORM: "acroform",
    pdfium_c.FORMTYPE_XFA_FULL: "xfa",
    pdfium_c.FORMTYPE_XFA_FOREGROUND: "xfa",
}
METADATA = {key.lower(): key for key in ("Title", "Author", "Subject", "Keywords", "Creator", "Producer")}
DATES = {"created": "CreationDate", "modified": "ModDate"}


def process(job: Any) -> Iterator[Line]:
    """`open`, then one `page` or `page_error` per page from `job.start` on; or `fatal`."""
    try:
        pdf = pdfium.PdfDocument(job.path)
    except pdfium.PdfiumError as error:
        encrypted = error.err_code == pdfium_c.FPDF_ERR_PASSWORD
        yield _fatal("document_encrypted" if encrypted else "document_corrupt", str(error))
        return
    forms = _init_forms(pdf)
    pages = len(pdf)
    if pages < 1:
        yield _fatal("document_corrupt", "no pages")
    elif pages > PAGES:
        yield _fatal("too_many_pages", f"{pages} pages")
    else:
        remarks = _remarks(pdf, Path(job.path))
        yield {"ev": "open", "kind": "pdf", "pages": pages, "metadata": _metadata(pdf), "remarks": remarks}
        for number in range(job.start, pages + 1):
            yield _read_page(pdf, number, forms)


def thumbnail(job: Any) -> Iterator[Line]:
    """Page 1 as one `image` line. Scaled by its size, never by dpi: a box of 1 000 000 pt is legal."""
    pdf = pdfium.PdfDocument(job.path)
    _init_forms(pdf)
    page = pdf[0]
    longer = max(*page.get_size(), 1.0)
    # a hair less, since PDFium's sizes are 32-bit floats and the side in pixels is rounded up
    scale = min(THUMBNAIL_PIXELS / longer * (1 - 1e-6), THUMBNAIL_SCALE)
    image = page.render(scale=scale).to_pil()
    webp = io.BytesIO()
    webp.name = "thumbnail.webp"
    image.save(webp, quality=THUMBNAIL_QUALITY)
    yield {"ev": "image", "webp": base64.b64encode(webp.getvalue()).decode("ascii")}


def _fatal(code: str, detail: str) -> Line:
    return {"ev": "fatal", "code": code, "detail": detail}


def _init_forms(pdf: Any) -> bool:
    try:
        return bool(pdf.init_forms())
    except pdfium.PdfiumError:
        return False


def _read_page(pdf: Any, number: int, forms: bool) -> Line:
    try:
        page = pdf[number - 1]
        if forms:
            # the values of fields are annotations, not page content, until they are flattened into it
            page.flatten()
            page.close()
            page = pdf[number - 1]
        width, height = (round(side, 1) for side in page.get_size())
        if not (math.isfinite(width) and math.isfinite(height)):
            raise pdfium.PdfiumError("page of no finite size")
        text_page = page.get_textpage()
        text = clean(text_page.get_text_bounded(errors="surrogatepass"))
        text_page.close()
        page.close()
    except pdfium.PdfiumError:
        return {"ev": "page_error", "number": number, "code": "document_corrupt"}
    # one character too many tells the parent that it was cut
    return {
        "ev": "page", "number": number, "width": width, "height": height, "text": text[: PAGE_CHARACTERS + 1]
    }  # fmt: skip


def _metadata(pdf: Any) -> dict[str, str]:
    version = pdf.get_version()
    found: dict[str, str | None] = {name: _value(pdf, key) for name, key in METADATA.items()}
    found |= {name: pdf_date(_value(pdf, key)) for name, key in DATES.items()}
    found["pdf_version"] = f"{version // 10}.{version % 10}" if version else None
    found["form"] = FORMS.get(pdf.get_formtype(), "none")
    return clean_metadata(found)


def _value(pdf: Any, key: str) -> str:
    try:
        return str(pdf.get_metadata_value(key))
    except ValueError:  # broken UTF-16 in one value must not cost the others
        return ""


def _remarks(pdf: Any, path: Path) -> list[str]:
    present = {
        "javascript": pdfium_c.FPDFDoc_GetJavaScriptActionCount(pdf) > 0,
        "embedded_files": pdfium_c.FPDFDoc_GetAttachmentCount(pdf) > 0,
        "trailing_data": _trailing_data(path),
    }
    return [remark for remark, found in present.items() if found]


def _trailing_data(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.rfind(b"%%EOF")
        return end >= 0 and bool(content[end + 5 : end + 5 + PIECE_BYTES].strip(b"\0\t\n\f\r "))
