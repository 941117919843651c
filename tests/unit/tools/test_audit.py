"""The audit passes only when every package was looked up; what pip-audit said is recorded here, shortened."""

from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from tools import audit
from tools.audit import Accepted, locked, problems, read_exceptions

TODAY = date(2026, 12, 1)
ECDSA = Accepted(id="CVE-2024-23342", package="ecdsa", reason="never imported", review=date(2027, 5, 1))

CLEAN = '{"dependencies": [{"name": "six", "version": "1.17.0", "vulns": []}], "fixes": []}'
KNOWN = """{"dependencies": [
  {"name": "ecdsa", "version": "0.19.2", "vulns": [{"id": "GHSA-wj6h-64fc-37mp", "fix_versions": [],
   "aliases": ["CVE-2024-23342"], "description": "Minerva timing attack on P-256 in python-ecdsa"}]},
  {"name": "six", "version": "1.17.0", "vulns": []}], "fixes": []}"""
UNKNOWN = """{"dependencies": [
  {"name": "python-multipart", "version": "0.0.20", "vulns": [{"id": "PYSEC-2000-1", "fix_versions": ["0.0.31"],
   "aliases": ["CVE-2000-1"], "description": "made up"}]}], "fixes": []}"""
# Without --strict and without its service: exit code 0 and "No known vulnerabilities found".
SKIPPED = """{"dependencies": [
  {"name": "amqp", "skip_reason": "Dependency not found on PyPI and could not be audited: amqp (5.4.2)"},
  {"name": "six", "version": "1.17.0", "vulns": []}], "fixes": []}"""
NOTHING = '{"dependencies": [], "fixes": []}'


def test_a_clean_report_passes() -> None:
    assert problems(CLEAN, {"six"}, [ECDSA], TODAY) == []


def test_a_finding_with_an_exception_passes_by_whatever_of_its_names() -> None:
    assert problems(KNOWN, {"six", "ecdsa"}, [ECDSA], TODAY) == []
    by_id = ECDSA.model_copy(update={"id": "GHSA-wj6h-64fc-37mp"})
    assert problems(KNOWN, {"six", "ecdsa"}, [by_id], TODAY) == []


def test_an_unknown_finding_fails() -> None:
    expected = "python-multipart 0.0.20: CVE-2000-1 = PYSEC-2000-1, fixed in 0.0.31"
    assert problems(UNKNOWN, {"python-multipart"}, [ECDSA], TODAY) == [expected]


def test_an_exception_is_for_one_package_and_one_finding() -> None:
    for changed in ({"package": "six"}, {"id": "CVE-2024-1"}):
        (found,) = problems(KNOWN, set(), [ECDSA.model_copy(update=changed)], TODAY)
        assert found == "ecdsa 0.19.2: CVE-2024-23342 = GHSA-wj6h-64fc-37mp, fixed in no version"


def test_a_skipped_package_fails() -> None:
    (found,) = problems(SKIPPED, {"amqp", "six"}, [ECDSA], TODAY)
    assert found.startswith("amqp: skipped, Dependency not found on PyPI")


def test_a_package_that_the_report_leaves_out_fails() -> None:
    assert problems(CLEAN, {"six", "amqp"}, [], TODAY) == ["amqp: not in the report"]
    assert problems(NOTHING, {"six"}, [], TODAY) == ["six: not in the report"]


@pytest.mark.parametrize("report", ["", "ERROR", "[]", "{}", "null", '{"dependencies": []'])
def test_no_report_fails(report: str) -> None:
    """With --strict, a skip ends pip-audit before it prints one."""
    assert problems(report, set(), [], TODAY) == ["pip-audit gave no report"]


def test_an_exception_ends_after_its_review_date() -> None:
    assert problems(CLEAN, {"six"}, [ECDSA], ECDSA.review) == []
    for report in (CLEAN, KNOWN):
        (found,) = problems(report, set(), [ECDSA], date(2027, 5, 2))
        assert found == "CVE-2024-23342: its exception was to be reviewed by 2027-05-01"


def test_the_exceptions_in_force_are_complete_and_few() -> None:
    accepted = read_exceptions((audit.ROOT / "tools/audit-exceptions.toml").read_text("utf-8"))
    assert [(entry.package, entry.id) for entry in accepted] == [("ecdsa", "CVE-2024-23342")]
    assert all(len(entry.reason) > 20 for entry in accepted)


@pytest.mark.parametrize("left_out", ["id", "package", "reason", "review"])
def test_an_exception_says_what_why_and_until_when(left_out: str) -> None:
    entry = {"id": '"CVE-1"', "package": '"six"', "reason": '"none"', "review": "2027-01-01"}
    text = "[[exception]]\n" + "".join(f"{name} = {value}\n" for name, value in entry.items() if name != left_out)
    with pytest.raises(ValidationError):
        read_exceptions(text)


def test_of_a_lock_what_this_platform_installs_is_expected() -> None:
    lines = ["# made by a tool", "six==1.17.0 \\", "    --hash=sha256:00", "    # via x",
             "colorama==0.4.6 ; sys_platform == 'win32' \\", "uvloop==1 ; sys_platform != 'win32'"]  # fmt: skip
    assert locked(lines) == {"six", "uvloop"}


@pytest.mark.parametrize(("report", "passes"), [(CLEAN, True), (SKIPPED, False), ("", False)])
def test_the_exit_code_says_it(
    report: str, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/audit-exceptions.toml").touch()
    (tmp_path / "lock.txt").write_text("six==1.17.0 \\\n    --hash=sha256:00\n")
    (tmp_path / "report").write_text(report)
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    monkeypatch.setattr(audit, "LOCKS", ("lock.txt",))
    monkeypatch.setattr(audit, "COMMAND", ("-c", "print(open('report').read())"))
    if passes:
        audit.main()
        assert capsys.readouterr().out == "1 packages looked up, nothing that is not accepted.\n"
        return
    with pytest.raises(SystemExit) as ended:
        audit.main()
    assert ended.value.code not in {0, None}
