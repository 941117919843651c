"""Third-party packages: registered by entry point, run in a child like every other processor."""

from __future__ import annotations

import dataclasses
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.documents.adapter.registry import load_processors
from app.documents.domain.processors import DOCX, RegisteredProcessor
from tests.corpus import docxs, pdfs
from tests.integration.processing.harness import Bench, children_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "keywords-processor" / "acme_keywords.py"
Install = Callable[..., RegisteredProcessor]
MODULE = """
import os, time

class Processor:
    name, version, description = "{name}", "1", "For a test"
    content_types = {{"application/pdf"}}
    options, needs, env = None, {needs}, ("VISIBLE",)
    limits = {{"memory_mib": 300, "cpu_s": 20, "wall_s": 30, "stall_s": 20}}

    def process(self, job):
{body}
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a package with an entry point into a folder on the path, and gives its processor as registered."""
    site = tmp_path / "site"
    modules: list[str] = []

    def _install(name: str, source: str, attribute: str = "Processor") -> RegisteredProcessor:
        module = f"acme_{name}"
        info = site / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[dossier.processors]\n{name} = {module}:{attribute}\n")
        (site / f"{module}.py").write_text(source)
        modules.append(module)
        monkeypatch.syspath_prepend(str(site))
        processor = load_processors().find(name)
        assert processor is not None
        return processor

    yield _install
    for module in modules:
        sys.modules.pop(module, None)


def module(name: str, body: str, needs: tuple[str, ...] = ()) -> str:
    return MODULE.format(name=name, needs=needs, body=textwrap.indent(textwrap.dedent(body), " " * 8))


@pytest.mark.parametrize("kind", ["pdf", "docx"])
def test_the_example_finds_keywords_in_what_it_needs(kind: str, install: Install, root: Path) -> None:
    processor = install("keywords", EXAMPLE.read_text(), "Keywords")
    bench = Bench(root, more=(processor,))
    if kind == "pdf":
        ran = bench.run(pdfs.pdf(["invoice invoice contract", "invoice"]), processor="keywords")
    else:
        ran = bench.run(docxs.docx(["invoice invoice contract", "invoice"]), DOCX, processor="keywords")
    assert ran.completed.value() == {"keywords": [["invoice", 3], ["contract", 1]]}
    assert ran.files == {}
    percents = [percent for percent, _ in ran.progress]
    assert max(percent for percent, message in ran.progress if message.startswith("reading")) <= 48
    assert percents[-1] == 90


def test_an_earlier_result_at_hand_is_used(install: Install, root: Path) -> None:
    processor = install("keywords", EXAMPLE.read_text(), "Keywords")

    def prepare(workdir: Path) -> None:
        folder = workdir / "needs" / "extract"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("{}")
        (folder / "pages.ndjson").write_text('{"number": 1, "text": "earlier earlier"}\n')

    ran = Bench(root, more=(processor,)).run(b"unreadable", processor="keywords", prepare=prepare)
    assert ran.completed.value() == {"keywords": [["earlier", 2]]}
    assert ran.completed.usage.children == 1


def test_what_it_needs_fails_first(install: Install, root: Path) -> None:
    processor = install("keywords", EXAMPLE.read_text(), "Keywords")
    ran = Bench(root, more=(processor,)).run(pdfs.encrypted(user="x"), processor="keywords")
    assert ran.code == "document_encrypted"


def test_what_is_made_of_a_partial_result_is_partial(install: Install, root: Path) -> None:
    processor = install("keywords", EXAMPLE.read_text(), "Keywords")
    ran = Bench(root, more=(processor,)).run(pdfs.with_bombs(3, [2]), processor="keywords")
    assert ran.completed.partial
    assert ran.warnings == [(2, "memory_limit")]


def test_the_job_holds_what_it_promises(install: Install, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = """
    open(os.path.join(job.workdir, "cache"), "w").write("x")
    print("libraries may print")
    yield {"ev": "progress", "done": 1, "total": 2, "message": "half\\nway"}
    yield {"ev": "result", "value": {
        "env": sorted(set(os.environ) - {"LC_CTYPE"}), "run_key": job.run_key, "text": job.text(),
        "kind": job.result("extract")["kind"], "type": job.content_type, "read": open(job.path, "rb").read(4).decode(),
    }}
    """
    monkeypatch.setenv("VISIBLE", "yes")
    monkeypatch.setenv("INVISIBLE", "no")
    processor = install("teller", module("teller", body, needs=("extract",)))
    ran = Bench(root, more=(processor,)).run(pdfs.pdf(["one", "two"]), processor="teller")
    assert ran.completed.value() == {
        "env": ["VISIBLE"], "run_key": "run-key", "text": "one\ftwo", "kind": "pdf",
        "type": "application/pdf", "read": "%PDF",
    }  # fmt: skip
    assert (68, "halfway") in ran.progress or (69, "halfway") in ran.progress


def test_it_is_cancelled_inside_a_blocking_call(install: Install, root: Path) -> None:
    bench = Bench(root, more=(install("sleeper", module("sleeper", "time.sleep(60)\nyield {}")),))
    bench.stop_after(0.4)
    ran = bench.run(b"", processor="sleeper")
    assert ran.code == "cancelled"
    assert ran.seconds < 2
    assert children_of(os.getpid()) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("yield {'ev': 'progress', 'done': 1, 'total': 2}\nbytearray(2**29)", "memory_limit"),
        ("yield {'ev': 'fatal', 'code': 'document_corrupt', 'detail': 'as I see it'}", "document_corrupt"),
        ("raise KeyError('unforeseen')\nyield", "parser_crash"),
        ("yield {'ev': 'result', 'value': {'x': float('nan')}}", "parser_crash"),
        ("yield {'ev': 'result', 'value': {}}\nos.abort()", "memory_limit"),
        ("yield from ()", "parser_crash"),
    ],
    ids=["memory", "typed", "exception", "nan", "dies after its result", "nothing"],
)
def test_it_fails_with_a_typed_code(body: str, code: str, install: Install, root: Path) -> None:
    bench = Bench(root, more=(install("failing", module("failing", body)),))
    assert bench.run(b"", processor="failing").code == code


def test_one_that_spins_uses_up_its_cpu_time(install: Install, root: Path) -> None:
    processor = install("spinner", module("spinner", "while True: pass\nyield {}"))
    short = dataclasses.replace(processor, limits=processor.limits._replace(cpu_s=1))
    ran = Bench(root, more=(short,)).run(b"", processor="spinner")
    assert ran.code == "cpu_limit"


def test_it_may_read_pages_as_extract_does(install: Install, root: Path) -> None:
    body = """
    yield {"ev": "open", "kind": "pdf", "pages": 2, "metadata": {}, "remarks": []}
    for number in range(job.start, 3):
        yield {"ev": "page", "number": number, "width": 1, "height": 2, "text": f"seen {number}"}
    """
    ran = Bench(root, more=(install("ocr", module("ocr", body)),)).run(b"", processor="ocr")
    assert ran.extraction.text == "seen 1\fseen 2"
    assert set(ran.files) == {"text.txt", "pages.ndjson"}
