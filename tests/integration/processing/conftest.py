from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.processing.harness import Bench


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where workdirs of runs are made."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def bench(root: Path) -> Bench:
    return Bench(root)
