"""How much of the rate of bare extraction the worker reaches: `python -m benchmarks.processing`.

*Bare* are the same reading children, back to back over local files, in as many processes as the worker has. The worker
does all else as well: claim, fetch, heartbeat, objects, completion, events. Both work on the same PDFs, in turns,
forward then backward; a ratio is formed in each round. Then some attempts run here, one by one, with a stopwatch on
every port: where the time of an attempt goes.
"""

import argparse
import asyncio
import hashlib
import inspect
import io
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cache, partial
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

from dependency_injector import providers

from app.container import Container, build_container
from app.documents.adapter.mongo import DocumentRecord
from app.documents.adapter.registry import load_processors
from app.documents.adapter.runner import ChildProcessRunner, run_workdir
from app.documents.application.library import CheckedUpload, Upload
from app.documents.domain.processors import PDF, Completed, RunRequest, StopFlag
from app.runtime import migrate, running
from benchmarks.stack import addresses, cpu_s, family, settings_for, spread, surroundings, worker
from core.local.stack import LocalServers, start_servers
from core.logging import configure_logging
from tests.corpus.pdfs import pdf

OWNER, POLL_S, LOOKED_AT = "usr_bench", 0.05, 20
SENTENCE = "The supplier delivers the goods in time and the customer pays the invoice within thirty days."


def content(number: int) -> bytes:
    """A PDF of two pages of prose."""
    return pdf(["\n".join([f"document {number}, page {page}", *[SENTENCE] * 20]) for page in (1, 2)])


def extract(path: Path) -> None:
    """One attempt without everything around it; runs in a process of the pool."""
    with run_workdir(Path(tempfile.gettempdir())) as workdir:
        request = RunRequest("extract", path, PDF, workdir, "bench", {})
        outcome = _runner().run(request, StopFlag(), lambda *_: None)
    assert isinstance(outcome, Completed), outcome


@cache
def _runner() -> ChildProcessRunner:
    return ChildProcessRunner(load_processors())  # once for each process, as in a worker


class Worked:
    """The worker at work on uploaded documents."""

    def __init__(self, container: Container, ids: list[str]) -> None:
        self._container, self._ids = container, ids
        self._rows: Any = DocumentRecord.get_pymongo_collection()

    async def run(self) -> None:
        """All of them once more, from the first request to the last completion."""
        for document_id in self._ids:
            await self._container.documents.processing().request(
                OWNER, document_id, processor=None, options={}, force=True, request_id="bench"
            )
        at_work = {"run.state": {"$in": ["queued", "running"]}}
        while left := await self._rows.count_documents(at_work):  # noqa: ASYNC110
            await asyncio.sleep(min(left * POLL_S, 1))  # asking costs what is measured
        if failed := await self._rows.count_documents({"status": {"$ne": "COMPLETED"}}):
            raise SystemExit(f"{failed} documents were not completed")


async def compare(
    container: Container, pool: Pool, pid: int, servers: list[int], files: list[Path], rounds: int
) -> None:
    worked = Worked(container, [await _uploaded(container, file) for file in files])

    async def bare() -> None:
        await asyncio.to_thread(pool.map, extract, files, 1)

    ways = {"bare": bare, "worker": worked.run}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    theirs: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):  # the first is not counted: imports, connections
        for way in ways if number % 2 == 0 else reversed(ways):
            before, servers_before, started = _cpu_of(pid, way), sum(map(cpu_s, servers)), time.perf_counter()
            await ways[way]()
            rates[way].append(len(files) / (time.perf_counter() - started))
            cpu[way].append((_cpu_of(pid, way) - before) / len(files))
            theirs[way].append((sum(map(cpu_s, servers)) - servers_before) / len(files))
    print(f"\n{len(files)} PDFs, {os.cpu_count()} slots{'documents/s':>24}{'CPU s each':>24}{'of the servers':>24}")
    for way in ways:
        columns = (spread(values[way][1:], 3) for values in (rates, cpu, theirs))
        print(f"  {way:<22}" + "".join(f"{column:>24}" for column in columns))
    ratio = spread(mine / bare for mine, bare in zip(rates["worker"][1:], rates["bare"][1:], strict=True))
    print(f"  worker : bare         {ratio:>24}   (target: at least 0.80)")
    sizes = ", ".join(f"{process.memory_info().rss / 2**20:.0f}" for process in family(pid))
    print(f"  MiB resident, worker and its children: {sizes}")


