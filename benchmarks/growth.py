"""What a page, a document and a round of the reconciler cost as the collection grows: `make bench-growth`.

One owner has 10 000, 100 000, then a million documents, others a tenth of that. The application's own adapters are
called; each query they send is caught on its way and explained, so the counts are those of the real queries: index
keys and documents that MongoDB examined, and milliseconds in the driver (median). None of them may grow.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pymongo import monitoring

from app.container import Container, build_container
from app.documents.adapter.mongo import DocumentRecord
from app.documents.domain.ports import Filters
from app.runtime import migrate, running
from benchmarks.stack import settings_for, surroundings
from benchmarks.stock import START, load
from core.ids import new_id
from core.local.stack import Embedded, start_servers
from core.logging import configure_logging
from core.paging import Position

OWNER, OTHERS = "usr_big", [f"usr_{number}" for number in range(100)]
REPEATS, PAGE, AT_WORK = 30, 50, 100
PARTS = ("find", "filter", "projection", "sort", "limit")
Call = Callable[[], Awaitable[object]]


class Caught(monitoring.CommandListener):
    """The queries that were sent."""

    def __init__(self) -> None:
        self.queries: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name == "find":
            self.queries.append({part: event.command[part] for part in PARTS if part in event.command})

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


class Growth:
    """Figures by call, one column for each size."""

    def __init__(self, container: Container, caught: Caught) -> None:
        self._container, self._caught = container, caught
        self._ids: list[str] = []
        self._loaded = 0
        self.found: dict[str, list[tuple[int, int, float]]] = {}

    async def grow(self, size: int) -> None:
        """Up to so many documents of the owner, every eleventh is somebody else's."""
        new = [(new_id("doc"), OTHERS[number % 100] if number % 11 == 10 else OWNER)
               for number in range(self._loaded, size * 11 // 10)]  # fmt: skip
        await asyncio.to_thread(load, self._container.settings(), new, self._loaded)
        self._loaded += len(new)
        self._ids += [document_id for document_id, owner_id in new if owner_id == OWNER]

    async def measure(self) -> None:
        for name, call in self._calls().items():
            self._caught.queries.clear()
            await call()
            queries = list(self._caught.queries)
            keys, documents = await self._examined(queries)
            times = [await _seconds(call) for _ in range(REPEATS)]
            self.found.setdefault(name, []).append((keys, documents, 1000 * statistics.median(times)))

    async def put_to_work(self) -> None:
        """Some documents wait, some are being processed, as at any moment."""
        runs = self._container.documents.runs()
        for number, document_id in enumerate(self._ids[:AT_WORK]):
            queued = await runs.request(
                document_id, OWNER, processor="extract", options={}, force=True, request_id="bench"
            )
            if number % 2:
                await runs.claim(document_id, queued.run.attempt, token=f"{number:032}", worker="bench")

    def _calls(self) -> dict[str, Call]:
        documents, runs = self._container.documents.documents(), self._container.documents.runs()
        nine_tenths = START + timedelta(milliseconds=self._loaded // 10)
        deep, one = Position(nine_tenths, "doc_z"), self._ids[len(self._ids) // 2]
        filters = {
            "status": Filters(status="COMPLETED"),
            "folder": Filters(folder_id=f"fld_{1:026}"),
            "external id": Filters(external_id="order-77"),
            "file name": Filters(filename="invoice-77.pdf"),
            "status and folder": Filters(status="COMPLETED", folder_id=f"fld_{1:026}"),
            "status and folder, none": Filters(status="UPLOADED", folder_id=f"fld_{1:026}"),
        }
        calls: dict[str, Call] = {
            "get": lambda: documents.get(one, OWNER),
            "first page": lambda: documents.list(OWNER, Filters(), None, PAGE),
            "deep page": lambda: documents.list(OWNER, Filters(), deep, PAGE),
        }
        for name, chosen in filters.items():
            calls[f"page by {name}"] = lambda chosen=chosen: documents.list(OWNER, chosen, None, PAGE)  # type: ignore[misc]
            calls[f"deep page by {name}"] = lambda chosen=chosen: documents.list(OWNER, chosen, deep, PAGE)  # type: ignore[misc]
        return calls | {
            "find by sha256": lambda: documents.find_by_sha256(f"{77:064x}", OWNER),
            "folder is empty": lambda: documents.has_documents("fld_none", OWNER),
            "reconcile: overdue": lambda: runs.end_overdue(200),
            "reconcile: dead": lambda: runs.free_dead(200),
            "reconcile: to wake": lambda: runs.wake_due(200),
            "relay": self._container.documents.relay().run,
            "removed": lambda: documents.removed(200),
        }

    async def _examined(self, queries: Sequence[dict[str, Any]]) -> tuple[int, int]:
        database = DocumentRecord.get_pymongo_collection().database
        keys = documents = 0
        for query in queries:
            plan = await database.command("explain", query, verbosity="executionStats")
            keys += plan["executionStats"]["totalKeysExamined"]
            documents += plan["executionStats"]["totalDocsExamined"]
        return keys, documents


async def _seconds(call: Call) -> float:
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


async def measure(container: Container, caught: Caught, sizes: Sequence[int]) -> None:
    await migrate(container)
    growth = Growth(container, caught)
    for size in sizes:
        started = time.monotonic()
        await growth.grow(size)
        if size == sizes[0]:
            await growth.put_to_work()
        print(f"{size} documents of one owner: loaded in {time.monotonic() - started:.0f} s", flush=True)
        await growth.measure()
    print(f"\n{'keys, documents, ms':<36}" + "".join(f"{size:>24}" for size in sizes) + "   last : first, ms")
    for name, columns in growth.found.items():
        cells = "".join(f"{keys:>9}{documents:>7}{ms:>8.2f}" for keys, documents, ms in columns)
        grows = "   grows" if columns[-1][0] > max(columns[0][0], PAGE + 1) + 10 else ""
        print(f"  {name:<34}{cells}{columns[-1][2] / columns[0][2]:>12.2f}{grows}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",")],
                        default=[10_000, 100_000, 1_000_000])  # fmt: skip
    asked = parser.parse_args()
    load_before = os.getloadavg()
    configure_logging("benchmark", level="error", fmt="json")
    caught = Caught()
    monitoring.register(caught)

    async def run(container: Container) -> None:
        async with running(container):
            await measure(container, caught, asked.sizes)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with start_servers(folder / "servers", Embedded()) as servers:
            settings = settings_for(servers, folder / "data", app_modules=("users", "folders", "documents"),
                                    processing_lease_seconds=86_400, reconcile_interval_seconds=86_400)  # fmt: skip
            asyncio.run(run(build_container(settings, "worker")))
            used = sum(file.stat().st_size for file in (folder / "servers" / "mongo").rglob("*") if file.is_file())
    print(f"\n{used / 2**30:.1f} GiB on disk; {surroundings(load_before)}")


if __name__ == "__main__":
    main()
