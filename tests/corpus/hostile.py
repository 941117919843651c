"""Hostile and broken files with the code each must end in: at upload, and in an attempt."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass

from tests.corpus import docxs, pdfs
from tests.corpus.docxs import archive, body, paragraph, parts, with_parts

OK = "ok"


@dataclass(frozen=True)
class Case:
    """`upload` and `run` are a code or OK; `run` is what an attempt on the same bytes gives, for folder scans."""

    name: str
    make: Callable[[], bytes]
    upload: str
    run: str

    @property
    def filename(self) -> str:
        return self.name.split(" ")[0]


def _html_first() -> bytes:
    return b"<html><script>1</script></html>\n" + pdfs.pdf(["polyglot"])


def _javascript() -> bytes:
    names = b"/Names << /JavaScript << /Names [(a) << /S /JavaScript /JS (app.alert\\(1\\)) >>] >> >>"
    return pdfs.pages_pdf([pdfs.stream(pdfs.text("script"))], catalog=names)


def _embedded() -> bytes:
    names = b"/Names << /EmbeddedFiles << /Names [(a) << /Type /Filespec /F (a) /EF << /F 900 0 R >> >>] >> >>"
    return pdfs.pages_pdf(
        [pdfs.stream(pdfs.text("file"))], catalog=names, extra={900: pdfs.stream(b"x", b"/Type /EmbeddedFile")}
    )


def _page(**options: bytes) -> bytes:
    return pdfs.pages_pdf([pdfs.stream(pdfs.text("still here"))], **options)  # type: ignore[arg-type]


def _huge_image() -> bytes:
    head = b"/Type /XObject /Subtype /Image /Width 60000 /Height 60000 /ColorSpace /DeviceRGB"
    head += b" /BitsPerComponent 8 /Filter /FlateDecode"
    image = pdfs.stream(pdfs.deflated(b"\0", 16), head)
    return pdfs.pages_pdf(
        [pdfs.stream(pdfs.text("big picture") + b" /I Do")], resources=b"/XObject << /I 900 0 R >>", extra={900: image}
    )


def _loop_of_pages() -> bytes:
    return pdfs.raw_pdf(
        {1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"<< /Type /Pages /Count 5 /Kids [2 0 R 2 0 R] /Parent 2 0 R >>"}
    )


def _count(count: bytes) -> bytes:
    return pdfs.raw_pdf(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R >>",
            2: b"<< /Type /Pages /Kids [3 0 R] /Count " + count + b" >>",
            3: b"<< /Type /Page /Parent 2 0 R " + pdfs.MEDIA + b" >>",
        }
    )


def _main(inner: str, **options: str) -> bytes:
    return with_parts(body(inner, **options))


PDFS = (
    Case("empty.pdf", lambda: b"", "file_corrupt", "document_corrupt"),
    Case("garbage.pdf", lambda: bytes(range(256)) * 64, "unsupported_file_type", "document_corrupt"),
    Case("magic-only.pdf", lambda: b"%PDF-1.7\n", "file_corrupt", "document_corrupt"),
    Case("truncated.pdf", lambda: pdfs.dense(3)[:1500], "file_corrupt", "document_corrupt"),
    Case("bit-flipped.pdf", lambda: pdfs.bit_flipped(11), "file_corrupt", "document_corrupt"),
    Case("html-first.pdf", _html_first, "unsupported_file_type", OK),
    Case("program-first.pdf", lambda: b"MZ\x90\0" + pdfs.pdf(["polyglot"]), "unsupported_file_type", OK),
    Case("wrong-version.pdf", lambda: b"%PDF-9" + pdfs.pdf(["x"])[6:], "unsupported_file_type", OK),
    Case("docx-named.pdf", lambda: docxs.docx(["x"]), "unsupported_file_type", "document_corrupt"),
    Case("encrypted.pdf", lambda: pdfs.encrypted(user="secret"), OK, "document_encrypted"),
    Case("owner-password.pdf", lambda: pdfs.encrypted(user=""), OK, OK),
    Case("no-pages.pdf", lambda: pdfs.pages_pdf([]), OK, "document_corrupt"),
    Case("200000-pages.pdf", pdfs.many_pages, OK, "too_many_pages"),
    Case("count-of-2-billion.pdf", lambda: _count(b"2147483647"), OK, OK),
    Case("negative-count.pdf", lambda: _count(b"-3"), OK, OK),
    Case("loop-of-pages.pdf", _loop_of_pages, OK, "document_corrupt"),
    Case("flate-bomb.pdf", lambda: pdfs.pages_pdf([pdfs.flate_bomb()]), OK, "memory_limit"),
    Case("double-flate-bomb.pdf", lambda: pdfs.pages_pdf([pdfs.double_flate_bomb()]), OK, "memory_limit"),
    Case("operator-bomb.pdf", lambda: pdfs.pages_pdf([pdfs.operator_bomb()]), OK, "memory_limit"),
    Case("recursive-form.pdf", pdfs.recursive_form, OK, "memory_limit"),
    Case("exponential-forms.pdf", pdfs.exponential_forms, OK, "memory_limit"),
    Case("huge-image.pdf", _huge_image, OK, OK),
    Case("huge-box.pdf", lambda: _page(media=b"/MediaBox [0 0 1000000 1000000]"), OK, OK),
    Case("no-box.pdf", lambda: _page(media=b"/MediaBox [0 0 0 0]"), OK, OK),
    Case("nested-arrays.pdf", lambda: _page(page=b"/X " + b"[" * 20_000 + b"]" * 20_000), OK, OK),
    Case("loop-of-tables.pdf", lambda: pdfs.pages_pdf([pdfs.stream(pdfs.text("loop"))], prev=-1), OK, OK),
    Case("length-of-itself.pdf", lambda: pdfs.pages_pdf([pdfs.stream(b"x", length=b"11 0 R")]), OK, OK),
    Case("no-content.pdf", lambda: pdfs.pages_pdf([b"null"]), OK, OK),
    Case("zip-behind.pdf", lambda: pdfs.pdf(["polyglot"]) + docxs.docx(["x"]), OK, OK),
    Case("javascript.pdf", _javascript, OK, OK),
    Case("embedded-file.pdf", _embedded, OK, OK),
    Case("surrogates.pdf", pdfs.surrogates, OK, OK),
    Case("xfa.pdf", pdfs.xfa, OK, OK),
)

CORRUPT = ("file_corrupt", "document_corrupt")
BOMB = ("archive_bomb", "memory_limit")
OTHER = ("unsupported_file_type", "document_corrupt")
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
DOTX = "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml"
DOCM = "application/vnd.ms-word.document.macroEnabled.main+xml"

DOCXS = (
    Case("empty.docx", lambda: b"", *CORRUPT),
    Case("pdf-named.docx", lambda: pdfs.pdf(["x"]), *OTHER),
    Case("plain-zip.docx", lambda: archive({"a.txt": b"a"}), *OTHER),
    Case("program.docx", lambda: archive({"META-INF/MANIFEST.MF": b"x", "A.class": b"\xca\xfe"}), *OTHER),
    Case("sheet.docx", lambda: with_parts(main_type=XLSX), *OTHER),
    Case("template.docx", lambda: with_parts(main_type=DOTX), *OTHER),
    Case("macro-type.docx", lambda: with_parts(main_type=DOCM), "macro_not_allowed", OK),
    Case("macro-part.docx", lambda: with_parts(further={"word/vbaProject.bin": b"x"}), "macro_not_allowed", OK),
    Case(
        "password.docx", lambda: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(2048), "file_encrypted", "document_encrypted"
    ),
    Case("60000-entries.docx", lambda: docxs.many_entries(60_000), *BOMB),
    Case("3000-entries.docx", lambda: docxs.many_entries(3_000), *BOMB),
    Case("one-of-20000.docx", lambda: docxs.end_record(docxs.many_entries(15_000), here=1, entries=1), *BOMB),
    Case("overlapping.docx", docxs.overlapping, *BOMB),
    Case("1-GB-part.docx", lambda: docxs.lying_part(8, 2**30), *BOMB),
    Case("huge-main.docx", lambda: docxs.declared(with_parts(), "word/document.xml", size=80 * 2**20), *BOMB),
    Case("ratio.docx", lambda: _main(" " * (8 * 2**20)), *BOMB),
    Case("8-million-paragraphs.docx", lambda: _main("<w:p/>" * 8_000_000), *BOMB),
    Case("5-million-elements.docx", lambda: docxs.many_paragraphs(5_100_000), OK, "memory_limit"),
    Case("lying-small.docx", lambda: docxs.lying_part(800, 1_000), *CORRUPT),
    Case(
        "bad-crc.docx",
        lambda: docxs.declared(with_parts(), "word/document.xml", size=len(parts()["word/document.xml"]), crc=1),
        *CORRUPT,
    ),
    Case(
        "duplicate.docx",
        lambda: docxs.renamed(with_parts(further={"word/a.bin": b"1", "word/b.bin": b"2"}), b"a.bin", b"b.bin"),
        *CORRUPT,
    ),
    Case("absolute.docx", lambda: with_parts(further={"/etc/passwd": b"x"}), *CORRUPT),
    Case("drive.docx", lambda: with_parts(further={"C:x": b"x"}), *CORRUPT),
    Case("backslash.docx", lambda: with_parts(further={"word\\x": b"x"}), *CORRUPT),
    Case("dots.docx", lambda: with_parts(further={"word/../../x": b"x"}), *CORRUPT),
    Case("nul.docx", lambda: docxs.renamed(with_parts(further={"word/a.bin": b"x"}), b"a.bin", b"a\0bin"), *CORRUPT),
    Case(
        "symlink.docx",
        lambda: docxs.flagged(with_parts(further={"word/l": b"/etc/passwd"}), "word/l", mode=0o120777),
        *CORRUPT,
    ),
    Case("encrypted-entry.docx", lambda: docxs.flagged(with_parts(), "word/document.xml", flags=1), *CORRUPT),
    Case("bzip2.docx", lambda: archive(parts(), compression=zipfile.ZIP_BZIP2), *CORRUPT),
    Case("zip64.docx", lambda: docxs.zip64(with_parts()), *CORRUPT),
    Case("two-disks.docx", lambda: docxs.end_record(with_parts(), disk=1, first_disk=1), *CORRUPT),
    Case("directory-elsewhere.docx", lambda: docxs.end_record(with_parts(), offset=2**31), *CORRUPT),
    Case("directory-of-4-GB.docx", lambda: docxs.end_record(with_parts(), length=2**32 - 1), *BOMB),
    Case("truncated.docx", lambda: with_parts()[:-30], *CORRUPT),
    Case(
        "no-main-part.docx", lambda: archive({k: v for k, v in parts().items() if k != "word/document.xml"}), *CORRUPT
    ),
    Case(
        "external-main.docx",
        lambda: archive(
            parts() | {"_rels/.rels": docxs.relationships(external=[("officeDocument", "http://example.org/a")])}
        ),
        *OTHER,
    ),
    Case(
        "doctype-in-rels.docx",
        lambda: archive(
            parts() | {"_rels/.rels": b"<!DOCTYPE a>" + docxs.relationships(("officeDocument", "word/document.xml"))}
        ),
        *CORRUPT,
    ),
    Case("bad-types.docx", lambda: archive(parts() | {"[Content_Types].xml": b"<Types"}), *CORRUPT),
    Case("laughs.docx", lambda: _main("&l9;", prolog=docxs.laughs()), OK, "document_corrupt"),
    Case(
        "outer-entity.docx",
        lambda: _main("&x;", prolog='<!DOCTYPE w:document [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        OK,
        "document_corrupt",
    ),
    Case("depth.docx", lambda: _main("<w:p>" * 20_000 + "</w:p>" * 20_000), OK, "memory_limit"),
    Case(
        "other-namespace.docx", lambda: with_parts(body(paragraph("x"), namespace="urn:other")), OK, "document_corrupt"
    ),
    Case("bad-xml.docx", lambda: with_parts(body(paragraph("x"))[:-8]), OK, "document_corrupt"),
    Case(
        "unknown-encoding.docx",
        lambda: with_parts(b'<?xml version="1.0" encoding="x-nobody"?><a/>'),
        OK,
        "document_corrupt",
    ),
    Case("strict.docx", docxs.strict, OK, OK),
    Case("document2.docx", lambda: with_parts(main="word/document2.xml"), OK, OK),
    Case("bad-footnotes.docx", lambda: docxs.with_footnotes(b"<w:footnotes"), OK, OK),
)

CASES = PDFS + DOCXS
