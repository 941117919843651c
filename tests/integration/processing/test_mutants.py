"""Faults that once went unnoticed elsewhere: each is put back, and a test of this folder must see it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from app.documents.adapter import runner, supervisor
from app.documents.domain.processors import DOCX
from tests.corpus import docxs, pdfs
from tests.integration.processing import test_isolation, test_verdicts
from tests.integration.processing.harness import Bench, mutant

Check = Callable[[Path, Bench], object]


def _lying_part(root: Path, bench: Bench) -> None:
    assert bench.run(docxs.lying_part(800, 1_000), DOCX).code == "document_corrupt"


def _form(root: Path, bench: Bench) -> None:
    assert "Filled by hand" in bench.run(pdfs.form("Filled by hand")).extraction.text


def _strict(root: Path, bench: Bench) -> None:
    assert bench.run(docxs.strict(), DOCX).extraction.text == "Strictly speaking\n"


def _limits(root: Path, bench: Bench) -> None:
    test_isolation.check_isolation(test_isolation.probe(root, bench.child))


def _death(root: Path, bench: Bench) -> None:
    test_isolation.check_death(root, bench.child)


IN_THE_CHILD: dict[str, tuple[Check, str, str, str]] = {
    "no limits in the child": (
        _limits, "adapter/child.py", "    confine(*map(int, sys.argv[1:6]))", "    pass",
    ),
    "no death signal": (
        _death, "adapter/child.py", " or prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)", "",
    ),
    "read() without a size": (
        _lying_part, "adapter/docx_archive.py", "part.read(PIECE_BYTES)", "part.read()",
    ),
    "no flatten": (_form, "adapter/read_pdf.py", "            page.flatten()\n", ""),
    "one namespace only": (
        _strict, "adapter/read_docx.py", '    "http://purl.oclc.org/ooxml/wordprocessingml/main",\n', "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("check", "file", "old", "new"), IN_THE_CHILD.values(), ids=list(IN_THE_CHILD))
def test_a_fault_in_the_child_is_seen(check: Check, file: str, old: str, new: str, root: Path) -> None:
    check(root, Bench(root, mutant(root, file)))
    faulty = Bench(root, mutant(root, file, (old, new)))
    with pytest.raises(AssertionError):
        check(root, faulty)


IN_THE_PARENT = {
    "stderr not drained": (
        test_verdicts.test_twenty_megabytes_on_stderr_do_no_harm,
        "selector.register(stream, selectors.EVENT_READ, read)",
        "stream is self.process.stdout and selector.register(stream, selectors.EVENT_READ, read)",
    ),
    "kill at EOF": (
        test_verdicts.test_a_slow_exit_keeps_its_own_verdict,
        "time.monotonic() + EXIT_GRACE_S",
        "time.monotonic() - 1",
    ),
    "wait for ever after EOF": (
        test_verdicts.test_a_child_that_is_done_and_hangs_is_done,
        "time.monotonic() + EXIT_GRACE_S",
        "time.monotonic() + 4",
    ),
}


@pytest.mark.parametrize(("check", "old", "new"), IN_THE_PARENT.values(), ids=list(IN_THE_PARENT))
def test_a_fault_in_the_parent_is_seen(
    check: Callable[[Path], None], old: str, new: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "watch", _patched(root, old, new).watch)
    with pytest.raises(AssertionError):
        check(root)


def _patched(root: Path, old: str, new: str) -> ModuleType:
    source = Path(supervisor.__file__).read_text("utf-8")
    assert source.count(old) == 1
    path = root.parent / "patched_supervisor.py"
    path.write_text(source.replace(old, new), "utf-8")
    spec = importlib.util.spec_from_file_location("patched_supervisor", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look it up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[module.__name__]
    # the lines and the over-limit of the real module, which the collector raises
    vars(module)["OverLimit"] = supervisor.OverLimit
    return module
