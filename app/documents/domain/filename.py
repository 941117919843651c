"""The name of a document: a label for people, never a path and never a key."""

from __future__ import annotations

import re
import unicodedata

MAX_BYTES = 255
JOINERS = "\u200c\u200d"  # Persian, Indic and emoji names need them


class FileNameRefused(ValueError):
    """The name cannot be a label; problem code `file_name_invalid`."""

    code = "file_name_invalid"


def clean_filename(raw: str) -> str:
    """The last part of `raw`, NFC, without outer spaces and dots: 1-255 bytes of UTF-8.

    Raises FileNameRefused when nothing is left, it is too long, or it holds a character of category C
    (control, format, surrogate, private, unassigned) other than the two joiners.
    """
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", raw)[-1]).strip(" .")
    if any(unicodedata.category(char).startswith("C") and char not in JOINERS for char in name):
        raise FileNameRefused("control or format character in the name")
    if not 1 <= len(name.encode()) <= MAX_BYTES:
        raise FileNameRefused(f"the name must be 1 to {MAX_BYTES} bytes long")
    return name


def extension(name: str) -> str:
    """The part after the last dot in lower case, or an empty string."""
    return name.rpartition(".")[2].lower() if "." in name else ""
