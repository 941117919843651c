"""Whether levels, ledger and reservations agree: `python main.py inventory verify`, and every night.

It only reads: a repair is an `adjust` with a reason.
"""

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession

from app.inventory.adapter.mongo import ACTIVE, COUNTS, RECORDS, LevelRecord, MovementRecord, ReservationRecord
from app.inventory.domain.stock import is_low
from core.config import ConfigError, Settings
from core.mongo import Row, init_records, make_client


async def verify(settings: Settings, product_id: str | None) -> int:
    """Prints a line of JSON for each level that is wrong, then one that sums up; 1 where one is wrong, else 0."""
    if settings.mongo_url is None:
        raise ConfigError("MONGO_URL: must be set")
    client = make_client(settings.mongo_url.get_secret_value(), in_worker=True)
    levels = wrong = 0
    try:
        await init_records(client, settings.mongo_db, {"inventory": RECORDS}, build_indexes=False)
        async for difference in differences(product_id):
            levels += 1
            if difference is not None:
                wrong += 1
                _print(difference)
    finally:
        await client.close()
    _print({"levels": levels, "mismatches": wrong})
    return 1 if wrong else 0


async def differences(product_id: str | None = None) -> AsyncIterator[Row | None]:
    """For each level what does not agree, or None."""
    levels = LevelRecord.rows()
    async for row in levels.find({} if product_id is None else {"_id": product_id}, {"_id": 1}).sort("_id"):
        # One moment in time for all reads of a level, so that traffic raises no false alarm.
        async with levels.database.client.start_session(snapshot=True) as session:
            difference = await _difference(row["_id"], session)
        yield difference


def _print(line: Row) -> None:
    sys.stdout.write(json.dumps(line) + "\n")


async def _difference(level_id: str, session: AsyncClientSession) -> Row | None:
    level: Any = await LevelRecord.rows().find_one({"_id": level_id}, session=session)
    ledger = await _one(MovementRecord, session, [
        {"$match": {"_id": {"$gt": f"{level_id}#", "$lt": f"{level_id}$"}}},
        {"$group": {
            "_id": None, "on_hand": {"$sum": "$d_on_hand"}, "reserved": {"$sum": "$d_reserved"},
            "movements": {"$sum": 1}, "last_seq": {"$max": "$seq"},
        }},
    ])  # fmt: skip
    promised = await _one(ReservationRecord, session, [
        {"$match": {**ACTIVE, "lines.level_id": level_id}},
        {"$unwind": "$lines"},
        {"$match": {"lines.level_id": level_id}},
        {"$group": {"_id": None, "active": {"$sum": "$lines.quantity"}}},
    ])  # fmt: skip
    pairs = {  # what is found, and what it should be
        "ledger on_hand": (ledger.get("on_hand", 0), level["on_hand"]),
        "ledger reserved": (ledger.get("reserved", 0), level["reserved"]),
        "reserved by active reservations": (promised.get("active", 0), level["reserved"]),
        "movements": (ledger.get("movements", 0), level["seq"]),
        "last seq": (ledger.get("last_seq", 0), level["seq"]),
        "reserved + available": (level["reserved"] + level["available"], level["on_hand"]),
        "low": (is_low(level["available"], level["threshold"]), level["low"]),
        "negative": (min(0, *(level[name] for name in COUNTS)), 0),
    }
    wrong = {name: {"found": found, "level": wanted} for name, (found, wanted) in pairs.items() if found != wanted}
    return {"product_id": level_id, "mismatch": wrong} if wrong else None


async def _one(record: Any, session: AsyncClientSession, pipeline: list[Row]) -> Row:
    cursor = await record.rows().aggregate(pipeline, session=session)
    rows: list[Row] = await cursor.to_list()
    return rows[0] if rows else {}
