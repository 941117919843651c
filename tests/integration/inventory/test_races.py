"""Many at once: what is granted is what was there. Counts are asserted, times never."""

import asyncio
import random
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app.inventory.adapter import ledger
from app.inventory.domain.stock import Ending, Line
from core.errors import AppError, Unavailable
from core.ids import new_id
from tests.integration.inventory import mover
from tests.integration.inventory.conftest import Shop, command
from tests.integration.inventory.test_reservations_api import over
from tests.integration.running import ROOT

ENDINGS: tuple[Ending, ...] = ("commit", "release", "expire")


async def started(settings: Path, *arguments: str) -> Process:
    """A process of its own on the same databases, ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", mover.__name__, str(settings), *arguments,
        cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    async for line in process.stdout:
        if line == b"ready\n":
            return process
    raise AssertionError("it did not start")


async def last_line(process: Process) -> bytes:
    printed, _ = await process.communicate(b"go\n")
    return printed.splitlines()[-1]


async def settled(act: Any) -> Any:
    """The result or the refusal; an unknown outcome is asked about again, as a client would."""
    while True:
        try:
            return await act()
        except Unavailable:
            await asyncio.sleep(random.random() / 2)
        except AppError as refusal:
            return refusal.code


async def test_a_thousand_reservations_of_a_hundred_pieces_get_a_hundred(shop: Shop) -> None:
    product = await shop.product(100)
    assert await mover.reserve(shop.container, product, 1000) == 100
    assert await shop.counts(product) == (100, 100, 0)
    assert len(await shop.events(product)) == len(await shop.movements(product)) == 101
    assert await shop.wrong() == []


async def test_a_thousand_reservations_by_four_processes_get_a_hundred(shop: Shop, tmp_path: Path) -> None:
    product = await shop.product(100)
    settings = mover.kept(shop.settings, tmp_path / "settings.json")
    processes = await asyncio.gather(*(started(settings, "reserve", product, "250") for _ in range(4)))
    granted = await asyncio.gather(*map(last_line, processes))
    assert sum(map(int, granted)) == 100
    assert await shop.counts(product) == (100, 100, 0)
    assert len(await shop.events(product)) == len(await shop.movements(product)) == 101
    assert await shop.wrong() == []


@pytest.mark.parametrize("what", ["movement", "reservation"])
async def test_one_key_fifty_times_at_once_has_one_effect(shop: Shop, what: str) -> None:
    product, key = await shop.product(100), new_id("key")

    async def once() -> Any:
        while True:
            found = await (
                shop.move(product, "issue", 2, key) if what == "movement" else shop.reserve({product: 2}, key)
            )
            if found not in ("idempotency_in_progress", "overloaded", "dependency_unavailable"):
                return found
            await asyncio.sleep(random.random() / 10)

    answers = await asyncio.gather(*(once() for _ in range(50)))
    assert len({str(answer) for answer in answers}) == 1, answers
    assert len(await shop.movements(product)) == len(await shop.events(product)) == 2
    assert (await shop.counts(product))[2] == 98


async def test_each_of_two_hundred_reservations_ends_once(shop: Shop) -> None:
    product = await shop.product(2000)
    made = [(await shop.reserving.reserve([Line(level_id=product, quantity=1)], 900, command())).id for _ in range(200)]
    for reservation_id in made[::3]:
        await over(reservation_id)
    reservations, stock = shop.container.inventory.reservations(), shop.container.inventory.stock()

    async def end(reservation_id: str, ending: Ending) -> str:
        mine = command()

        async def act() -> str:
            async with shop.container.inventory.changes().turn():
                await reservations.end(await reservations.get(reservation_id), ending, mine)
            return str(ending)

        outcome = str(await settled(act))
        # Out of time and done all the same: then it is closed by the first try of this very command.
        return str(ending) if await stock.find_effect(mine.id) else outcome

    pairs = [(reservation_id, ending) for reservation_id in made for ending in ENDINGS]
    random.shuffle(pairs)
    outcomes = Counter(await asyncio.gather(*(end(*pair) for pair in pairs)))
    assert sum(outcomes[ending] for ending in ENDINGS) == 200
    assert outcomes["reservation_closed"] == 400
    assert outcomes["expire"] == len(made[::3])
    assert await shop.counts(product) == (2000 - outcomes["commit"], 0, 2000 - outcomes["commit"])
    assert await shop.wrong() == []


async def test_of_thirty_sets_with_one_expectation_one_counts(shop: Shop) -> None:
    product = await shop.product(10)

    async def put(number: int) -> Any:
        return await settled(
            lambda: shop.stocks.set_on_hand(product, 100 + number, command(), expected=10, versions=None)
        )

    outcomes = await asyncio.gather(*(put(number) for number in range(30)))
    assert [outcome for outcome in outcomes if outcome != "stock_changed"] != []
    assert outcomes.count("stock_changed") == 29
    assert len(await shop.movements(product)) == 2


async def test_reservations_of_three_lines_over_ten_products_are_all_or_nothing(shop: Shop) -> None:
    products = [await shop.product(20) for _ in range(10)]

    async def reserve() -> Any:
        lines = [Line(level_id=name, quantity=random.randint(1, 3)) for name in random.sample(products, 3)]
        mine = command(repeatable=True)
        return await settled(lambda: shop.reserving.reserve(lines, 900, mine))

    outcomes = await asyncio.gather(*(reserve() for _ in range(150)))
    granted = [outcome for outcome in outcomes if outcome != "insufficient_stock"]
    wanted = Counter[str]()
    for reservation in granted:
        wanted.update({line.level_id: line.quantity for line in reservation.lines})
    for product in products:
        assert (await shop.counts(product))[1] == wanted[product] <= 20
    assert 0 < len(granted) < 150
    assert await shop.wrong() == []


async def test_a_change_that_gets_no_turn_in_time_may_be_sent_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = await shop.product(10)
    lock = shop.container.inventory.ledger()._locks.setdefault(product, asyncio.Lock())
    key = new_id("key")
    monkeypatch.setattr(ledger, "DEADLINE_S", 0.1)
    async with lock:
        body = {"kind": "issue", "quantity": 4}
        answer = await shop.post(f"/inventory/{product}/movements", json=body, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
    monkeypatch.undo()
    assert await shop.move(product, "issue", 5, key) == "idempotency_mismatch"  # it might still take effect
    assert (await shop.move(product, "issue", 4, key))["on_hand_after"] == 6


async def test_a_change_that_runs_out_of_time_leaves_nothing_locked(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    product, change = await shop.product(10), ledger.Transaction.move
    arrived = 0

    async def slow(self: Any, *arguments: Any) -> Any:
        nonlocal arrived
        moved = await change(self, *arguments)
        arrived += 1
        await asyncio.sleep(60)
        return moved

    monkeypatch.setattr(ledger.Transaction, "move", slow)
    monkeypatch.setattr(ledger, "DEADLINE_S", 0.5)
    assert await shop.move(product, "issue", 1) == "overloaded"
    monkeypatch.undo()
    assert arrived == 1
    assert (await shop.move(product, "issue", 1))["on_hand_after"] == 9


async def test_what_is_sold_out_and_overdue_serves_those_who_ask(shop: Shop) -> None:
    product = await shop.product(5)
    for _ in range(5):
        await over((await shop.reserve({product: 1}))["reservation_id"])
    outcomes = Counter[str]()
    for answer in await asyncio.gather(*(shop.reserve({product: 1}) for _ in range(10))):
        outcomes[answer if isinstance(answer, str) else "granted"] += 1
    assert outcomes == {"granted": 5, "insufficient_stock": 5}
