"""Reading JSON as RFC 8259 has it and no more: UTF-8, no duplicate keys, no NaN or Infinity, bounded depth."""

import json
import math
from typing import Any

from core.errors import Invalid, Malformed

MAX_DEPTH = 32


def read_json(raw: bytes) -> Any:
    """The value, with every string storable. Raises Malformed (not JSON) or Invalid (JSON we cannot keep)."""
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=_refuse, parse_float=_finite
        )
    except (ValueError, RecursionError) as cause:  # UnicodeDecodeError and the limit on digits are ValueErrors
        raise Malformed("The body is not valid JSON.") from cause
    _check(value)
    return value


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `object_pairs_hook`. Raises ValueError when a key stands twice."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate key")
    return value


def _refuse(_: str) -> Any:
    raise ValueError("not a number of JSON")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError("out of range")
    return value


def _check(root: Any) -> None:
    todo: list[tuple[Any, str, int]] = [(root, "", 0)]
    while todo:
        value, pointer, depth = todo.pop()
        if depth > MAX_DEPTH:
            raise Malformed("The body is nested too deeply.")
        if isinstance(value, str):
            if not _storable(value):
                raise Invalid("A string holds a NUL or a lone surrogate.", pointer=pointer, rule="string")
        elif isinstance(value, dict):
            if not all(map(_storable, value)):
                raise Invalid("A key holds a NUL or a lone surrogate.", pointer=pointer, rule="string")
            todo += [(item, f"{pointer}/{_escaped(key)}", depth + 1) for key, item in value.items()]
        elif isinstance(value, list):
            todo += [(item, f"{pointer}/{index}", depth + 1) for index, item in enumerate(value)]


def _storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return "\0" not in text


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
