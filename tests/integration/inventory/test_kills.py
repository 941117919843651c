"""Processes that change stock are killed at any moment: level, ledger, reservations and events still agree."""

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path

from app.inventory.adapter.mongo import LevelRecord, MovementRecord
from tests.integration.inventory import mover
from tests.integration.inventory.conftest import Shop
from tests.integration.inventory.test_races import started
from tests.integration.running import ROOT

KILLS = 4


async def verified(shop: Shop, *arguments: str) -> tuple[int, list[dict[str, object]]]:
    """Exit code and output of `main.py inventory verify`."""
    env = os.environ | {
        "MONGO_URL": shop.settings.mongo_url.get_secret_value(), "MONGO_DB": shop.settings.mongo_db,
        "APP_MODULES": "products,inventory",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "main.py", "--env", "test", "inventory", "verify", *arguments,
        cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in printed.splitlines()]


async def test_no_kill_leaves_stock_ledger_and_events_apart(shop: Shop, tmp_path: Path) -> None:
    products = [await shop.product(50) for _ in range(5)]
    settings = mover.kept(shop.settings, tmp_path / "settings.json")
    rows = MovementRecord.get_pymongo_collection()
    for process in await asyncio.gather(*(started(settings, "work", *products) for _ in range(KILLS))):
        before = await rows.count_documents({})
        while await rows.count_documents({}) < before + random.randint(5, 60):
            assert process.returncode is None
            await asyncio.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        await process.communicate()
    movements = [row["_id"] async for row in rows.find({"level_id": {"$in": products}}, {"_id": 1})]
    told = Counter(event["data"].get("movement_id") for event in await shop.events(*products))
    wanted = {f"mov_{level_id}_{int(seq)}" for level_id, seq in (name.split("#") for name in movements)}
    assert set(told) == wanted
    assert set(told.values()) == {1}
    code, lines = await verified(shop)
    assert (code, lines[-1]["mismatches"]) == (0, 0), lines
    assert lines[-1]["levels"] == await LevelRecord.get_pymongo_collection().count_documents({})
    assert len(movements) > KILLS * 5


async def test_verify_names_what_is_wrong_and_changes_nothing(shop: Shop) -> None:
    good, bad = await shop.product(3), await shop.product(3)
    levels = LevelRecord.get_pymongo_collection()
    await levels.update_one({"_id": bad}, {"$inc": {"on_hand": 1, "available": 1}})
    before = await levels.find_one({"_id": bad})
    assert await verified(shop, "--product", good) == (0, [{"levels": 1, "mismatches": 0}])
    code, lines = await verified(shop, "--product", bad)
    assert code == 1
    assert lines == [
        {"product_id": bad, "mismatch": {"ledger on_hand": {"level": 4, "found": 3}}},
        {"levels": 1, "mismatches": 1},
    ]
    assert await levels.find_one({"_id": bad}) == before
    await levels.update_one({"_id": bad}, {"$inc": {"on_hand": -1, "available": -1}})


async def test_verify_sees_a_gap_and_a_reservation_that_holds_nothing(shop: Shop) -> None:
    product = await shop.product(3)
    await shop.reserve({product: 1})
    await MovementRecord.get_pymongo_collection().delete_one({"level_id": product, "seq": 1})
    (found,) = [difference for difference in await shop.wrong() if difference["product_id"] == product]
    assert set(found["mismatch"]) == {"ledger on_hand", "movements"}
    await LevelRecord.get_pymongo_collection().delete_one({"_id": product})
