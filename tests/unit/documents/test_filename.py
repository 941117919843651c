from __future__ import annotations

import pytest

from app.documents.domain.filename import FileNameRefused, clean_filename, extension


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("a.pdf", "a.pdf"),
        ("C:\\fakepath\\a.pdf", "a.pdf"),
        ("../../etc/a.pdf", "a.pdf"),
        ("x/y\\z.docx", "z.docx"),
        (" . a.pdf . ", "a.pdf"),
        ("u\u0308ber.pdf", "\u00fcber.pdf"),
        ("می\u200cخواهم.pdf", "می\u200cخواهم.pdf"),
        ("👩\u200d🔬.pdf", "👩\u200d🔬.pdf"),
        ("a\";b'<c>.pdf", "a\";b'<c>.pdf"),
        ("a" * 251 + ".pdf", "a" * 251 + ".pdf"),
    ],
)
def test_a_name_is_the_last_part_without_what_surrounds_it(raw: str, name: str) -> None:
    assert clean_filename(raw) == name


@pytest.mark.parametrize(
    "raw",
    ["", " . ",
     "a/", "a\\", "..", "a\0.pdf", "a\n.pdf", "a\r\nX: y.pdf", "a\u202efdp.exe", "\ufeffa.pdf", "a\ud800.pdf",
     "a\ue000.pdf", "a\x7f.pdf", "a" * 252 + ".pdf", "ü" * 126 + ".pdf", "a\u2066.pdf", "a\u200b.pdf"],
)  # fmt: skip
def test_a_name_that_misleads_or_does_not_fit_is_refused(raw: str) -> None:
    with pytest.raises(FileNameRefused) as refused:
        clean_filename(raw)
    assert refused.value.code == "file_name_invalid"


@pytest.mark.parametrize(("name", "found"), [("a.PDF", "pdf"), ("a.b.docx", "docx"), ("pdf", ""), ("a.", "")])
def test_the_extension_is_what_follows_the_last_dot(name: str, found: str) -> None:
    assert extension(name) == found
