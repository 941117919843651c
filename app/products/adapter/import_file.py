"""Reading an import: NDJSON or CSV, whole before anything is written; a row that cannot be used is None."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from app.products.adapter.schemas import ProductCreate
from core.errors import AppError, Invalid, Malformed, Unsupported
from core.strict_json import read_json

MAX_BYTES, MAX_ROWS, MAX_LINE_BYTES = 16 * 1024 * 1024, 10_000, 65_536
COLUMNS = ("sku", "name", "description", "amount", "currency", "tags")
NDJSON, CSV = ("application/x-ndjson", "application/jsonl"), "text/csv"

Rows = list[dict[str, Any] | None]


def read_rows(content_type: str, raw: bytes) -> Rows:
    """What each row says of a product. Raises Unsupported, Malformed, or Invalid for too many rows."""
    kind, _, parameters = content_type.lower().partition(";")
    kind, charset = kind.strip(), re.search(r'charset="?([^";\s]*)', parameters)
    if kind not in {*NDJSON, CSV} or (charset and charset[1] != "utf-8"):
        raise Unsupported("Send application/x-ndjson or text/csv in UTF-8.")
    raw = raw.removeprefix(b"\xef\xbb\xbf")  # spreadsheets put it there
    rows: Rows = []
    for row in _csv_rows(raw) if kind == CSV else _json_rows(raw):
        if len(rows) == MAX_ROWS:
            raise Invalid(f"There are more than {MAX_ROWS} rows.", rule="too_long")
        rows.append(_checked(row))
    return rows


def _checked(row: Any) -> dict[str, Any] | None:
    try:
        return ProductCreate.model_validate(row).fields()
    except ValidationError:
        return None


def _json_rows(raw: bytes) -> Iterator[Any]:
    for line in raw.split(b"\n"):
        if not line.strip():
            continue
        try:
            yield read_json(line) if len(line) <= MAX_LINE_BYTES else None
        except AppError:
            yield None


def _csv_rows(raw: bytes) -> Iterator[Any]:
    try:
        lines = csv.reader(io.StringIO(raw.decode(), newline=""), strict=True)
        header = next(lines, [])
        if not {"sku", "name"} <= set(header) <= set(COLUMNS) or len(set(header)) != len(header):
            raise Invalid(f"The first line must name columns, of {', '.join(COLUMNS)}: sku and name at least.")
        yield from _csv_products(header, lines)
    except (UnicodeDecodeError, csv.Error) as cause:
        raise Malformed("The body is not CSV in UTF-8.") from cause


def _csv_products(header: list[str], lines: Iterable[list[str]]) -> Iterator[Any]:
    """An empty cell clears, a missing column leaves."""
    for cells in lines:
        if not cells:
            continue
        row: dict[str, Any] = dict(zip(header, cells, strict=False))
        if "description" in row:
            row["description"] = row["description"] or None
        if "tags" in row:
            row["tags"] = [tag for tag in row["tags"].split("|") if tag.strip()]
        price = {name: row.pop(name) for name in ("amount", "currency") if name in row}
        if price:
            row["price"] = price if any(price.values()) else None
        yield row if len(cells) == len(header) else None
