"""Text as every store and encoding takes it. Standard library only: the reading child loads this by path."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from app.documents.domain.limits import METADATA_CHARACTERS

REPLACEMENT = "\ufffd"
# PDFium marks a hyphen at a line end by one of these; without it the word is whole again
_HYPHENS = re.compile("[\u0002\ufffe]")
_NON_CHARACTERS = "\ufdd0-\ufdef\ufffe\uffff" + "".join(
    chr(plane << 16 | low) for plane in range(1, 17) for low in (0xFFFE, 0xFFFF)
)
_UNFIT = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{_NON_CHARACTERS}]")
_PDF_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:Z|([+-])(\d\d)'?(?:(\d\d)'?)?)?", re.ASCII)


def clean(text: str) -> str:
    """`text` with plain newlines, rejoined words, and U+FFFD for what is no character."""
    return _UNFIT.sub(REPLACEMENT, _HYPHENS.sub("", re.sub("\r\n?", "\n", text)))


def clean_metadata(values: dict[str, str | None]) -> dict[str, str]:
    """The values that say something, cleaned, on one line, cut to 1 000 characters."""
    cleaned = {key: " ".join(clean(value).split()) for key, value in values.items() if value}
    return {key: value[:METADATA_CHARACTERS] for key, value in cleaned.items() if value}


def pdf_date(value: str) -> str | None:
    """RFC 3339 of a PDF date (ISO 32000-1 §7.9.4), without an offset taken as UTC; None if it is none."""
    match = _PDF_DATE.match(value.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, sign, off_hours, off_minutes = match.groups()
    try:
        offset = timedelta(hours=int(off_hours or 0), minutes=int(off_minutes or 0))
        zone = timezone(-offset if sign == "-" else offset)
        moment = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0),
            tzinfo=zone,
        )  # fmt: skip
    except ValueError:
        return None
    return _rfc3339(moment)


def w3c_date(value: str) -> str | None:
    """RFC 3339 of a W3CDTF date, without an offset taken as UTC; None if it is none."""
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return _rfc3339(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
