"""Known weaknesses in the locked packages: `python -m tools.audit`, exit code 1 unless every package was looked up.

pip-audit alone is no gate: where its advisory service is away it skips every package, says "No known vulnerabilities
found" and ends with 0. So what counts here is its report: each package of the locks, none skipped, no finding that
`audit-exceptions.toml` does not name, and no exception whose review date has passed.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from pydantic import BaseModel, ConfigDict

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements-image.txt", "requirements.txt", "requirements-dev.txt")
# The locks are complete and hashed: `--disable-pip` reads them as they are, without an environment to install into.
COMMAND = (
    "-m",
    "pip_audit",
    "--strict",
    "--require-hashes",
    "--disable-pip",
    "--progress-spinner",
    "off",
    "-f",
    "json",
)


class Accepted(BaseModel):
    """A finding that somebody decided to live with until the review."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str
    package: str
    reason: str
    review: date


def read_exceptions(text: str) -> list[Accepted]:
    return [Accepted.model_validate(entry) for entry in tomllib.loads(text).get("exception", [])]


def locked(lines: Iterable[str]) -> set[str]:
    """Names of the packages that a lock installs on this platform."""
    pins = (Requirement(line.rstrip("\\\n ")) for line in lines if re.match(r"[A-Za-z0-9]", line))
    return {pin.name for pin in pins if pin.marker is None or pin.marker.evaluate()}


def problems(report: str, expected: set[str], accepted: Sequence[Accepted], today: date) -> list[str]:
    """Why the audit has not passed, one line each."""
    late = [entry for entry in accepted if entry.review < today]
    found = [f"{entry.id}: its exception was to be reviewed by {entry.review}" for entry in late]
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return [*found, "pip-audit gave no report"]
    for package in packages:
        name = package["name"]
        if "vulns" not in package:
            found.append(f"{name}: skipped, {package.get('skip_reason', 'without a reason')}")
        for finding in package.get("vulns", ()):
            names = {finding["id"], *finding.get("aliases", ())}
            if not any(entry.package == name and entry.id in names for entry in accepted):
                fixed = ", ".join(finding["fix_versions"]) or "no version"
                found.append(f"{name} {package['version']}: {' = '.join(sorted(names))}, fixed in {fixed}")
    missing = expected - {package["name"] for package in packages}
    return found + [f"{name}: not in the report" for name in sorted(missing)]


def main() -> None:
    names = set().union(*(locked((ROOT / lock).read_text("utf-8").splitlines()) for lock in LOCKS))
    accepted = read_exceptions((ROOT / "tools/audit-exceptions.toml").read_text("utf-8"))
    files = [part for lock in LOCKS for part in ("-r", lock)]
    ran = subprocess.run([sys.executable, *COMMAND, *files], cwd=ROOT, stdout=subprocess.PIPE, check=False)  # noqa: S603
    wrong = problems(ran.stdout.decode(), names, accepted, datetime.now(UTC).date())
    if wrong:
        sys.exit("\n".join(["The audit has not passed.", *wrong]))
    sys.stdout.write(f"{len(names)} packages looked up, nothing that is not accepted.\n")


if __name__ == "__main__":
    main()
