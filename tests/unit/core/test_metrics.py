"""Counts of many processes in one exposition; tests/integration/test_snapshot.py does it with real ones."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from pymongo.errors import AutoReconnect

from core import metrics
from core.logging import configure_logging
from core.measurements import Measurements

ROOT = Path(__file__).parents[3]
COUNT_SOME = """
import sys
from core import metrics
metrics.upload_bytes.inc(int(sys.argv[1]))
metrics.observe_request("GET", "/documents", 200, 0.03)
print(metrics.render({}, []).decode())
"""


class Rows:
    """Stands for the collection: keeps what is added, fails or hangs when told."""

    def __init__(self) -> None:
        self.series: dict[str, float] = {}
        self.error: Exception | None = None
        self.hangs = False

    def with_options(self, **_: Any) -> "Rows":
        return self

    async def update_one(self, _: Any, update: dict[str, Any], **__: Any) -> None:
        if self.error:
            raise self.error
        for path, value in update["$inc"].items():
            name = path.removeprefix("series.")
            assert "." not in name
            self.series[name] = self.series.get(name, 0) + value

    def find(self, _: Any) -> "Rows":
        return self

    async def to_list(self) -> list[dict[str, Any]]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error:
            raise self.error
        return [{"_id": "counts", "series": self.series}]


def measured(rows: Rows) -> Measurements:
    return Measurements(cast(Any, rows))


def shown(exposition: bytes, start: str) -> list[str]:
    return [line for line in exposition.decode().splitlines() if line.startswith(start)]


async def test_counts_of_workers_stand_beside_those_of_the_api() -> None:
    series = json.dumps(["upload_bytes_total", {}])
    lines = shown(metrics.render({series: 7.0}, []), "upload_bytes_total")
    assert [line.split()[0] for line in lines] == ["upload_bytes_total", 'upload_bytes_total{service="workers"}']
    assert lines[1].endswith(" 7.0")


async def test_what_another_version_counts_is_left_out() -> None:
    assert b"unheard_of" not in metrics.render({json.dumps(["unheard_of_total", {}]): 1.0}, [])


async def test_only_what_was_counted_since_is_added() -> None:
    rows = Rows()
    measurements = measured(rows)
    task = {"task": "documents.reconcile", "outcome": "ok"}
    child = metrics.tasks.labels(**task)
    for times in (2, 3):
        child.inc(times)
        await measurements.add_counts()
    await measurements.add_counts()
    series = json.dumps(["tasks_total", task], sort_keys=True)
    name = 'tasks_total{outcome="ok",service="workers",task="documents.reconcile"}'
    lines = shown(await measurements.exposition(), name)
    assert lines[0].split()[-1] == str(metrics.counted()[series])


async def test_a_count_is_there_before_the_first_of_it() -> None:
    rows = Rows()
    await measured(rows).add_counts()
    assert json.dumps(["catalog_key_switches_total", {}]) in rows.series


async def test_counts_that_could_not_be_added_are_added_with_the_next() -> None:
    rows = Rows()
    measurements = measured(rows)
    series = json.dumps(["upload_bytes_total", {}])
    rows.error = AutoReconnect()
    metrics.upload_bytes.inc(5)
    await measurements.add_counts()
    rows.error = None
    await measurements.add_counts()
    assert rows.series[series] == metrics.counted()[series]


@pytest.mark.parametrize("trouble", ["refused", "hung"])
async def test_without_mongodb_the_api_shows_its_own_counts_soon(trouble: str) -> None:
    rows = Rows()
    rows.hangs, rows.error = trouble == "hung", AutoReconnect()
    started = time.monotonic()
    exposition = await measured(rows).exposition()
    assert time.monotonic() - started < 1.5
    assert shown(exposition, "snapshot_up") == ["snapshot_up 0.0"]
    assert shown(exposition, "upload_bytes_total")


def test_processes_behind_one_port_show_their_sum(tmp_path: Path) -> None:
    env = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    printed = b""
    for size in ("3", "4"):
        printed = subprocess.run(
            [sys.executable, "-c", COUNT_SOME, size], env=env, capture_output=True, check=True
        ).stdout
    assert shown(printed, "upload_bytes_total") == ["upload_bytes_total 7.0"]
    assert shown(printed, "http_request_duration_seconds_count")[0].endswith(" 2.0")


def test_a_line_that_the_level_hides_counts_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    counted: list[tuple[str, Any]] = []
    try:
        configure_logging("api", level="error", count=lambda level, line: counted.append((level, line["event"])))
        log = structlog.get_logger("test")
        log.info("uploaded", size=1)
        log.error("broken")
    finally:
        structlog.reset_defaults()
    assert counted == [("info", "uploaded"), ("error", "broken")]
    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == ["broken"]
