"""PDFs: ordinary ones by reportlab and pikepdf, the others byte by byte."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence

import pikepdf
from reportlab.pdfgen import canvas

WORDS = [
    "contract",
    "invoice",
    "delivery",
    "warranty",
    "payment",
    "supplier",
    "customer",
    "agreement",
    "schedule",
    "appendix",
]
MEDIA = b"/MediaBox [0 0 595 842]"


def pdf(pages: Sequence[str], *, title: str = "Corpus") -> bytes:
    """One page per text, its lines below each other."""
    buffer = io.BytesIO()
    sheet = canvas.Canvas(buffer, pagesize=(595, 842), invariant=1)
    sheet.setTitle(title)
    for text in pages:
        for row, line in enumerate(text.split("\n")):
            sheet.drawString(40, 800 - 12 * row, line)
        sheet.showPage()
    sheet.save()
    return buffer.getvalue()


def known_words(pages: int = 30) -> tuple[bytes, list[str]]:
    """A PDF and the exact text of each of its pages."""
    texts = [f"page {number} {WORDS[number % len(WORDS)]} number-{number * 7919}" for number in range(1, pages + 1)]
    return pdf(texts), texts


def dense(pages: int, lines: int = 40) -> bytes:
    """Many pages full of prose."""
    line = "The quick brown fox jumps over the lazy dog and the supplier delivers the goods in time."
    return pdf(["\n".join([f"page {number}", *[line] * lines]) for number in range(1, pages + 1)])


def scanned(pages: int = 2) -> bytes:
    """Pages that are pictures only."""
    grey = stream(
        bytes(range(256)) * 40,
        b"/Type /XObject /Subtype /Image /Width 128 /Height 80 /ColorSpace /DeviceGray /BitsPerComponent 8",
    )
    draw = stream(b"q 500 0 0 700 40 40 cm /I Do Q")
    return pages_pdf([draw] * pages, resources=b"/XObject << /I 900 0 R >>", extra={900: grey})


def form(value: str = "Filled by hand") -> bytes:
    """A form whose field has a value and an appearance; neither is page content."""
    appearance = stream(
        b"BT /F 12 Tf 2 4 Td (" + value.encode("latin-1") + b") Tj ET",
        b"/Type /XObject /Subtype /Form /BBox [0 0 300 20] /Resources << /Font << /F 3 0 R >> >>",
    )
    field = (
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (" + value.encode("latin-1") + b") /F 4 "
        b"/DA (/F 12 Tf) /Rect [40 700 340 720] /P 10 0 R /AP << /N 901 0 R >> >>"
    )
    return pages_pdf(
        [stream(text("Name:"))], page=b"/Annots [900 0 R]", extra={900: field, 901: appearance},
        catalog=b"/AcroForm << /Fields [900 0 R] /DR << /Font << /F 3 0 R >> >> >>",
    )  # fmt: skip


def xfa() -> bytes:
    """An XFA form: what a reader without XFA shows is the placeholder."""
    return pages_pdf(
        [stream(text("Please wait"))], catalog=b"/AcroForm << /Fields [] /XFA 900 0 R >>",
        extra={900: stream(b"<xdp:xdp xmlns:xdp='http://ns.adobe.com/xdp/'/>")},
    )  # fmt: skip


def encrypted(*, user: str, owner: str = "owner") -> bytes:
    with pikepdf.open(io.BytesIO(pdf(["secret text"]))) as opened:
        buffer = io.BytesIO()
        opened.save(buffer, encryption=pikepdf.Encryption(user=user, owner=owner), deterministic_id=False)
    return buffer.getvalue()


def text(line: str) -> bytes:
    """Page content that shows one line."""
    return b"BT /F 12 Tf 40 800 Td (" + line.encode("latin-1") + b") Tj ET"


def stream(content: bytes, entries: bytes = b"", *, length: bytes | None = None) -> bytes:
    size = length or str(len(content)).encode()
    return b"<< " + entries + b" /Length " + size + b" >>\nstream\n" + content + b"\nendstream"


def raw_pdf(objects: Mapping[int, bytes], *, trailer: bytes = b"", prev: int | None = None) -> bytes:
    """The objects by their numbers, a cross-reference table, a trailer; object 1 is the catalog."""
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets: dict[int, int] = {}
    for number, body in sorted(objects.items()):
        offsets[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start, size = len(out), max(objects) + 1
    out += b"xref\n0 1\n0000000000 65535 f \n"
    for number, offset in offsets.items():
        out += b"%d 1\n%010d 00000 n \n" % (number, offset)
    link = b"" if prev is None else b" /Prev %d" % (start if prev < 0 else prev)
    out += b"trailer\n<< /Size %d /Root 1 0 R%s %s >>\nstartxref\n%d\n%%%%EOF\n" % (size, link, trailer, start)
    return bytes(out)


def pages_pdf(
    contents: Sequence[bytes],
    *,
    resources: bytes = b"",
    page: bytes = b"",
    catalog: bytes = b"",
    media: bytes = MEDIA,
    extra: Mapping[int, bytes] | None = None,
    trailer: bytes = b"",
    prev: int | None = None,
) -> bytes:
    """One page per content stream. Objects: 1 catalog, 2 page tree, 3 font /F, pages from 10 in steps of two."""
    numbers = [10 + 2 * index for index in range(len(contents))]
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R " + catalog + b" >>",
        2: b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(numbers), b" ".join(b"%d 0 R" % one for one in numbers)),
        3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    }
    shared = b"/Resources << /Font << /F 3 0 R >> " + resources + b" >>"
    for number, content in zip(numbers, contents, strict=True):
        objects[number] = b"<< /Type /Page /Parent 2 0 R %s %s %s /Contents %d 0 R >>" % (
            media,
            shared,
            page,
            number + 1,
        )
        objects[number + 1] = content
    return raw_pdf(objects | dict(extra or {}), trailer=trailer, prev=prev)


def deflated(unit: bytes, mib: int) -> bytes:
    """zlib data of `mib` MiB: one packed MiB, repeated, so that it is made in no time."""
    packer = zlib.compressobj(9)
    piece = (unit * (2**20 // len(unit) + 1))[: 2**20]
    head = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * (mib - 1) + b"\x03\x00" + b"\0\0\0\0"


def flate_bomb(mib: int = 1024) -> bytes:
    """A content stream of spaces."""
    return stream(deflated(b" ", mib), b"/Filter /FlateDecode")


def double_flate_bomb() -> bytes:
    return stream(zlib.compress(deflated(b" ", 1024), 9), b"/Filter [/FlateDecode /FlateDecode]")


def operator_bomb() -> bytes:
    return stream(deflated(b"0 0 m 9 9 l S\n", 300), b"/Filter /FlateDecode")


def recursive_form() -> bytes:
    """A form that draws itself twice."""
    itself = stream(
        b"/X Do /X Do", b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 900 0 R >> >>"
    )
    return pages_pdf([stream(b"/X Do")], resources=b"/XObject << /X 900 0 R >>", extra={900: itself})


def exponential_forms(depth: int = 9, fan: int = 10) -> bytes:
    """Forms that draw the next one ten times each."""
    head = b"/Type /XObject /Subtype /Form /BBox [0 0 9 9]"
    forms = {
        900 + level: stream(b"/X Do " * fan, head + b" /Resources << /XObject << /X %d 0 R >> >>" % (901 + level))
        for level in range(depth)
    }
    forms[900 + depth] = stream(b"0 0 9 9 re f", head)
    return pages_pdf([stream(b"/X Do")], resources=b"/XObject << /X 900 0 R >>", extra=forms)


def with_bombs(pages: int, bombs: Sequence[int]) -> bytes:
    """Pages of one line each; those in `bombs` need more memory than there is."""
    bomb = flate_bomb()
    return pages_pdf(
        [bomb if number in bombs else stream(text(f"good page {number}")) for number in range(1, pages + 1)]
    )


def many_pages(pages: int = 200_000) -> bytes:
    kids = b"[" + b"3 0 R " * pages + b"]"
    return raw_pdf(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R >>",
            2: b"<< /Type /Pages /Count %d /Kids %s >>" % (pages, kids),
            3: b"<< /Type /Page /Parent 2 0 R " + MEDIA + b" >>",
        }
    )


def surrogates() -> bytes:
    """A font whose ToUnicode map turns A into a lone surrogate, B into U+0002, C into a non-character."""
    cmap = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def\n"
        b"1 begincodespacerange <00> <FF> endcodespacerange\n"
        b"3 beginbfchar <41> <D800> <42> <0002> <43> <FDD0> endbfchar\nendcmap end end"
    )
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 901 0 R >>"
    return pages_pdf(
        [stream(b"BT /G 12 Tf 40 800 Td (xAyCz) Tj ET")], resources=b"/Font << /F 3 0 R /G 900 0 R >>",
        extra={900: font, 901: stream(cmap)},
    )  # fmt: skip


def bit_flipped(every: int) -> bytes:
    """A good file in which one bit of every so many bytes is another."""
    flipped = bytearray(dense(3))
    for at in range(20, len(flipped), every):
        flipped[at] ^= 0x10
    return bytes(flipped)
