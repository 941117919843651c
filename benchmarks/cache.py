"""What the cache saves and costs: `python -m benchmarks.cache`.

`GET /products/{id}` through the whole application on servers of its own, without HTTP around it: with the cache off,
with a copy there, and after the copy was dropped. Rounds alternate, so that a busy machine slows them all. Shown are
median, fastest and slowest round in microseconds a request, and the median of each round divided by `off` beside it.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from dependency_injector import providers
from pydantic import SecretStr

from app.container import build_container
from app.runtime import migrate, running
from app.server import create_app
from core.cache import Cache
from core.config import Settings
from core.local.stack import LocalServers, start_servers
from core.logging import configure_logging

ROUNDS, EACH = 21, 100
KEY = "key-of-the-benchmark"


async def measure(servers: LocalServers, data_dir: Path) -> dict[str, list[float]]:
    settings = Settings(
        app_env="local",
        app_modules=("products",),
        data_dir=data_dir,
        mongo_url=SecretStr(servers.mongo_url),
        redis_url=SecretStr(servers.redis_url),
        api_key=SecretStr(KEY),
        rate_limit_per_minute=0,  # it asks Redis for every request, with the cache or without
    )
    container = build_container(settings, "api")
    container.products.subscribers.override(())
    async with running(container):
        await migrate(container)
        on, off = [Cache(container.redis_commands(), prefix="bench", ttl_s=seconds) for seconds in (600, 0)]
        app, service = create_app(container), container.products.service()
        product = await service.create("bench", {"sku": "A", "name": "Hammer", "description": "x" * 200})
        path, name = f"/products/{product.id}", ("product", product.id)

        found: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for label, cache, crowd, drop_first in (
                ("off", off, 1, False), ("hit", on, 1, False), ("miss", on, 1, True),
                ("off, 16 at a time", off, 16, False), ("hit, 16 at a time", on, 16, False),
            ):  # fmt: skip
                container.cache.override(providers.Object(cache))
                await ask(app, path)
                seconds, dropping = 0.0, 0.0
                for _ in range(EACH):
                    if drop_first:
                        dropping += await stopwatch(on.drop(name))
                    seconds += await stopwatch(asyncio.gather(*(ask(app, path) for _ in range(crowd))))
                found.setdefault(label, []).append(seconds / EACH / crowd)
                if drop_first:
                    found.setdefault("what a write pays: one drop", []).append(dropping / EACH)
    return found


async def stopwatch(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def ask(app: Any, path: str) -> None:
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path, "query_string": b"",
        "raw_path": path.encode(), "headers": [(b"host", b"bench"), (b"x-api-key", KEY.encode())],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 200, sent


def main() -> None:
    configure_logging("benchmark", level="error", fmt="json")
    with tempfile.TemporaryDirectory() as folder, start_servers(Path(folder)) as servers:
        found = asyncio.run(measure(servers, Path(folder) / "data"))
    for label, rounds in found.items():
        beside = found["off, 16 at a time" if "16" in label else "off"]
        ratio = statistics.median(mine / off for mine, off in zip(rounds, beside, strict=True))
        middle, fastest, slowest = (1e6 * each for each in (statistics.median(rounds), min(rounds), max(rounds)))
        print(f"{label:28} {middle:6.0f} [{fastest:.0f}..{slowest:.0f}]  ×{ratio:.2f}")


if __name__ == "__main__":
    main()
