"""Processors: the built-in ones, those of packages, and packages that stop the start."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.documents.adapter.registry import EXTRACT, SIMULATE, BrokenProcessorPackage, load_processors
from app.documents.domain import limits
from app.documents.domain.processors import DOCX, PDF, SENTENCES, ProcessingError

Install = Callable[[str], None]
GOOD = """
from pydantic import BaseModel, ConfigDict

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = 3

class Loose(BaseModel):
    count: int = 3

class Processor:
    name, version, description = "acme", "2.1", "Does something"
    content_types = frozenset({"application/pdf"})
    options, needs, env = Options, ("extract",), ("LLM_API_KEY",)
    limits = {"memory_mib": 100_000, "cpu_s": 20, "wall_s": 30.5}

    def process(self, job):
        yield {}
"""
BROKEN = {
    "cannot be imported": ("from pydantic", "import nothing_of_this_name\nfrom pydantic"),
    "leaves at import": ("from pydantic", "raise SystemExit(0)\nfrom pydantic"),
    "fails in many lines": ("from pydantic", "raise RuntimeError('one\\ntwo')\nfrom pydantic"),
    "has no such class": ("class Processor", "class Other"),
    "lacks an attribute": ("needs, env", "needs_, env"),
    "takes a name": ('"acme"', '"extract"'),
    "has another name than its entry point": ('"acme"', '"other"'),
    "has a bad name": ('"acme"', '"Acme!"'),
    "has no version": ('"2.1"', "2.1"),
    "takes nothing": ('{"application/pdf"}', ""),
    "has loose options": ("= Options,", "= Loose,"),
    "has options of another kind": ("= Options,", "= dict,"),
    "has a text for a tuple": ('("LLM_API_KEY",)', '"LLM_API_KEY"'),
    "has a bad variable": ('"LLM_API_KEY"', '"A B"'),
    "has an unknown limit": ('"cpu_s"', '"cpu"'),
    "has a negative limit": ("20", "-20"),
    "has a limit that is no number": ("20", "float('nan')"),
    "has no limits": ('{"memory_mib"', '() and {"memory_mib"'),
    "does nothing": ("def process", "def procesz"),
    "needs somebody unknown": ('("extract",)', '("nobody",)'),
    "needs itself": ('("extract",)', '("acme",)'),
    "needs one that does not take its type": ('"application/pdf"', '"image/png"'),
    "needs too much time with its needs": (
        '("extract",)',
        '("extract", "simulate", "extract", "simulate", "extract", "simulate", "extract")',
    ),
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    def _install(source: str) -> None:
        info = tmp_path / "acme_words-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-words\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text("[dossier.processors]\nacme = acme_words:Processor\n")
        (tmp_path / "acme_words.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))

    yield _install
    sys.modules.pop("acme_words", None)


def test_extract_is_the_first_and_simulate_is_there() -> None:
    assert [one.name for one in load_processors().list()][:2] == ["extract", "simulate"]
    assert load_processors().find("extract") is EXTRACT
    assert load_processors().find("nobody") is None
    assert EXTRACT.content_types == SIMULATE.content_types == {PDF, DOCX}


def test_a_package_is_registered_with_what_it_asks_for_cut_down(install: Install) -> None:
    install(GOOD)
    found = load_processors().find("acme")
    assert found is not None
    assert (found.version, found.description) == ("2.1", "Does something")
    assert (found.needs, found.env) == (("extract",), ("LLM_API_KEY",))
    assert found.content_types == {PDF}
    assert found.limits == limits.Limits(memory_mib=4_096, cpu_s=20, wall_s=30.5, stall_s=60, out_mib=64)
    assert found.checked({}) == {"count": 3}


@pytest.mark.parametrize(("old", "new"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_package_is_named_in_one_line(old: str, new: str, install: Install) -> None:
    assert old in GOOD
    install(GOOD.replace(old, new, 1) if old != "20" else GOOD.replace('"cpu_s": 20', f'"cpu_s": {new}'))
    with pytest.raises(BrokenProcessorPackage) as broken:
        load_processors()
    assert "acme-words 1.5" in str(broken.value)
    assert "\n" not in str(broken.value)


@pytest.mark.parametrize(
    "options", [{"duration_seconds": 61}, {"duration_seconds": -1}, {"duration_seconds": float("nan")}, {"other": 1}]
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SIMULATE.checked(options)
    with pytest.raises(ValidationError):
        EXTRACT.checked({"any": 1})
    assert SIMULATE.checked({}) == {"duration_seconds": 2.0, "fail": False}


def test_every_code_has_a_sentence_and_only_passing_troubles_are_retryable() -> None:
    errors = [ProcessingError.of(code) for code in SENTENCES]
    assert len(errors) == 11
    assert {error.code for error in errors if error.retryable} == {
        "timeout", "cancelled", "storage_unavailable", "worker_lost", "internal",
    }  # fmt: skip
    assert ProcessingError.of("storage_unavailable", retryable=False).retryable is False


def test_limits_leave_room_for_each_other() -> None:
    extract = limits.EXTRACT
    assert extract.child_cpu_s is not None
    assert extract.handover_cpu_s is not None
    assert extract.handover_cpu_s < extract.child_cpu_s < extract.stall_s < extract.wall_s
    assert extract.wall_s == 2 * extract.cpu_s
    assert limits.ATTEMPT_WALL_S + limits.FETCH_S + limits.STORE_S < 600
