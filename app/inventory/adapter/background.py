"""What an API process does beside requests: hears whether products lives, copies the catalogue at its first start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from app.inventory.application.products import KnownProducts
from app.inventory.domain.ports import ProductCatalog
from core.errors import AppError

log = structlog.get_logger("inventory")


@asynccontextmanager
async def beside_requests(catalog: ProductCatalog, products: KnownProducts, role: str) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in (catalog.listen(), _walk(products))] if role == "api" else []
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await products.close()
        await catalog.close()


async def _walk(products: KnownProducts) -> None:
    try:
        await products.walk_at_first()
    except AppError as error:  # the nightly walk makes up for it
        log.warning("catalog_not_walked", error=error.code)
