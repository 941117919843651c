"""Every row of the verdict table, by children that misbehave on purpose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.documents.domain.processors import Failed, Stopped
from tests.corpus import pdfs
from tests.integration.processing.harness import Bench, alive, children_of, fake, until

VERDICTS = {
    "exits before it is ready": ("sys.exit(0)", "internal"),
    "fails before it is ready": ("sys.exit(3)", "internal"),
    "crashes before it is ready": ("os.kill(os.getpid(), signal.SIGSEGV)", "parser_crash"),
    "closes its output before it is ready": ("os.close(1); time.sleep(60)", "internal"),
    "says nothing more": ("say('ready'); sys.exit(0)", "parser_crash"),
    "ends with an error": ("say('ready'); sys.exit(1)", "parser_crash"),
    "out of memory": ("say('ready'); sys.exit(71)", "memory_limit"),
    "aborts": ("say('ready'); os.abort()", "memory_limit"),
    "killed by somebody else": ("say('ready'); os.kill(os.getpid(), signal.SIGKILL)", "memory_limit"),
    "cpu signal": ("say('ready'); os.kill(os.getpid(), signal.SIGXCPU)", "cpu_limit"),
    "terminated by somebody else": ("say('ready'); os.kill(os.getpid(), signal.SIGTERM)", "parser_crash"),
    "says why": ("say('ready'); say('fatal', code='document_encrypted', detail='x')", "document_encrypted"),
    "says why and hangs": ("say('ready'); say('fatal', code='timeout', detail='x'); time.sleep(60)", "timeout"),
    "says why and crashes": ("say('ready'); say('fatal', code='internal', detail='x'); os.abort()", "internal"),
    "done without work": ("say('ready'); say('done')", "parser_crash"),
    "an endless line": ("say('ready')\nwhile True: sys.stdout.write('x' * 65536)", "memory_limit"),
    "a flood": ("say('ready')\nwhile True: say('progress', done=1, total=2, message='x' * 200)", "memory_limit"),
    "a fork that holds the pipe": (
        "say('ready')\nif os.fork() == 0: time.sleep(60)\nos._exit(71)",
        "memory_limit",
    ),
}
CRASHES = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")
BAD_LINES = {
    "no JSON": "print('hello')",
    "no object": "print('[]')",
    "not UTF-8": "sys.stdout.buffer.write(b'\\xff\\n')",
    "100 000 brackets": "print('[' * 100_000)",
    "brackets in a value": 'print(\'{"ev":"result","value":{"a":\' + "[" * 100_000)',
    "5 000 digits": 'print(\'{"ev":"open","kind":"pdf","pages":\' + "9" * 5_000 + \',"metadata":{},"remarks":[]}\')',
    "unknown event": "say('hello')",
    "one field too many": "say('done', more=1)",
    "one field too few": "say('page', number=1)",
    "another type": "say('open', kind='pdf', pages='3', metadata={}, remarks=[])",
    "an unknown code": "say('fatal', code='whatever', detail='')",
    "a code of the service": "say('fatal', code='cancelled', detail='')",
    "an unknown remark": "say('open', kind='pdf', pages=3, metadata={}, remarks=['x'])",
    "too many pages": "say('open', kind='pdf', pages=5001, metadata={}, remarks=[])",
    "a NaN": "say('progress', done=float('nan'), total=1)",
    "an infinity in a result": "say('result', value={'a': float('inf')})",
    "a lone surrogate": "say('result', value={'a': chr(0xD800)})",
    "a result of 5 MiB": "say('result', value={'a': 'x' * 5 * 2**20})",
    "ready twice": "say('ready')",
    "a page before the document": "page(1)",
    "two results": "say('result', value={}); say('result', value={})",
    "a result of an opened document": "opened(); say('result', value={})",
    "an image": "say('image', webp='')",
}


@pytest.mark.parametrize(("script", "code"), VERDICTS.values(), ids=list(VERDICTS))
def test_each_end_has_its_code(script: str, code: str, root: Path) -> None:
    ran = fake(root, script, out_mib=20).run(b"")
    assert ran.code == code
    assert ran.seconds < 10
    assert children_of(os.getpid()) == []


@pytest.mark.parametrize("name", CRASHES)
def test_a_crash_is_a_parser_crash(name: str, root: Path) -> None:
    assert fake(root, f"say('ready'); os.kill(os.getpid(), signal.{name})").run(b"").code == "parser_crash"


@pytest.mark.parametrize("script", BAD_LINES.values(), ids=list(BAD_LINES))
def test_a_bad_line_ends_the_child(script: str, root: Path) -> None:
    ran = fake(root, f"say('ready'); {script}; sys.stdout.flush(); time.sleep(60)").run(b"")
    assert ran.code == "parser_crash"
    assert ran.seconds < 10


@pytest.mark.parametrize("page", ["page(1); page(1)", "page(2); page(1)", "page(4)", "page(0)"])
def test_page_numbers_only_grow_and_end_with_the_document(page: str, root: Path) -> None:
    ran = fake(root, f"opened(3); {page}; say('done')").run(b"")
    # a line that lies costs its child; the pages before it stay
    codes = {ran.outcome.code} if isinstance(ran.outcome, Failed) else {code for _, code in ran.warnings}
    assert codes == {"parser_crash"}


def test_a_child_that_spins_ends_by_its_cpu_limit(root: Path) -> None:
    script = """
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]), int(sys.argv[2]) + 1))
    say("ready")
    while True: pass
    """
    ran = fake(root, script, cpu_s=1, stall_s=20, wall_s=20).run(b"")
    assert ran.code == "cpu_limit"


def test_a_child_that_ignores_the_signal_still_ends_by_its_cpu_limit(root: Path) -> None:
    script = """
    import resource
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
    say("ready")
    while True: pass
    """
    assert fake(root, script, cpu_s=1, stall_s=20, wall_s=20).run(b"").code == "cpu_limit"


def test_a_child_that_sleeps_ends_by_the_stall_limit(root: Path) -> None:
    ran = fake(root, "say('ready'); time.sleep(60)", stall_s=0.5).run(b"")
    assert ran.code == "timeout"
    assert ran.seconds < 4


def test_a_child_that_talks_for_ever_ends_by_the_wall(root: Path) -> None:
    script = "say('ready')\nwhile True: say('progress', done=1, total=2); time.sleep(0.05)"
    ran = fake(root, script, wall_s=1, stall_s=5).run(b"")
    assert ran.code == "timeout"
    assert ran.seconds < 4


def test_twenty_megabytes_on_stderr_do_no_harm(root: Path) -> None:
    script = "opened(1); sys.stderr.write('x' * 20_000_000); sys.stderr.flush(); page(1); say('done')"
    assert fake(root, script).run(b"").extraction.text == "words"


def test_a_child_that_is_done_and_hangs_is_done(root: Path) -> None:
    ran = fake(root, "opened(1); page(1); say('done'); time.sleep(60)").run(b"")
    assert ran.extraction.text == "words"
    assert ran.seconds < 4


def test_a_slow_exit_keeps_its_own_verdict(root: Path) -> None:
    ran = fake(root, "say('ready'); os.close(1); os.close(2); time.sleep(0.5); os.abort()").run(b"")
    assert ran.code == "memory_limit"


def test_a_handover_that_does_not_advance_ends_the_run(root: Path) -> None:
    ran = fake(root, "opened(3); say('handover', next=1)").run(b"")
    assert ran.code == "parser_crash"


def test_a_last_page_is_not_lost_when_the_child_dies_after_it(root: Path) -> None:
    ran = fake(root, "opened(2); page(1); page(2); os.abort()").run(b"")
    assert ran.warnings == []
    assert not ran.completed.partial


def test_another_document_in_the_second_child_is_refused(root: Path) -> None:
    script = """
    start = json.load(open(sys.argv[6]))["start"]
    opened(start + 5)
    page(start)
    os.abort()
    """
    ran = fake(root, script).run(b"")
    assert ran.warnings == [(2, "memory_limit"), (3, "parser_crash")]
    assert ran.texts == ["words", "", "", "", "", ""]


@pytest.mark.parametrize("content", [pdfs.recursive_form(), pdfs.exponential_forms()], ids=["recursive", "exponential"])
def test_a_cancel_within_a_page_ends_the_group_at_once(content: bytes, bench: Bench) -> None:
    bench.stop_after(0.4)
    ran = bench.run(content)
    assert ran.code == "cancelled"
    assert ran.seconds < 2
    assert children_of(os.getpid()) == []


def test_a_cancel_reaches_what_the_child_has_started(root: Path) -> None:
    note = root.parent / "grandchild"
    script = f"""
    say("ready")
    if os.fork() == 0:
        open({str(note)!r}, "w").write(str(os.getpid()))
    time.sleep(60)
    """
    bench = fake(root, script)
    bench.stop_after(0.5)
    assert bench.run(b"").code == "cancelled"
    until(lambda: not alive(int(note.read_text())), 1)


@pytest.mark.parametrize("reason", ["lost", "shutdown"])
def test_a_lost_claim_and_a_shutdown_write_nothing(reason: str, root: Path) -> None:
    bench = fake(root, "opened(3); page(1); time.sleep(60)")
    bench.stop_after(0.3, reason)
    assert bench.run(b"").outcome == Stopped(reason)  # type: ignore[arg-type]


def test_simulate_reports_progress_and_returns_a_mock(bench: Bench) -> None:
    ran = bench.run(b"", processor="simulate", options={"duration_seconds": 0.6})
    assert ran.completed.value()["mock"] is True
    assert len({percent for percent, _ in ran.progress}) >= 3
    assert ran.files == {}


def test_simulate_fails_half_way_when_asked(bench: Bench) -> None:
    ran = bench.run(b"", processor="simulate", options={"duration_seconds": 0.6, "fail": True})
    assert ran.code == "internal"
    assert ran.seconds > 0.25
    assert max(percent for percent, _ in ran.progress) < 60
