"""What a request costs, beside what it could cost: `make bench`, or `python -m benchmarks.api --only one,list`.

Compared in each round, on the same servers and records, one after the other, forward then backward: Dossier (session
check, rate limit, log line), the plain FastAPI and Beanie application of `benchmarks/baseline/app.py`, a bare ASGI
answer of the same size on the same server, and the driver alone with the same query. The figure is server CPU per
request in microseconds, read from the operating system; a ratio is formed in each round, shown are median and extremes.
What each column means: docs/performance.md.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from app.container import build_container
from app.runtime import running
from benchmarks.inside import middleware
from benchmarks.load import Answered, Apart, Job
from benchmarks.scenarios import Place, Scenario, compare, scenarios
from benchmarks.stack import Api, Server, addresses, cpu_s, family, free_port, settings_for, spread, surroundings
from benchmarks.startup import start_up
from benchmarks.stock import Stock, stocked
from core.local.stack import LocalServers, start_servers
from core.logging import configure_logging

OWNERS = 200
SETTINGS = {"ACCESS_TOKEN_TTL": "86400", "RATE_LIMIT_PER_MINUTE": "1000000000"}  # not 0, which would skip the limiter
PARTS = ("status", "one", "list", "deep", "create", "upload", "middleware", "startup")


@dataclass(frozen=True)
class Round:
    """Microseconds of CPU for one answer: of the server, of MongoDB and of Redis."""

    us: float
    mongo_us: float
    redis_us: float
    answered: Answered


class Bench:
    def __init__(self, servers: LocalServers, place: Place, rounds: int, seconds: float) -> None:
        self._servers, self._place, self._rounds, self._seconds = servers, place, rounds, seconds
        self._generator, self._driver = Apart(), Apart()

    def close(self) -> None:
        self._generator.close()
        self._driver.close()

    def cell(self, scenario: Scenario, stock: Stock, connections: int) -> None:
        """All variants of one scenario; prints a line for each."""
        jobs = scenario.jobs(self._place, stock, connections, self._seconds)
        found: dict[str, list[Round]] = {name: [] for name in jobs}
        for name, job in jobs.items():  # once unmeasured: connections, caches, code that is used for the first time
            self._measured(name, job)
        for number in range(self._rounds):
            for name in jobs if number % 2 == 0 else reversed(jobs):
                found[name].append(self._measured(name, jobs[name]))
        self._report(scenario, connections, found)

    def _measured(self, name: str, job: Job) -> Round:
        process = None if name == "driver" else getattr(self._place, name).process.pid
        watched = (self._servers.pid("mongod"), self._servers.pid("redis"), *([process] if process else []))
        before = [cpu_s(pid) for pid in watched]
        answered = (self._generator if process else self._driver).run(job)
        mongo, redis, *own = (cpu_s(pid) - then for pid, then in zip(watched, before, strict=True))
        share = 1e6 / max(len(answered.times), 1)
        used = own[0] if own else answered.cpu_s
        if not used:
            answered.errors.append("no CPU was used: the wrong process is watched")
        return Round(used * share, mongo * share, redis * share, answered)

    def _report(self, scenario: Scenario, connections: int, found: dict[str, list[Round]]) -> None:
        whole = [
            {name: rounds[number] for name, rounds in found.items()}
            for number in range(self._rounds)
            if not any(rounds[number].answered.errors for rounds in found.values())
        ]
        for error in sorted({text for rounds in found.values() for one in rounds for text in one.answered.errors})[:3]:
            print(f"  void: {error[:200]!r}")
        columns = f"{'µs CPU':>20}{'× dossier':>20}{'mongod':>8}{'redis':>7}{'rate/s':>8}{'p50 ms':>8}{'p99 ms':>8}"
        void = f", {self._rounds - len(whole)} rounds void" if len(whole) < self._rounds else ""
        print(f"\n{f'{scenario.name}, {connections} at a time{void}':<28}{columns}")
        for name in found if whole else ():
            rounds = [one[name] for one in whole]
            ratio = spread(one[name].us / one["dossier"].us for one in whole)
            middles = [statistics.median(getattr(one, what) for one in rounds) for what in ("mongo_us", "redis_us")]
            rate = statistics.median(len(one.answered.times) / one.answered.seconds for one in rounds)
            p50, p99 = (statistics.median(one.answered.quantile_ms(share) for one in rounds) for share in (0.5, 0.99))
            print(
                f"  {name:<26}{spread((one.us for one in rounds), 0):>20}{ratio:>20}{middles[0]:>8.0f}"
                f"{middles[1]:>7.0f}{rate:>8.0f}{p50:>8.1f}{p99:>8.1f}", flush=True,
            )  # fmt: skip


async def prepared(servers: LocalServers, data_dir: Path, documents: int, chosen: set[str], rounds: int) -> Stock:
    settings = settings_for(servers, data_dir, **{name.lower(): int(value) for name, value in SETTINGS.items()})
    async with running(build_container(settings, "api")) as container:
        stock = await stocked(container, documents, max(1, min(OWNERS, documents // 50)))
        if "middleware" in chosen:
            await middleware(container, stock, rounds)
    return stock


def over_http(servers: LocalServers, data_dir: Path, stock: Stock, asked: argparse.Namespace) -> None:
    port = free_port()
    uvicorn = ["-m", "uvicorn", "--loop", "uvloop", "--http", "httptools"]
    env = addresses(servers)
    bare_port = free_port()
    with contextlib.ExitStack() as stack:
        place = Place(
            dossier=stack.enter_context(Api(servers, data_dir, **SETTINGS)),
            baseline=stack.enter_context(
                Server(
                    [*uvicorn, "--port", str(port), "benchmarks.baseline.app:app"], env, port,
                    python=asked.motor or sys.executable,
                )
            ),
            bare=stack.enter_context(
                Server(
                    [*uvicorn, "--no-access-log", "--port", str(bare_port), "benchmarks.baseline.bare:app"], env,
                    bare_port, "/2",
                )
            ),
            mongo_url=servers.mongo_url, mongo_db="dossier",
        )  # fmt: skip
        print(f"Dossier alone is ready after {place.dossier.ready_s:.1f} s")
        bench = Bench(servers, place, asked.rounds, asked.seconds)
        stack.callback(bench.close)
        for scenario in scenarios(place, stock):
            if scenario.name in asked.only:
                compare(place, stock, scenario)
                for connections in scenario.connections:
                    bench.cell(scenario, stock, connections)
        sizes = {name: getattr(place, name).memory("VmHWM") for name in ("dossier", "baseline", "bare")}
        told = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
        print(f"\npeak MiB resident: {told}; processes: {len(family(place.dossier.process.pid))} of Dossier's API")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each variant in each round")
    parser.add_argument("--documents", type=int, default=100_000, help="of all; one more owner has as many again")
    parser.add_argument("--only", type=lambda text: set(text.split(",")), default=set(PARTS), help=", ".join(PARTS))
    parser.add_argument("--motor", help="an interpreter with benchmarks/baseline/motor.txt, for the baseline")
    asked = parser.parse_args()
    if unknown := asked.only - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    load = os.getloadavg()
    configure_logging("benchmark", level="error", fmt="json")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.only != {"startup"}:
            with start_servers(folder / "servers") as servers:
                stock = asyncio.run(prepared(servers, folder / "data", asked.documents, asked.only, asked.rounds))
                if asked.only - {"middleware", "startup"}:
                    over_http(servers, folder / "data", stock, asked)
        if "startup" in asked.only:
            start_up(folder / "own")
    print(f"\n{asked.documents} documents, {asked.rounds} rounds of {asked.seconds} s; {surroundings(load)}")
    print(f"The baseline is on {'Beanie 1.30 and Motor' if asked.motor else 'Beanie 2, since Motor is at its end'}.")


if __name__ == "__main__":
    main()
