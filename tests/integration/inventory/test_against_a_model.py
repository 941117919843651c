"""Every command in any order against a model that fits on a page, on real MongoDB."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from app.inventory.domain.stock import Command, Kind, Line
from core.errors import AppError
from tests.integration.inventory.conftest import Shop, command
from tests.integration.inventory.test_reservations_api import over

FEW, MANY = st.integers(1, 5), st.integers(1, 20)
PRODUCT = st.integers(0, 1)


@dataclass
class Model:
    """Stock of one product as it should be."""

    on_hand: int = 0
    reserved: int = 0
    threshold: int = 0
    movements: int = 0
    alarms: int = 0
    archived: bool = False

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved

    @property
    def low(self) -> bool:
        return self.threshold > 0 and self.available <= self.threshold

    def change(self, on_hand: int = 0, reserved: int = 0, threshold: int | None = None) -> None:
        was_low = self.low
        self.on_hand, self.reserved = self.on_hand + on_hand, self.reserved + reserved
        self.movements += threshold is None
        self.threshold = self.threshold if threshold is None else threshold
        self.alarms += self.low and not was_low


@dataclass
class Held:
    """A reservation that is active."""

    id: str
    lines: dict[int, int] = field(default_factory=dict)


class Commands(RuleBasedStateMachine):
    shop: ClassVar[Shop]
    loop: ClassVar[asyncio.AbstractEventLoop]

    def __init__(self) -> None:
        super().__init__()
        self.ids = [self.run(self.shop.product()) for _ in range(2)]
        self.models = [Model(), Model()]
        self.active: list[Held] = []
        self.closed: list[str] = []
        self.last: Callable[[], Awaitable[Any]] | None = None
        self.answer: Any = None

    def run(self, work: Awaitable[Any]) -> Any:
        async def refused() -> Any:
            try:
                return await work
            except AppError as error:
                return error.code

        return self.loop.run_until_complete(refused())

    def act(self, make: Callable[[Command], Awaitable[Any]]) -> Any:
        """A command under a key: it may be run again."""
        mine = command(repeatable=True)
        self.last, self.answer = lambda: make(mine), self.run(make(mine))
        if isinstance(self.answer, str):  # refused: it took no effect, and may take one later
            self.last = None
        return self.answer

    @rule(product=PRODUCT, kind=st.sampled_from(["receive", "issue", "adjust"]), quantity=MANY, is_less=st.booleans())
    def move(self, product: int, kind: Kind, quantity: int, is_less: bool) -> None:
        model = self.models[product]
        quantity = -quantity if kind == "adjust" and is_less else quantity
        delta = -quantity if kind == "issue" else quantity
        answer = self.act(lambda mine: self.shop.stocks.move(self.ids[product], kind, quantity, mine))
        if kind == "receive" and model.archived:
            assert answer == "product_archived"
        elif model.available + delta < 0:
            assert answer == "insufficient_stock"
        else:
            model.change(on_hand=delta)
            assert (answer.seq, answer.available_after) == (model.movements, model.available)

    @rule(product=PRODUCT, quantity=MANY, is_expected=st.booleans())
    def set_on_hand(self, product: int, quantity: int, is_expected: bool) -> None:
        model = self.models[product]
        expected = model.on_hand if is_expected else model.on_hand + 1
        answer = self.run(
            self.shop.stocks.set_on_hand(self.ids[product], quantity, command(), expected=expected, versions=None)
        )
        if not is_expected:
            assert answer == "stock_changed"
        elif quantity < model.reserved:
            assert answer == "insufficient_stock"
        elif quantity != model.on_hand:
            model.change(on_hand=quantity - model.on_hand)

    @rule(product=PRODUCT, threshold=st.integers(0, 10))
    def set_threshold(self, product: int, threshold: int) -> None:
        self.run(self.shop.stocks.set_threshold(self.ids[product], threshold, command(), versions=None))
        self.models[product].change(threshold=threshold)

    @rule(lines=st.dictionaries(PRODUCT, FEW, min_size=1))
    def reserve(self, lines: dict[int, int]) -> None:
        wanted = [Line(level_id=self.ids[product], quantity=quantity) for product, quantity in lines.items()]
        answer = self.act(lambda mine: self.shop.reserving.reserve(wanted, 900, mine))
        if any(self.models[product].archived for product in lines):
            assert answer == "product_archived"
        elif any(self.models[product].available < quantity for product, quantity in lines.items()):
            assert answer == "insufficient_stock"
        else:
            self.active.append(Held(answer.id, lines))
            for product, quantity in lines.items():
                self.models[product].change(reserved=quantity)

    @precondition(lambda self: self.active)
    @rule(data=st.data(), ending=st.sampled_from(["commit", "release", "expire"]))
    def end(self, data: st.DataObject, ending: str) -> None:
        held = self.active.pop(data.draw(st.integers(0, len(self.active) - 1)))
        if ending == "expire":
            self.run(over(held.id))
            assert self.run(self.shop.reserving.end(held.id, "commit", command())) == "reservation_closed"
        else:
            answer = self.act(lambda mine: self.shop.reserving.end(held.id, ending, mine))  # type: ignore[arg-type]
            assert answer.status == {"commit": "committed", "release": "released"}[ending]
        self.closed.append(held.id)
        for product, quantity in held.lines.items():
            self.models[product].change(on_hand=-quantity if ending == "commit" else 0, reserved=-quantity)

    @precondition(lambda self: self.closed)
    @rule(data=st.data())
    def end_again(self, data: st.DataObject) -> None:
        reservation_id = data.draw(st.sampled_from(self.closed))
        assert self.run(self.shop.reserving.end(reservation_id, "release", command())) == "reservation_closed"

    @precondition(lambda self: self.last)
    @rule()
    def repeat(self) -> None:
        assert self.last is not None
        again = self.run(self.last())
        assert again.id == self.answer.id

    @rule(product=PRODUCT)
    def archive_or_restore(self, product: int) -> None:
        model = self.models[product]
        model.archived = not model.archived
        status = "archived" if model.archived else "active"
        service = self.shop.container.products.service()
        self.run(service.change("test", self.ids[product], {"status": status}, lambda _: None))

    @invariant()
    def stock_is_as_it_should_be(self) -> None:
        for product_id, model in zip(self.ids, self.models, strict=True):
            level = self.run(self.shop.stocks.get(product_id)).level
            found = (level.on_hand, level.reserved, level.available, level.threshold, level.low, level.seq)
            assert found == (
                model.on_hand, model.reserved, model.available, model.threshold, model.low, model.movements,
            )  # fmt: skip

    def teardown(self) -> None:
        events = self.run(self.shop.events(*self.ids))
        for product_id, model in zip(self.ids, self.models, strict=True):
            told = [event["type"] for event in events if event["data"]["product_id"] == product_id]
            assert (told.count("stock.changed"), told.count("stock.low")) == (model.movements, model.alarms)
        assert self.run(self.shop.wrong()) == []


def test_any_order_of_commands_leaves_what_the_model_says(shop: Shop) -> None:
    Commands.shop, Commands.loop = shop, shop.loop
    few = settings(
        max_examples=12, stateful_step_count=25, deadline=None, derandomize=True,
        suppress_health_check=list(HealthCheck), database=None,
    )  # fmt: skip
    run_state_machine_as_test(Commands, settings=few)
