"""Every hostile or broken file ends in its code, and harms neither the worker nor the next file."""

from __future__ import annotations

import os

import pytest

from app.documents.domain.processors import DOCX, PDF
from tests.corpus import docxs
from tests.corpus.hostile import CASES, OK, Case
from tests.integration.processing.harness import Bench, children_of, resident_mib

GOOD = docxs.docx(["a good paragraph"])
REMARKS = {
    "zip-behind.pdf": "trailing_data",
    "javascript.pdf": "javascript",
    "embedded-file.pdf": "embedded_files",
}
PARTIAL = {"bad-footnotes.docx": [(None, "document_corrupt")]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_file_ends_in_its_code_and_a_good_one_succeeds_straight_after(case: Case, bench: Bench) -> None:
    content, content_type = case.make(), PDF if case.name.endswith(".pdf") else DOCX
    memory = resident_mib()

    ran = bench.run(content, content_type)

    assert ran.seconds < 60
    if case.run == OK:
        assert ran.completed.partial is (case.name in PARTIAL)
        remark = [(None, REMARKS[case.name])] if case.name in REMARKS else []
        assert ran.warnings == PARTIAL.get(case.name, remark)
    else:
        assert ran.code == case.run
        assert not ran.files
    assert resident_mib() - memory < 20
    assert children_of(os.getpid()) == []
    assert bench.run(GOOD, DOCX).extraction.text == "a good paragraph\n"


def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)
