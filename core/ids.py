"""Ids: a prefix that names the kind, then 26 characters that sort by the time they were made (ULID)."""

import os
import re
import time

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]


def new_id(prefix: str) -> str:
    """A fresh id such as `doc_01k9…`: 48 bits of milliseconds, 80 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return f"{prefix}_" + "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])


def id_for(prefix: str, command_id: str | None) -> str:
    """The id of what a command makes: in all its runs the same one, in the same form; without a command a fresh one."""
    return new_id(prefix) if command_id is None else f"{prefix}_{command_id.partition('_')[2]}"


def id_pattern(prefix: str) -> re.Pattern[str]:
    """What ids of one kind look like; match with `fullmatch`."""
    return re.compile(rf"{prefix}_[{_CROCKFORD}]{{26}}")


def random_token(bits: int = 128) -> str:
    """Unguessable, hex."""
    return os.urandom(bits // 8).hex()
