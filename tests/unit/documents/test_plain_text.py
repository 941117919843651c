from __future__ import annotations

import pytest

from app.documents.adapter.plain_text import clean, clean_metadata, pdf_date, w3c_date


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("a\r\nb\rc\nd\te", "a\nb\nc\nd\te"),
        ("hy\u0002phen \ufffehere", "hyphen here"),
        ("\x00\x0c\x1b\x7f\x85", "\ufffd" * 5),
        ("\ud800a\udfff", "\ufffda\ufffd"),
        ("\uffff\ufdd0\U0001fffe\U0010ffff", "\ufffd" * 4),
        ("é 漢字 👩\u200d🔬 \u00a0", "é 漢字 👩\u200d🔬 \u00a0"),
    ],
)
def test_what_is_no_character_is_replaced(raw: str, text: str) -> None:
    assert clean(raw) == text
    clean(raw).encode()


def test_metadata_is_one_line_and_bounded() -> None:
    values = {"title": " a\n\x00b ", "author": " \n", "subject": None, "keywords": "x" * 2_000}
    assert clean_metadata(values) == {"title": "a \ufffdb", "keywords": "x" * 1_000}


@pytest.mark.parametrize(
    ("raw", "date"),
    [
        ("D:20240229120000+02'00'", "2024-02-29T12:00:00+02:00"),
        ("D:20240229120000-0530", "2024-02-29T12:00:00-05:30"),
        ("D:20240229120000Z00'00'", "2024-02-29T12:00:00Z"),
        ("D:2024", "2024-01-01T00:00:00Z"),
        ("20240229", "2024-02-29T00:00:00Z"),
        ("D:20240230", None),
        ("D:00001301", None),
        ("D:20240101000000+99'99'", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_dates_of_pdfs_become_rfc_3339_or_nothing(raw: str, date: str | None) -> None:
    assert pdf_date(raw) == date


@pytest.mark.parametrize(
    ("raw", "date"),
    [
        ("2013-12-23T23:15:00Z", "2013-12-23T23:15:00Z"),
        ("2013-12-23T23:15:00.5+01:00", "2013-12-23T23:15:00+01:00"),
        ("2013-12-23", "2013-12-23T00:00:00Z"),
        ("soon", None),
        ("", None),
    ],
)
def test_dates_of_documents_become_rfc_3339_or_nothing(raw: str, date: str | None) -> None:
    assert w3c_date(raw) == date
