"""Every number that bounds the reading of documents.

Standard library only: the reading child loads this file by path, see `adapter/child.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

KIB = 1024
MIB = 1024 * KIB

# Archives (DOCX), at upload and again in the child
ARCHIVE_DIRECTORY_BYTES = 1 * MIB
ARCHIVE_ENTRIES = 2_000
ARCHIVE_UNPACKED_BYTES = 200 * MIB
ARCHIVE_XML_PART_BYTES = 64 * MIB
ARCHIVE_RATIO = 200  # ordinary files reach 35
ARCHIVE_RATIO_FROM_BYTES = 1 * MIB
ARCHIVE_INDEX_PART_BYTES = 1 * MIB  # _rels/.rels, [Content_Types].xml, docProps/core.xml
PIECE_BYTES = 64 * KIB

# XML
XML_DEPTH = 256
XML_ELEMENTS = 5_000_000

# Text
PAGES = 5_000
PAGE_CHARACTERS = 1_000_000
DOCUMENT_CHARACTERS = 20_000_000
TEXT_LINE_CHARACTERS = 64 * KIB  # of a DOCX part, in one line: 256 KiB of UTF-8 at most
RESULT_TEXT_CHARACTERS = 100_000
METADATA_CHARACTERS = 1_000
MESSAGE_CHARACTERS = 200
WARNINGS = 100
REMARKS = 10
LOST_PAGES = 8

# Language
LANGUAGE_SAMPLE_CHARACTERS = 20_000
LANGUAGE_MIN_LETTERS = 200
LANGUAGE_MIN_CONFIDENCE = 0.5

# What a child may write to its parent
LINE_BYTES = 16 * MIB
RESULT_BYTES = 4 * MIB
STDERR_KEPT_BYTES = 4 * KIB

# Thumbnail
THUMBNAIL_PIXELS = 400
THUMBNAIL_SCALE = 4
THUMBNAIL_QUALITY = 75
THUMBNAIL_BYTES = 256 * KIB

# Time, in seconds
TICK_S = 0.25
EXIT_GRACE_S = 2.0
LEFTOVER_AFTER_S = 3_600
FETCH_S = 60
STORE_S = 60
SIMULATE_MAX_S = 60

# A needed processor of its own and the dependent one share the maximum run of 600 s
ATTEMPT_WALL_S = 460

SCRATCH_MIB = 256  # a third-party processor may write this much to one file; the readers nothing


class Limits(NamedTuple):
    """What one attempt of a processor may use; `child_cpu_s` and `handover_cpu_s` bound each of its children.

    MiB of address space and of a child's stdout, seconds of CPU, of the wall clock and of silence.
    """

    memory_mib: int = 1_024
    cpu_s: float = 300
    wall_s: float = 300
    stall_s: float = 60
    out_mib: int = 64
    child_cpu_s: float | None = None
    handover_cpu_s: float | None = None


DEFAULT = Limits()
CEILING = Limits(memory_mib=4_096, cpu_s=400, wall_s=400, stall_s=120)

# stall is above the CPU of one child, so a spinning page ends as cpu_limit also on an idle host;
# wall is twice the CPU of the attempt, so a loaded host makes no false time-outs
EXTRACT = Limits(memory_mib=512, cpu_s=30, wall_s=60, stall_s=20, out_mib=256, child_cpu_s=10, handover_cpu_s=8)
SIMULATE = Limits(memory_mib=256, cpu_s=10, wall_s=90, stall_s=20, out_mib=1)
THUMBNAIL = Limits(memory_mib=256, cpu_s=5, wall_s=10, stall_s=10, out_mib=1)


def allowed(asked: Mapping[str, object]) -> Limits:
    """What a third-party processor asked for, completed by the default and cut down to the ceiling.

    Raises ValueError on an unknown name or anything but a positive number.
    """
    names = {"memory_mib", "cpu_s", "wall_s", "stall_s", "out_mib"}
    granted: dict[str, float] = {}
    for name, value in asked.items():
        if name not in names:
            raise ValueError(f"limits.{name} is unknown")
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"limits.{name} must be a positive number")
        cut = min(value, getattr(CEILING, name))
        granted[name] = max(1, int(cut)) if name.endswith("_mib") else cut
    return DEFAULT._replace(**granted)  # type: ignore[arg-type]
