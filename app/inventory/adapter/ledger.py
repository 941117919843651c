"""The one way stock changes: a transaction over level, movement and event, within a deadline.

The guard in the filter and the transaction keep stock right over any number of processes. The lock per level is a help
for throughput: it leaves a hot level with one writer per process, which the driver's own back-off absorbs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from typing import TypeVar
from weakref import WeakValueDictionary

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from app.inventory.adapter.mongo import LevelRecord, MovementRecord, StockOutboxRecord
from app.inventory.contracts import CHANGED, LOW
from app.inventory.domain.errors import CommandDone, InsufficientStock, StockBusy
from app.inventory.domain.stock import SIGNS, Command, Kind, Level, Movement, is_low
from core.events import OutboxEvent
from core.ids import new_id
from core.mongo import NOW, Row, TransactionLate, in_transaction, to_model, translated
from core.relay import Relay

T = TypeVar("T")

DEADLINE_S = 3  # of a change, with waiting and repeats


class Transaction:
    """One run of a change; what it did counts when the whole run is committed."""

    def __init__(self, session: AsyncClientSession, command: Command) -> None:
        self.session, self._command = session, command
        self._events: list[OutboxEvent] = []

    async def level(self, level_id: str) -> Level:
        row = await LevelRecord.rows().find_one({"_id": level_id}, session=self.session)
        assert row is not None, "a level is made before anything is asked of it"
        return to_model(Level, row)

    async def move(self, level_id: str, kind: Kind, quantity: int, reservation_id: str | None = None) -> Movement:
        """Raises InsufficientStock."""
        d_on_hand, d_reserved = (sign * quantity for sign in SIGNS[kind])
        deltas = {"on_hand": d_on_hand, "reserved": d_reserved, "available": d_on_hand - d_reserved}
        guard = {name: {"$gte": -delta} for name, delta in deltas.items() if delta < 0}
        sums = {name: {"$add": [f"${name}", delta]} for name, delta in {**deltas, "seq": 1}.items()}
        after = await self._change(level_id, guard, sums)
        if after is None:
            raise InsufficientStock
        row: Row = {
            "_id": f"{level_id}#{after.seq:012d}", "level_id": level_id, "seq": after.seq, "kind": kind,
            "quantity": quantity, "d_on_hand": d_on_hand, "d_reserved": d_reserved, "on_hand_after": after.on_hand,
            "reserved_after": after.reserved, "available_after": after.available, "command_id": self._command.id,
            "reservation_id": reservation_id, "reason": self._command.reason, "reference": self._command.reference,
            "actor": self._command.actor, "request_id": self._command.request_id, "at": after.updated_at,
        }  # fmt: skip
        await MovementRecord.rows().insert_one(row, session=self.session)
        movement = to_model(Movement, row)
        of_movement = movement.model_dump(include={"kind", "quantity", "reservation_id", "reason", "reference"})
        self._tell(CHANGED, after, {"movement_id": movement.movement_id, **of_movement})
        self._tell_if_low(is_low(after.available - deltas["available"], after.threshold), after)
        return movement

    async def set_threshold(self, before: Level, threshold: int) -> Level:
        after = await self._change(before.id, {}, {"threshold": threshold})
        assert after is not None, "it was read in this transaction"
        self._tell_if_low(before.low, after)
        return after

    async def write_events(self, row_id: str) -> None:
        if self._events:
            row = {"_id": row_id, "outbox": [event.model_dump() for event in self._events]}
            await StockOutboxRecord.rows().insert_one(row, session=self.session)

    async def _change(self, level_id: str, guard: Row, changed: Row) -> Level | None:
        counted = {**changed, "version": {"$add": ["$version", 1]}, "updated_at": NOW}
        low = {"$and": [{"$gt": ["$threshold", 0]}, {"$lte": ["$available", "$threshold"]}]}
        row = await LevelRecord.rows().find_one_and_update(
            {"_id": level_id, **guard},
            [{"$set": counted}, {"$set": {"low": low}}],
            return_document=ReturnDocument.AFTER,
            session=self.session,
        )
        return None if row is None else to_model(Level, row)

    def _tell_if_low(self, was_low: bool, after: Level) -> None:
        """An edge: once when the level becomes low, not while it is."""
        if after.low and not was_low:
            self._tell(LOW, after, {})

    def _tell(self, kind: str, after: Level, data: Row) -> None:
        self._events.append(
            OutboxEvent(
                event_id=new_id("evt"), seq=after.seq, type=kind, at=after.updated_at, owner_id=self._command.actor,
                data={"product_id": after.id, **after.model_dump(exclude={"id", "updated_at"}), **data},
            )
        )  # fmt: skip


class Ledger:
    """Runs changes of stock."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, touched: Collection[str], command: Command, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """All of the body or nothing; it runs again where it met another writer. Raises CommandDone, StockBusy or
        MongoUnavailable."""
        row_id = new_id("out")

        async def attempt(session: AsyncClientSession) -> T:
            transaction = Transaction(session, command)
            done = await body(transaction)
            await transaction.write_events(row_id)
            return done

        loop = asyncio.get_running_loop()
        end = loop.time() + DEADLINE_S
        try:
            async with AsyncExitStack() as held:
                async with asyncio.timeout_at(end):
                    for level_id in sorted(touched):
                        await held.enter_async_context(self._locks.setdefault(level_id, asyncio.Lock()))
                done = await in_transaction(LevelRecord.rows(), attempt, end - loop.time())
        except (TimeoutError, TransactionLate) as cause:
            raise StockBusy from cause
        except DuplicateKeyError as cause:
            if "command_id" in (cause.details or {}).get("keyPattern", {}):
                raise CommandDone from cause
            raise
        await self._relay.run_for(row_id)
        return done

    async def demand(self, needed: Mapping[str, int]) -> None:
        """A look before the transaction, so that sold out costs none. Raises InsufficientStock."""
        with translated():
            found = await LevelRecord.rows().find({"_id": {"$in": list(needed)}}, {"available": 1}).to_list()
        if any(row["available"] < needed[row["_id"]] for row in found):
            raise InsufficientStock
