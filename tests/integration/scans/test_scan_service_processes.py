"""The scan service alone, as its own processes: they may be killed at any time."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from app.container import Container
from app.scans.adapter.mongo import ScanBatchRecord, ScanRecord
from core.local.folder import open_folder
from tests.clients import PRIVATE_TOKEN
from tests.integration.faults.process import FULL, Process, many, until
from tests.integration.running import free_port
from tests.integration.scans.conftest import Put
from tests.integration.scans.host import Host, told

OBJECTS, PAGE = many(3_000, 10_000), 1_000
CELERY = ["celery", "--app=app.worker", "--quiet"]
WORKER = [*CELERY, "worker", "--concurrency=2", "--without-gossip", "--without-mingle", "--hostname=scans@%h"]


class Service:
    """API, worker and beat of one scan service."""

    def __init__(self, env: dict[str, str], tmp_path: Path) -> None:
        self._folder, self._env, self._processes = open_folder(tmp_path / "run"), env, list[Process]()
        self.base = f"http://127.0.0.1:{free_port()}"

    async def start(self) -> None:
        port = self.base.rpartition(":")[2]
        self.run("api", ["uvicorn", "--factory", "app.server:from_environment", f"--port={port}", "--no-access-log"])
        self.run("beat", [*CELERY, "beat", "--pidfile="])
        async with httpx.AsyncClient(base_url=self.base) as http:

            async def answers() -> bool:
                self._processes[0].check()
                try:
                    return (await http.get("/health/ready", timeout=2)).status_code == 200
                except httpx.TransportError:
                    return False

            await until(answers, 6, "the API answers")

    def run(self, name: str, command: list[str]) -> Process:
        process = Process(self._folder, f"{name}{len(self._processes)}", command, self._env)
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in self._processes:
            if process.is_running():
                process.kill()

    async def ordered(self, prefix: str) -> str:
        order = {
            "user_id": "7", "folders": [{"folder_id": "1", "source": f"s3://dossier/{prefix}"}], "callback": "default",
        }  # fmt: skip
        async with httpx.AsyncClient(base_url=self.base, headers={"Private-Token": PRIVATE_TOKEN}) as http:
            answer = await http.post("/scans", json=order)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["scan_id"])


@pytest.fixture
async def service(env: dict[str, str], container: Container, tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(env, tmp_path)
    try:
        await service.start()
        yield service
    finally:
        service.end()


@pytest.mark.slow
@pytest.mark.timeout(900)  # most of it is storing so many objects
async def test_workers_that_are_killed_lose_nothing_and_count_nothing_twice(
    service: Service, host: Host, put: Put, prefix: str
) -> None:
    names = [f"{number:05}.{'docx' if number % 3 else 'pdf'}" for number in range(OBJECTS)]
    await put(*names, "notes.txt")
    scan_id = await service.ordered(prefix)
    host.slow_s = 0.2

    async def batches(at_least: int) -> bool:
        row = await ScanRecord.rows().find_one({"_id": scan_id}, {"batches": 1})
        return bool(row and row["batches"] >= at_least)

    for seen in (2, 5) if FULL else (1,):
        worker = service.run("worker", WORKER)
        await until(partial(batches, seen), 6, f"{seen} batches are listed")
        worker.kill()
        assert not await batches(OBJECTS // PAGE), "it was too fast to be killed midway"
    service.run("worker", WORKER)

    async def over() -> bool:
        return await ScanRecord.rows().find_one({"_id": scan_id, "status": "COMPLETED"}) is not None

    await until(over, 12, "the scan is over")
    numbers, paths, ends = told(host.taken())
    assert numbers == list(range(OBJECTS // PAGE))
    assert paths == [prefix + name for name in names]
    assert [(end["total_batches"], end["total_documents"], end["status"]) for end in ends] == [
        (OBJECTS // PAGE, OBJECTS, "COMPLETED")
    ]
    assert await ScanBatchRecord.rows().count_documents({"scan_id": scan_id}) == OBJECTS // PAGE + 1
    async with httpx.AsyncClient(base_url=service.base, headers={"Private-Token": PRIVATE_TOKEN}) as http:
        state = (await http.get(f"/scans/{scan_id}")).json()
    assert (state["status"], state["documents_found"], state["batches_delivered"]) == (
        "COMPLETED",
        OBJECTS,
        OBJECTS // PAGE,
    )
