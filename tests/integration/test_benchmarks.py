"""The benchmarks run from end to end; what they measure here means nothing."""

import re
import subprocess
import sys

import pytest

from tests.integration.running import ROOT

NUMBER = r"\d+(?:\.\d+)?"
SPREAD = rf"{NUMBER} \[{NUMBER}\.\.{NUMBER}\]"
VARIANT = r"^  (?:dossier|baseline|bare|driver|whole|no \w+|neither)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "line", "times"),
    [
        # Four variants of each route, but no driver for an upload; four of the application in process.
        (
            "api --documents 200 --rounds 1 --seconds 0.1 --only deep,create,upload,middleware",
            rf"{VARIANT} +{SPREAD}",
            15,
        ),
        ("processing --pdfs 2 --rounds 1", rf"worker : bare +{SPREAD}", 1),
        ("growth --sizes 200,400", rf"^  reconcile: \w+(?: \w+)?(?: +\d+ +\d+ +{NUMBER}){{2}}", 3),
        ("uploads --rounds 1 --share 0.002", rf"^(?:raw|api|direct|from S3|API) +\d+ +{SPREAD}.* 0 +\d+$", 10),
    ],
    ids=["api", "processing", "growth", "uploads"],
)
def test_a_benchmark_runs_from_end_to_end_and_prints_its_figures(command: str, line: str, times: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *f"benchmarks.{command}".split()], cwd=ROOT, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(re.findall(line, done.stdout, re.MULTILINE)) == times, done.stdout
    assert "void" not in done.stdout
