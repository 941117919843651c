"""What is read of NDJSON and CSV, row by row."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.products.adapter.import_file import MAX_LINE_BYTES, MAX_ROWS, read_rows
from core.errors import Invalid, Malformed, Unsupported

ROW = {"sku": "A", "name": "n"}


def from_csv(text: str) -> list[dict[str, Any] | None]:
    return read_rows("text/csv; charset=utf-8", text.encode())


def from_json(*lines: str) -> list[dict[str, Any] | None]:
    return read_rows("application/x-ndjson", "\n".join(lines).encode())


def test_a_spreadsheet_is_read_with_its_mark_its_quotes_and_its_line_ends() -> None:
    rows = from_csv(
        '\ufeffsku,name,description,amount,currency,tags\r\nA," Big, ""new""\nline",,12.5,EUR,a| b \r\n\r\nB,n,d,,,\r\n'
    )
    assert rows[0] is None  # a name is one line
    assert rows[1] == {"sku": "B", "name": "n", "description": "d", "price": None, "tags": ()}


def test_a_missing_column_leaves_and_an_empty_cell_clears() -> None:
    assert from_csv("name,sku\nn,A\n") == [ROW]
    assert from_csv("sku,name,description\nA,n,\n") == [{**ROW, "description": None}]
    (row,) = from_csv("sku,name,amount,currency,tags\nA,n,1,JPY,a| b ||c\n")
    assert row is not None
    assert (str(row["price"].amount), row["tags"]) == ("1", ("a", "b", "c"))


@pytest.mark.parametrize(
    "cells", ["A", "A,n,1,EUR,x", ",n,,", "A,,,", "A,n,1,", "A,n,,EUR", "A,n,1.234,EUR", "A,n,x,EUR"]
)
def test_a_row_that_does_not_fit_cannot_be_used(cells: str) -> None:
    assert from_csv(f"sku,name,amount,currency\n{cells}\nB,n,,\n") == [None, {"sku": "B", "name": "n", "price": None}]


@pytest.mark.parametrize("header", ["", "sku", "name,price", "sku,name,sku", "sku,name,colour", "sku;name"])
def test_columns_that_are_not_known_are_refused(header: str) -> None:
    with pytest.raises(Invalid):
        from_csv(f"{header}\nA,n\n")


@pytest.mark.parametrize("raw", [b"sku,name\n\xff,n\n", b'sku,name\n"A,n\n', b"sku,name\nA," + b"x" * 200_000])
def test_what_is_no_csv_is_refused_as_a_whole(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read_rows("text/csv", raw)


@pytest.mark.parametrize(
    "line",
    ["{", "7", "null", "[]", '{"sku":"A"}', '{"sku":"A","name":"n","colour":"red"}', '{"sku":"A","sku":"B","name":"n"}',
     '{"sku":"A","name":"n","price":{"amount":1,"currency":"EUR"}}', '{"sku":"A","name":"\\ud800"}', "\x00",
     '{"sku":"A","name":"n"' + " " * MAX_LINE_BYTES + "}"],
)  # fmt: skip
def test_a_line_that_does_not_fit_stops_no_other(line: str) -> None:
    assert from_json(line, "", json.dumps(ROW), " ") == [None, ROW]


def test_there_may_be_so_many_rows_and_no_more() -> None:
    assert len(from_json(*[json.dumps(ROW)] * MAX_ROWS)) == MAX_ROWS
    with pytest.raises(Invalid):
        from_json(*[json.dumps(ROW)] * (MAX_ROWS + 1))


@pytest.mark.parametrize("kind", ["", "application/json", "text/plain", "text/csv; charset=latin-1", "text/csvx"])
def test_another_type_is_not_read(kind: str) -> None:
    with pytest.raises(Unsupported):
        read_rows(kind, b"sku,name\n")


@given(st.binary(max_size=300), st.sampled_from(["text/csv", "application/x-ndjson"]))
def test_no_bytes_do_more_than_be_refused(raw: bytes, kind: str) -> None:
    for body in (raw, b"sku,name\n" + raw):
        with suppress(Invalid, Malformed):
            read_rows(kind, body)
