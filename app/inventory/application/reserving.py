"""What services do with reservations."""

import asyncio
from collections.abc import Sequence

from app.inventory.application.changes import Changes
from app.inventory.application.products import KnownProducts
from app.inventory.domain.errors import ProductArchived, ReservationClosed
from app.inventory.domain.ports import Reservations, StockLedger
from app.inventory.domain.stock import Command, Ending, Line, Reservation
from core.clock import Clock


class ReservationService:
    def __init__(
        self, products: KnownProducts, stock: StockLedger, reservations: Reservations, changes: Changes, clock: Clock
    ) -> None:
        self._products, self._stock, self._reservations = products, stock, reservations
        self._changes, self._clock = changes, clock

    async def reserve(self, lines: Sequence[Line], ttl_s: int, command: Command) -> Reservation:
        """Raises ProductNotFound, ProductArchived, InsufficientStock, CatalogUnavailable or CatalogRefused."""
        level_ids = [line.level_id for line in lines]

        async def act() -> Reservation:
            products = await asyncio.gather(*map(self._products.get_current, level_ids))
            if any(product.status == "archived" for product in products):
                raise ProductArchived
            return await self._changes.with_what_expired(
                level_ids, lambda: self._reservations.add(lines, ttl_s, command)
            )

        return await self._changes.once(command, self._reservations.find_effect, act)

    async def get(self, reservation_id: str) -> Reservation:
        """Raises ReservationNotFound."""
        found = await self._reservations.get(reservation_id)
        if found.status == "active" and found.expires_at <= self._clock():
            await self._reservations.expire_due([line.level_id for line in found.lines])
            found = await self._reservations.get(reservation_id)
        return found

    async def end(self, reservation_id: str, ending: Ending, command: Command) -> Reservation:
        """Raises ReservationNotFound or ReservationClosed."""
        found = await self.get(reservation_id)
        try:
            if found.status != "active":
                raise ReservationClosed
            async with self._changes.turn():
                return await self._reservations.end(found, ending, command)
        except ReservationClosed:
            effect = await self._stock.find_effect(command.id) if command.repeatable else None
            if effect is None:
                raise
        return await self._reservations.get(reservation_id)
