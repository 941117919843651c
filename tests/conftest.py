"""Fixtures of every tier. Servers are real and started once per test process; a missing one fails the run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.local.stack import LocalServers, start_servers


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
