"""`python main.py doctor`: what an operator sees of an inspection."""

import json
import sys
from collections import Counter

from app.documents.application.inspection import Finding, Inspection


async def examine(inspection: Inspection, *, fix: bool) -> int:
    """Prints a line of JSON for each finding, then one that sums up; 0 where all is, or has been put, in order."""
    found, left = Counter[str](), 0

    async def tell(finding: Finding) -> bool:
        is_fixed = fix and await inspection.fix(finding)
        found[finding.kind] += 1
        _print({"finding": finding.kind, "key": finding.key, "fixed": is_fixed})
        return is_fixed

    async for finding in inspection.orphans():
        left += not await tell(finding)
    async for finding in inspection.missing():
        left += not await tell(finding)
    _print({"findings": found.total(), "left": left, **found})
    return 1 if left else 0


def _print(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
