"""Sending what was found: a few messages of a scan at a time, each until the host takes it or a day has passed."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from app.scans.domain.ports import Callbacks, Outgoing, ScanQueue, Scans
from app.scans.domain.scan import Batch, Scan
from core.clock import Clock
from core.ids import random_token

log = structlog.get_logger("scans")

IN_FLIGHT = 4
TURN = timedelta(seconds=8)  # a last round may take 15 more
A_DAY = timedelta(days=1)
SOON_S = 60  # a repeat that is due later may wait for the periodic task


class Sender:
    """`schedule`: seconds before each attempt; `spread` makes a factor of about one of each of them."""

    def __init__(
        self, scans: Scans, outgoing: Outgoing, callbacks: Callbacks, queue: ScanQueue, clock: Clock,
        schedule: Sequence[float], spread: Callable[[], float],
    ) -> None:  # fmt: skip
        self._scans, self._outgoing, self._callbacks, self._queue = scans, outgoing, callbacks, queue
        self._clock, self._schedule, self._spread = clock, tuple(schedule), spread

    async def run(self, scan_id: str) -> None:
        """One turn; does nothing where another process sends for this scan."""
        token, started = random_token(), self._clock()
        scan = await self._outgoing.hold(scan_id, token)
        while scan and self._clock() - started < TURN and (due := await self._outgoing.due(scan_id, IN_FLIGHT)):
            async with asyncio.TaskGroup() as group:
                for batch in due:
                    group.create_task(self._attempt(scan, batch))
            scan = await self._outgoing.hold(scan_id, token)
            if scan and scan.run.state == "queued":  # it may have waited for us
                self._queue.list(scan)
        if scan is None:
            return
        # In this order: once listing is over, nothing is added to what is counted.
        if scan.run.state is None and await self._scans.unsent(scan_id) == 0:
            await self._outgoing.finish(scan_id)
            return
        await self._outgoing.release(scan_id, token)
        if await self._outgoing.due(scan_id, 1):  # came after we looked, while we kept others away
            self._queue.deliver(scan)

    async def _attempt(self, scan: Scan, batch: Batch) -> None:
        outcome = await self._callbacks.send(scan, batch)
        if outcome.error is None:
            await self._outgoing.close(batch)
            return
        tries = batch.tries + 1
        log.warning("scan_callback_failed", scan_id=scan.id, batch=batch.number, tries=tries, error=outcome.error)
        if tries < len(self._schedule):
            delay_s = max(self._schedule[tries] * self._spread(), outcome.retry_after_s)
            if self._clock() + timedelta(seconds=delay_s) <= batch.created_at + A_DAY:
                await self._outgoing.postpone(batch, delay_s=delay_s, error=outcome.error)
                if delay_s <= SOON_S:
                    self._queue.deliver(scan, delay_s)
                return
        await self._outgoing.give_up(batch, outcome.error)