def _cpu_of(pid: int, way: str) -> float:
    pool = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    return sum(map(cpu_s, [pid] if way == "worker" else pool))


async def _uploaded(container: Container, file: Path) -> str:
    data = file.read_bytes()  # noqa: ASYNC240
    checked = CheckedUpload(PDF, len(data), hashlib.sha256(data).hexdigest())
    document, _ = await container.documents.library().upload(
        OWNER, Upload(io.BytesIO(data), "bench.pdf", checked, None, None, {})
    )
    return str(document.id)


class Stopwatch:
    """Stands in front of a port and adds up how long each of its methods takes."""

    def __init__(self, part: Any, name: str, spent: dict[str, float]) -> None:
        self._part, self._name, self._spent = part, name, spent

    def __getattr__(self, method: str) -> Any:
        call, label = getattr(self._part, method), f"{self._name}.{method}"
        if inspect.iscoroutinefunction(call):
            return partial(self._awaited, call, label)
        return partial(self._called, call, label)

    async def _awaited(self, call: Callable[..., Any], label: str, *given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return await call(*given, **named)
        finally:
            self._spent[label] += time.perf_counter() - started

    def _called(self, call: Callable[..., Any], label: str, *given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return call(*given, **named)
        finally:
            self._spent[label] += time.perf_counter() - started


async def look_inside(container: Container, files: list[Path]) -> None:
    """Prints where the time of an attempt goes; nobody else works meanwhile."""
    spent: dict[str, float] = defaultdict(float)
    module = container.documents
    for name in ("runs", "files", "runner", "relay"):
        provider = getattr(module, name)
        provider.override(providers.Object(Stopwatch(provider(), name, spent)))
    attempts, whole = module.attempts(), list[float]()
    for file in files:
        document_id = await _uploaded(container, file)
        queued = await module.runs().request(
            document_id, OWNER, processor="extract", options={}, force=False, request_id="bench"
        )
        started = time.perf_counter()
        await attempts.run(document_id, queued.run.attempt)
        whole.append(time.perf_counter() - started)
    attempts.close()
    print(f"\nwhere an attempt's time goes, ms of {len(files)} attempts, one at a time (puts run side by side)")
    print(f"  {'whole attempt':<22}{1000 * statistics.fmean(whole):>8.1f}")
    for label in sorted(spent, key=lambda each: -spent[each]):
        if label not in {"runs.request", "files.open"}:
            print(f"  {label:<22}{1000 * spent[label] / len(files):>8.1f}")


async def measure(servers: LocalServers, folder: Path, count: int, rounds: int) -> None:
    settings = settings_for(servers, folder / "data")
    files = [folder / f"{number}.pdf" for number in range(count)]
    for number, file in enumerate(files):
        file.write_bytes(content(number))
    async with running(build_container(settings, "api")) as container:
        await migrate(container)
        slots = os.cpu_count() or 1
        with (
            worker({**addresses(servers), "DATA_DIR": str(folder / "data")}, slots) as process,
            multiprocessing.get_context("spawn").Pool(slots) as pool,
        ):
            pids = [servers.pid(name) for name in ("mongod", "redis", "s3")]
            await compare(container, pool, process.pid, pids, files, rounds)
        await look_inside(container, files[:LOOKED_AT])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--pdfs", type=int, default=200)
    asked = parser.parse_args()
    load = os.getloadavg()
    configure_logging("benchmark", level="error", fmt="json")
    with tempfile.TemporaryDirectory() as name, start_servers(Path(name) / "servers") as servers:
        asyncio.run(measure(servers, Path(name), asked.pdfs, asked.rounds))
    print(f"\n{asked.rounds} rounds; {surroundings(load)}")


if __name__ == "__main__":
    main()
