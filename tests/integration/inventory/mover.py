"""A process that changes stock, to run beside others and to be killed: `python -m … SETTINGS reserve|work …`."""

import asyncio
import json
import random
import sys
from pathlib import Path

from pydantic import SecretStr

from app.container import Container
from app.inventory.domain.errors import InsufficientStock, ReservationClosed
from app.inventory.domain.stock import Line
from app.runtime import running
from core.config import Settings
from core.errors import Unavailable
from tests.integration.inventory.conftest import built, command


async def reserve(container: Container, product_id: str, attempts: int) -> int:
    """How many of so many reservations of one piece were granted."""
    service = container.inventory.reservation_service()

    async def one() -> bool:
        mine = command(repeatable=True)
        while True:
            try:
                await service.reserve([Line(level_id=product_id, quantity=1)], 900, mine)
            except InsufficientStock:
                return False
            except Unavailable:  # the outcome is unknown: the same command again
                await asyncio.sleep(random.random())
            else:
                return True

    return sum(await asyncio.gather(*(one() for _ in range(attempts))))


async def work(container: Container, product_ids: list[str]) -> None:
    """Everything that moves stock, until killed."""
    stocks, reserving = container.inventory.stock_service(), container.inventory.reservation_service()

    async def one() -> None:
        while True:
            lines = [Line(level_id=name, quantity=random.randint(1, 3)) for name in random.sample(product_ids, 2)]
            try:
                await stocks.move(lines[0].level_id, "receive", 3, command())
                made = await reserving.reserve(lines, 900, command())
                await stocks.move(lines[0].level_id, "issue", 1, command())
                await reserving.end(made.id, random.choice(("commit", "release")), command())
            except (InsufficientStock, ReservationClosed, Unavailable):
                continue

    await asyncio.gather(*(one() for _ in range(8)))


def kept(settings: Settings, path: Path) -> Path:
    """For another process, with its secrets."""
    given = settings.model_dump(include=settings.model_fields_set)
    plain = {name: it.get_secret_value() if isinstance(it, SecretStr) else it for name, it in given.items()}
    path.write_text(json.dumps(plain, default=str))
    return path


async def main(settings: Settings, what: str, *arguments: str) -> None:
    async with running(built(settings)) as container:
        print("ready", flush=True)
        if what == "reserve":
            sys.stdin.readline()  # all of them at once
            print(await reserve(container, arguments[0], int(arguments[1])), flush=True)
        else:
            await work(container, list(arguments))


if __name__ == "__main__":
    asyncio.run(main(Settings.model_validate_json(Path(sys.argv[1]).read_bytes()), *sys.argv[2:]))
