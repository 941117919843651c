"""Pages: texts, what is lost and what is not, hand-overs, limits of text, progress."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.documents.domain import limits
from app.documents.domain.processors import DOCX
from tests.corpus import docxs, pdfs
from tests.integration.processing.harness import Bench, extract_within, fake


def test_every_page_of_an_ordinary_pdf_is_read(bench: Bench) -> None:
    content, texts = pdfs.known_words(30)
    ran = bench.run(content)
    assert ran.texts == texts
    assert [json.loads(line)["text"] for line in ran.files["pages.ndjson"].splitlines()] == texts
    result = ran.extraction
    assert (result.kind, result.page_count, result.has_text_layer) == ("pdf", 30, True)
    assert [page.number for page in result.pages] == list(range(1, 31))
    assert (result.pages[0].width, result.pages[0].height) == (595.0, 842.0)
    assert result.metadata["title"] == "Corpus"
    assert result.text == "\f".join(texts)
    assert not result.text_truncated
    assert not ran.completed.partial
    assert ran.files["thumbnail.webp"][8:12] == b"WEBP"
    assert ran.progress[-1][0] == 94
    assert (5, "reading page 1 of 30") in ran.progress


def test_a_paragraph_docx_is_read_without_pages(bench: Bench) -> None:
    ran = bench.run(docxs.docx(["Erster Absatz", "Zweiter Absatz"]), DOCX)
    assert ran.extraction.text == "Erster Absatz\nZweiter Absatz\n"
    assert (ran.extraction.page_count, ran.extraction.pages) == (None, ())
    assert set(ran.files) == {"text.txt", "pages.ndjson"}


def test_a_scan_completes_and_says_that_it_has_no_text(bench: Bench) -> None:
    ran = bench.run(pdfs.scanned(2))
    assert ran.extraction.has_text_layer is False
    assert ran.extraction.characters == 0
    assert ran.extraction.page_count == 2
    assert not ran.completed.partial
    assert ran.extraction.language == "und"


@pytest.mark.parametrize(
    ("pages", "bombs"), [(61, [51]), (5, [1]), (6, [2, 4]), (4, [4])], ids=["one", "first", "several", "last"]
)
def test_pages_that_end_their_child_are_lost_alone(pages: int, bombs: list[int], bench: Bench) -> None:
    ran = bench.run(pdfs.with_bombs(pages, bombs))
    assert ran.completed.partial
    assert ran.warnings == [(page, "memory_limit") for page in bombs]
    assert ran.texts == ["" if n in bombs else f"good page {n}" for n in range(1, pages + 1)]
    assert [page.number for page in ran.extraction.pages] == [n for n in range(1, pages + 1) if n not in bombs]


def test_a_page_that_cannot_be_read_is_lost_without_its_child(bench: Bench) -> None:
    content = pdfs.pages_pdf([pdfs.stream(pdfs.text(f"page {n}")) for n in (1, 2, 3)])
    ran = bench.run(content.replace(b"12 0 obj\n<< /Type /Page ", b"12 0 obj\n<< /Type /Pxge "))
    assert ran.warnings == [(2, "document_corrupt")]
    assert ran.texts == ["page 1", "", "page 3"]
    assert ran.completed.partial


def test_only_bad_pages_fail_with_the_first_code_after_nine(bench: Bench) -> None:
    ran = bench.run(pdfs.with_bombs(12, range(1, 13)))
    assert ran.code == "memory_limit"
    assert ran.outcome.usage.children == limits.LOST_PAGES + 1  # type: ignore[union-attr]


def test_a_long_document_goes_from_child_to_child(root: Path) -> None:
    line = "BT /F 6 Tf 40 {y} Td (The quick brown fox jumps over the lazy dog and runs on) Tj ET "
    dense = "".join(line.format(y=780 - 14 * row) for row in range(50)).encode()
    content = pdfs.pages_pdf([pdfs.stream(dense + pdfs.text(f"page {n}")) for n in range(1, 2001)])
    ran = Bench(root, more=(extract_within(handover_cpu_s=0.5),)).run(content)
    assert not ran.completed.partial
    assert ran.warnings == []
    assert ran.completed.usage.children > 2
    assert [page.number for page in ran.extraction.pages] == list(range(1, 2001))
    assert all(f"page {number}" in text for number, text in enumerate(ran.texts, start=1))


def test_what_the_budget_of_the_attempt_does_not_reach_is_named(root: Path) -> None:
    script = """
    start = json.load(open(sys.argv[6]))["start"]
    opened(9)
    page(start)
    end = time.process_time() + 0.4
    while time.process_time() < end: pass
    say("handover", next=start + 1)
    """
    ran = fake(root, script, cpu_s=1).run(b"")
    read = len(ran.extraction.pages)
    assert 1 < read < 9
    assert ran.warnings == [(read + 1, "cpu_limit")]
    assert ran.completed.partial
    assert len(ran.texts) == 9


def test_characters_are_those_of_the_text_and_nothing_else(bench: Bench) -> None:
    assert bench.run(pdfs.surrogates()).extraction.text == "x\ufffdy\ufffdz"


def test_lines_of_a_page_end_with_a_plain_newline(bench: Bench) -> None:
    assert bench.run(pdfs.pdf(["one\ntwo"])).extraction.text == "one\ntwo"


def test_values_of_form_fields_are_read(bench: Bench) -> None:
    ran = bench.run(pdfs.form("Filled by hand"))
    assert "Filled by hand" in ran.extraction.text
    assert ran.extraction.metadata["form"] == "acroform"


def test_an_xfa_form_says_what_it_is(bench: Bench) -> None:
    assert bench.run(pdfs.xfa()).extraction.metadata["form"] == "xfa"


def test_a_broken_title_does_not_cost_the_other_metadata(bench: Bench) -> None:
    info = b"<< /Title <FEFFD800> /Author (Ann) /CreationDate (D:20240229120000+02'00') /ModDate (D:20249999) >>"
    content = pdfs.pages_pdf([pdfs.stream(b"")], extra={900: info}, trailer=b" /Info 900 0 R")
    metadata = bench.run(content).extraction.metadata
    assert metadata["author"] == "Ann"
    assert metadata["created"] == "2024-02-29T12:00:00+02:00"
    assert "modified" not in metadata
    assert metadata["pdf_version"] == "1.7"


def test_the_traps_of_word_texts(bench: Bench) -> None:
    deleted = "<w:del><w:r><w:t>no</w:t></w:r></w:del><w:moveFrom><w:r><w:t>no</w:t></w:r></w:moveFrom>"
    inner = (
        "<w:p><w:pPr><w:tabs><w:tab w:val='left'/></w:tabs></w:pPr>"
        "<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:noBreakHyphen/><w:t>d</w:t></w:r>"
        f"{deleted}<w:ins><w:r><w:t>e</w:t></w:r></w:ins></w:p>"
        "<mc:AlternateContent><mc:Choice><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Choice>"
        "<mc:Fallback><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>1</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    )
    text = bench.run(docxs.with_parts(docxs.body(inner)), DOCX).extraction.text
    assert text == "a\tb\nc-de\nbox\n1\n\t"


def test_a_strict_docx_has_its_text(bench: Bench) -> None:
    assert bench.run(docxs.strict(), DOCX).extraction.text == "Strictly speaking\n"


def test_footnotes_follow_and_an_external_target_is_remarked_only(bench: Bench) -> None:
    note = docxs.body(docxs.paragraph("a note")).replace(b"w:document", b"w:footnotes")
    relations = docxs.relationships(
        ("footnotes", "footnotes.xml"),
        external=[("attachedTemplate", "http://example.org/t.dotm"), ("header", "http://example.org/h.xml")],
    )
    further = {"word/_rels/document.xml.rels": relations, "word/footnotes.xml": note}
    ran = bench.run(docxs.with_parts(further=further), DOCX)
    assert ran.extraction.text == "Some words\na note\n"
    assert ran.warnings == [(None, "external_relationship")]
    assert not ran.completed.partial


def test_a_page_of_too_many_characters_is_cut(root: Path) -> None:
    script = f"opened(2); page(1, 'x' * {limits.PAGE_CHARACTERS + 1}); page(2); say('done')"
    ran = fake(root, script).run(b"")
    assert ran.warnings == [(1, "memory_limit")]
    assert ran.completed.partial
    assert ran.extraction.pages[0].characters == limits.PAGE_CHARACTERS
    assert ran.extraction.text_truncated
    assert len(ran.extraction.text) == limits.RESULT_TEXT_CHARACTERS


def test_a_document_of_too_many_characters_ends_where_it_is_full(root: Path) -> None:
    script = f"opened(30)\nfor n in range(1, 31): page(n, 'x' * {limits.PAGE_CHARACTERS})\nsay('done')"
    ran = fake(root, script).run(b"")
    assert len(ran.extraction.pages) == limits.DOCUMENT_CHARACTERS // limits.PAGE_CHARACTERS
    assert ran.warnings == [(21, "memory_limit")]
    assert ran.completed.partial


def test_twenty_million_characters_do_not_grow_the_worker(tmp_path: Path) -> None:
    (tmp_path / "long.docx").write_bytes(docxs.long_text(19_900_000))
    script = Path(__file__).with_name("measure_growth.py")
    measured = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "long.docx")],
        capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[3], check=True,
    )  # fmt: skip
    characters, growth = measured.stdout.split()
    assert int(characters) == 19_900_000
    assert float(growth) < 50
