"""Fixtures of every tier. Servers are real and started once per test process; a missing one fails the run."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.local.stack import LocalServers, start_servers
from tests.clients import PASSWORD, PRIVATE_TOKEN

# What every test signs in with, tokens, presigned queries: nothing that runs may print them.
SECRETS = re.compile(rf"{PASSWORD}|{PRIVATE_TOKEN}|eyJ[\w-]{{10,}}\.[\w-]+\.[\w-]+|X-Amz-Signature=\w|whsec_\w")
_leaks: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Looks for secrets in whatever a test made the application print."""
    printed = "".join(text for name, text in report.sections if name.startswith("Captured"))
    if SECRETS.search(printed):
        _leaks.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for nodeid in dict.fromkeys(_leaks):
        terminalreporter.write_line(f"SECRET PRINTED by {nodeid}", red=True)


@pytest.fixture(autouse=True)
def _environment_of_its_own() -> Iterator[None]:
    """The command line writes what it is told into the environment; the next test shall not find it there."""
    before = {name: os.environ.get(name) for name in ("APP_ENV", "APP_MODULES", "DATA_DIR")}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """MongoDB (replica set), Redis and S3 on free ports."""
    with start_servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A P-256 key file."""
    from core.security.keys import ensure_local_signing_key

    return ensure_local_signing_key(tmp_path_factory.mktemp("keys"))
