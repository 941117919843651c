"""Prints the characters of a DOCX and by how many MiB this process grew at most while it was read."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

from app.documents.adapter import language
from app.documents.adapter.registry import InstalledProcessors
from app.documents.adapter.runner import ChildProcessRunner
from app.documents.domain.processors import DOCX, Completed, Extraction, RunRequest, StopFlag


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


language.detect("loaded before, once per worker " * 20)
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
with tempfile.TemporaryDirectory() as folder:
    request = RunRequest("extract", Path(sys.argv[1]), DOCX, Path(folder), "key")
    outcome = ChildProcessRunner(InstalledProcessors()).run(request, StopFlag(), lambda percent, message: None)
assert isinstance(outcome, Completed), outcome
assert isinstance(outcome.result, Extraction)
print(outcome.result.characters, (status("VmHWM") - before) / 1024)
