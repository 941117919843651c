"""The language of a text, in the worker: its input is text, and numpy wants more room than a child has."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from app.documents.domain.limits import LANGUAGE_MIN_CONFIDENCE, LANGUAGE_MIN_LETTERS, LANGUAGE_SAMPLE_CHARACTERS

UNKNOWN = "und"  # ISO 639-2
NO_LANGUAGE = "zxx"


def detect(text: str) -> str:
    """An ISO 639 code, or `und` for fewer than 200 letters or an uncertain answer.

    Without both conditions the model answers `mg` for rows of digits and `af` for an empty string.
    """
    sample = text[:LANGUAGE_SAMPLE_CHARACTERS]
    if sum(map(str.isalpha, sample)) < LANGUAGE_MIN_LETTERS:
        return UNKNOWN
    code, _ = _identifier().classify(sample)
    return UNKNOWN if code in (NO_LANGUAGE, None) else str(code)


@cache
def _identifier() -> Any:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read once, when numpy is imported
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=LANGUAGE_MIN_CONFIDENCE)
