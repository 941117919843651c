"""Levels, movements and reservations in MongoDB; every change goes through the ledger."""

from collections.abc import Collection, Sequence
from contextlib import suppress

import structlog
from bson import Int64
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from app.inventory.adapter.ledger import Ledger, Transaction
from app.inventory.adapter.mongo import ACTIVE, COUNTS, LevelRecord, MovementRecord, ReservationRecord, page_by_id
from app.inventory.domain.errors import ReservationClosed, ReservationNotFound, StockBusy, StockChanged
from app.inventory.domain.stock import ENDS, SIGNS, Command, Ending, Kind, Level, Line, Movement, Reservation
from core.clock import Clock
from core.errors import PreconditionFailed
from core.ids import new_id
from core.mongo import NOW, READ_MS, Row, find_one, get_one, later, to_model, translated
from core.paging import Page, Position

log = structlog.get_logger("inventory")

BATCH = 200


class MongoStock:
    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock

    async def add(self, level_id: str) -> None:
        zeros = {**dict.fromkeys(COUNTS, Int64(0)), "low": False, "updated_at": self._clock()}
        with translated(), suppress(DuplicateKeyError):  # somebody else was first
            await LevelRecord.rows().update_one({"_id": level_id}, {"$setOnInsert": zeros}, upsert=True)

    async def get(self, level_id: str) -> Level:
        level = await find_one(LevelRecord.rows(), {"_id": level_id}, Level)
        assert level is not None, "whoever asks knows the product, and its level was made before"
        return level

    async def list(self, *, low: bool, after: Position | None, limit: int) -> Page[Level]:
        query: Row = ({"low": True} if low else {}) | ({"_id": {"$lt": after.id}} if after else {})
        return await page_by_id(LevelRecord.rows(), query, limit, Level)

    async def movements(self, level_id: str, after: Position | None, limit: int) -> Page[Movement]:
        query = {"_id": {"$gt": f"{level_id}#", "$lt": after.id if after else f"{level_id}$"}}
        return await page_by_id(MovementRecord.rows(), query, limit, Movement)

    async def find_effect(self, command_id: str) -> Movement | None:
        return await find_one(MovementRecord.rows(), {"command_id": command_id}, Movement)

    async def move(self, level_id: str, kind: Kind, quantity: int, command: Command) -> Movement:
        taken = -quantity * SIGNS[kind][0]
        if taken > 0:
            await self._ledger.demand({level_id: taken})
        return await self._ledger.run([level_id], command, lambda tx: tx.move(level_id, kind, quantity))

    async def set_on_hand(
        self, level_id: str, quantity: int, command: Command, *, expected: int | None, versions: Collection[int] | None
    ) -> Level:
        async def change(tx: Transaction) -> Level:
            before = await tx.level(level_id)
            _demand_version(before, versions)
            if expected is not None and before.on_hand != expected:
                raise StockChanged
            if before.on_hand != quantity:
                await tx.move(level_id, "set", quantity - before.on_hand)
            return await tx.level(level_id)

        return await self._ledger.run([level_id], command, change)

    async def set_threshold(
        self, level_id: str, threshold: int, command: Command, *, versions: Collection[int] | None
    ) -> Level:
        async def change(tx: Transaction) -> Level:
            before = await tx.level(level_id)
            _demand_version(before, versions)
            return before if before.threshold == threshold else await tx.set_threshold(before, threshold)

        return await self._ledger.run([level_id], command, change)


class MongoReservations:
    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock

    async def get(self, reservation_id: str) -> Reservation:
        return await get_one(ReservationRecord.rows(), {"_id": reservation_id}, Reservation, ReservationNotFound)

    async def find_effect(self, command_id: str) -> Reservation | None:
        return await find_one(ReservationRecord.rows(), {"command_id": command_id}, Reservation)

    async def add(self, lines: Sequence[Line], ttl_s: int, command: Command) -> Reservation:
        needed = {line.level_id: line.quantity for line in lines}
        await self._ledger.demand(needed)
        reservation_id = new_id("rsv")
        content = {
            "status": "active", "lines": [line.model_dump() for line in lines], "command_id": command.id,
            "reference": command.reference, "closed_at": None,
        }  # fmt: skip
        dates = {"created_at": NOW, "expires_at": later(ttl_s)}

        async def reserve(tx: Transaction) -> Reservation:
            # An upsert, since an insert cannot ask the database for the time.
            row = await ReservationRecord.rows().find_one_and_update(
                {"_id": reservation_id},
                [{"$set": {**{name: {"$literal": value} for name, value in content.items()}, **dates}}],
                upsert=True,
                return_document=ReturnDocument.AFTER,
                session=tx.session,
            )
            assert row is not None, "it was inserted, or this would not be reached"
            for level_id in sorted(needed):
                await tx.move(level_id, "reserve", needed[level_id], reservation_id)
            return to_model(Reservation, row)

        return await self._ledger.run(needed, command, reserve)

    async def end(self, reservation: Reservation, ending: Ending, command: Command) -> Reservation:
        in_time = {"$lte" if ending == "expire" else "$gt": ["$expires_at", NOW]}
        closed = {"status": ENDS[ending], "closed_at": NOW}

        async def close(tx: Transaction) -> Reservation:
            row = await ReservationRecord.rows().find_one_and_update(
                {"_id": reservation.id, **ACTIVE, "$expr": in_time},
                [{"$set": closed}],
                return_document=ReturnDocument.AFTER,
                session=tx.session,
            )
            if row is None:  # somebody else won: no movement
                raise ReservationClosed
            for line in sorted(reservation.lines, key=lambda line: line.level_id):
                await tx.move(line.level_id, ending, line.quantity, reservation.id)
            return to_model(Reservation, row)

        return await self._ledger.run([line.level_id for line in reservation.lines], command, close)

    async def expire_due(self, level_ids: Collection[str] | None = None) -> None:
        due: Row = {**ACTIVE, "expires_at": {"$lte": self._clock()}}  # candidates: the database's clock decides
        if level_ids is not None:
            due["lines.level_id"] = {"$in": list(level_ids)}
        with translated():
            cursor = ReservationRecord.rows().find(due).sort("expires_at").limit(BATCH)
            rows = await cursor.max_time_ms(READ_MS).to_list()
        for reservation in [to_model(Reservation, row) for row in rows]:
            try:
                await self.end(reservation, "expire", Command(new_id("cmd"), "service:inventory", ""))
            except ReservationClosed:  # by somebody else
                continue
            except StockBusy:  # it stays due; others may have more luck
                log.warning("expiry_postponed", reservation_id=reservation.id)


def _demand_version(level: Level, versions: Collection[int] | None) -> None:
    if versions is not None and level.version not in versions:
        raise PreconditionFailed
