"""Stock of a thousand products as rows, to explain queries on."""

from datetime import datetime, timedelta
from typing import Any

from app.inventory.adapter.mongo import LevelRecord, MovementRecord, ReservationRecord, SnapshotRecord

LEVELS, LOW, ACTIVE, DUE = 1000, 50, 100, 10


async def fill(now: datetime) -> None:
    """Every twentieth level is low; a tenth of the reservations is active, some of those overdue."""
    await LevelRecord.get_pymongo_collection().insert_many(_level(number, now) for number in range(LEVELS))
    await SnapshotRecord.get_pymongo_collection().insert_many(_copy(number, now) for number in range(LEVELS))
    await ReservationRecord.get_pymongo_collection().insert_many(_reservation(number, now) for number in range(LEVELS))
    await MovementRecord.get_pymongo_collection().insert_many(
        _movement(number % 20, seq, now) for seq in range(100) for number in range(20)
    )


def _level(number: int, now: datetime) -> dict[str, Any]:
    reserved, is_low = int(number < ACTIVE), number % (LEVELS // LOW) == 0
    return {
        "_id": f"prd_{number:04d}", "on_hand": 10, "reserved": reserved, "available": 10 - reserved, "seq": 100,
        "version": 100, "threshold": 10 * is_low, "low": is_low, "updated_at": now,
    }  # fmt: skip


def _copy(number: int, now: datetime) -> dict[str, Any]:
    content = {"sku": f"s-{number}", "name": "n", "price": None, "status": "active", "version": 1}
    return {"_id": f"prd_{number:04d}", **content, "as_of": now, "rev": 1}


def _reservation(number: int, now: datetime) -> dict[str, Any]:
    return {
        "_id": f"rsv_{number}", "status": "active" if number < ACTIVE else "committed", "command_id": f"cmd_{number}",
        "lines": [{"level_id": f"prd_{number:04d}", "quantity": 1}], "reference": None, "created_at": now,
        "expires_at": now + timedelta(hours=-1 if number < DUE else 1), "closed_at": None,
    }  # fmt: skip


def _movement(level: int, seq: int, now: datetime) -> dict[str, Any]:
    return {
        "_id": f"prd_{level:04d}#{seq:012d}", "level_id": f"prd_{level:04d}", "seq": seq, "kind": "receive",
        "quantity": 1, "d_on_hand": 1, "d_reserved": 0, "on_hand_after": 1, "reserved_after": 0, "available_after": 1,
        "command_id": f"cmd_{level}_{seq}", "reservation_id": None, "reason": None, "reference": None, "actor": "a",
        "request_id": "r", "at": now,
    }  # fmt: skip
