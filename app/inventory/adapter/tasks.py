"""Celery tasks of the inventory module: each gets a service, calls one method."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import structlog

from app.inventory.adapter.verifying import differences
from core.config import Settings
from core.worker_process import Work

log = structlog.get_logger("inventory")

EXPIRE, RELAY = "inventory.expire_reservations", "inventory.relay"
WALK, VERIFY = "inventory.walk_catalog", "inventory.verify"


async def _verify(_: Any) -> None:
    async for difference in differences():
        if difference is not None:
            log.error("stock_mismatch", **difference)


TASKS: Mapping[str, Work] = {
    EXPIRE: lambda container: container.inventory.reservations().expire_due(),
    RELAY: lambda container: container.inventory.relay().run(),
    WALK: lambda container: container.inventory.products().walk(),
    VERIFY: _verify,
}


def schedule(settings: Settings) -> dict[str, timedelta]:
    return {
        EXPIRE: timedelta(seconds=15),
        RELAY: timedelta(seconds=min(5.0, settings.reconcile_interval_seconds)),
        WALK: timedelta(days=1),
        VERIFY: timedelta(days=1),
    }
