"""What a child cannot do, and that it never outlives its worker."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from app.documents.adapter.registry import SIMULATE
from app.documents.adapter.runner import sweep_workdirs
from app.documents.domain import limits
from tests.integration.processing.harness import Bench, alive, children_of, mutant, until

REPOSITORY = Path(__file__).parents[3]
PROBE = '''
import os


def process(job):
    """Tries what a reader must not be able to do, and tells."""
    allowed = [line.split("  ") for line in open("/proc/self/limits")]
    value = {
        "environment": dict(os.environ),
        "opened": [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")],
        "limits": {words[0]: [word.strip() for word in words[1:] if word.strip()][0] for words in allowed[1:]},
        "status": open("/proc/self/status").read(),
        "session": os.getsid(0) == os.getpid(),
    }
    try:
        with open("written", "wb") as file:
            file.write(b"x")
        value["wrote"] = True
    except OSError:
        value["wrote"] = os.path.getsize("written") > 0
    if os.geteuid() == 0:  # the limit does not hold for root, and the image does not run as root
        os.setgid(65534)
        os.setuid(65534)
    try:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        value["forked"] = True
    except OSError:
        value["forked"] = False
    yield {"ev": "result", "value": value}
'''


def probe(root: Path, child: Path | None = None) -> dict[str, Any]:
    """What a child with the limits of the built-in processors can do."""
    child = child or mutant(root, "adapter/simulate.py")
    (child.parent / "probe.py").write_text(PROBE)
    processor = dataclasses.replace(SIMULATE, entries=dict.fromkeys(SIMULATE.entries, "probe.py:process"))
    return Bench(root, child, (processor,)).run(b"", processor="simulate").completed.value()


def test_a_child_sees_nothing_and_can_change_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "hush")
    with (root.parent / "open-in-the-worker").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        found = probe(root)
    check_isolation(found)


def check_isolation(found: dict[str, Any]) -> None:
    assert set(found["environment"]) <= {"LC_CTYPE"}  # set by the interpreter itself, PEP 538
    assert not [target for target in found["opened"] if "open-in-the-worker" in target]
    assert found["forked"] is False
    assert found["wrote"] is False
    assert found["session"] is True
    assert "NoNewPrivs:\t1" in found["status"]
    expected = {
        "Max address space": str(SIMULATE.limits.memory_mib * limits.MIB),
        "Max cpu time": "10",
        "Max file size": "0",
        "Max open files": "32",
        "Max core file size": "0",
        "Max processes": "0",
    }
    assert {name: found["limits"][name] for name in expected} == expected


def test_nothing_of_the_project_is_on_the_path_of_a_child(root: Path) -> None:
    child = mutant(root, "adapter/simulate.py")
    (child.parent / "probe.py").write_text(
        "import sys\ndef process(job):\n yield {'ev': 'result', 'value': {'path': sys.path}}"
    )
    processor = dataclasses.replace(SIMULATE, entries=dict.fromkeys(SIMULATE.entries, "probe.py:process"))
    path = Bench(root, child, (processor,)).run(b"", processor="simulate").completed.value()["path"]
    assert not [one for one in path if one == "" or Path(one) in (child.parent, REPOSITORY, Path.cwd())]


READ_PARENT = """
import ctypes, os, sys
sys.path.insert(0, {repository!r})
from app.documents.adapter.supervisor import harden_worker
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable, as a process that has changed no ids is
{harden}
if os.fork() == 0:
    try:
        print("SECRET" if "hush" in open(f"/proc/{{os.getppid()}}/environ").read() else "empty", flush=True)
    except PermissionError:
        print("refused", flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize(("harden", "seen"), [("", "SECRET"), ("harden_worker()", "refused")])
def test_the_environment_of_a_hardened_worker_is_closed_to_its_children(harden: str, seen: str) -> None:
    script = READ_PARENT.format(repository=str(REPOSITORY), harden=harden)
    ran = subprocess.run(
        [sys.executable, "-c", script], env={"TOKEN": "hush"}, capture_output=True, text=True, timeout=20, check=True
    )
    assert ran.stdout.strip() == seen


WORKER = """
import sys, tempfile
from pathlib import Path
sys.path.insert(0, {repository!r})
from app.documents.adapter.registry import InstalledProcessors
from app.documents.adapter.runner import ChildProcessRunner
from app.documents.domain.processors import PDF, RunRequest, StopFlag

def report(percent, message):
    print(percent, flush=True)

folder = Path({folder!r})
request = RunRequest("simulate", folder / "none", PDF, folder, "key", {{}})
ChildProcessRunner(InstalledProcessors(), child=Path({child!r})).run(request, StopFlag(), report)
"""


def test_a_child_dies_with_its_worker(root: Path) -> None:
    check_death(root, mutant(root, "adapter/simulate.py"))


def check_death(root: Path, program: Path) -> None:
    # silent in mid-page: one that writes would soon meet its closed pipe
    (program.parent / "simulate.py").write_text(
        "import time\ndef process(job):\n yield {'ev': 'progress', 'done': 1, 'total': 2}\n time.sleep(6)"
    )
    script = WORKER.format(repository=str(REPOSITORY), folder=str(root), child=str(program))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        while int(worker.stdout.readline()) < 6:  # the child is at work
            pass
        (child,) = children_of(worker.pid)
        worker.send_signal(signal.SIGKILL)
        worker.wait(5)
    until(lambda: not alive(child), 1)


def test_a_child_whose_parent_is_gone_before_it_looks_leaves(root: Path) -> None:
    job = root / "job.json"
    job.write_text("{}")
    command = [sys.executable, "-I", "-B", str(Bench(root).child), str(2**29), "5", "0", "1", "1", str(job)]
    ran = subprocess.run(command, capture_output=True, timeout=10, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, b"", b"")


def test_a_starting_worker_removes_old_leftovers_only(root: Path) -> None:
    for name, age in (("dossier-run-old", 3_700), ("dossier-run-new", 3_500), ("other", 9_000)):
        (root / name / "scratch").mkdir(parents=True)
        os.utime(root / name, (time.time() - age, time.time() - age))
    assert sweep_workdirs(root) == 1
    assert sorted(path.name for path in root.iterdir()) == ["dossier-run-new", "other"]


def test_leftovers_may_vanish_while_a_worker_starts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "dossier-run-old").mkdir()

    def gone(path: Path) -> os.stat_result:
        raise FileNotFoundError(path.name)

    monkeypatch.setattr(Path, "lstat", gone)
    assert sweep_workdirs(root) == 0
