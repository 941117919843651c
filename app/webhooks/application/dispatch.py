"""Sending what is due: many at a time, few to one receiver, each closed by whoever claimed it."""

import asyncio
import math
from collections.abc import Callable, Sequence

import structlog

from app.webhooks.domain.delivery import Attempt, Delivery, Verdict, judged
from app.webhooks.domain.errors import WebhookNotFound
from app.webhooks.domain.ports import Deliveries, DeliveryQueue, Outbound, Webhooks
from app.webhooks.domain.webhook import IN_FLIGHT, PER_SECOND, Webhook
from core import tracing
from core.clock import Clock
from core.errors import Unavailable
from core.ids import random_token

log = structlog.get_logger("webhooks")

AT_ONCE = 20
LEASE_S = 30  # of a claim; an attempt takes 15 s at most
CLAIMING_S = 8  # then others get the process; with the last attempt it ends within the 25 s of a soft shutdown
LOOK_S = 0.5  # for what came meanwhile
SOON_S = 60  # a repeat that is due later may wait for the periodic task
# With so many at a time, each holding its place so long, nobody is called more often than allowed.
SHORTEST_S = IN_FLIGHT / PER_SECOND


class Dispatch:
    """Any number of them may run, in any number of processes."""

    def __init__(
        self, webhooks: Webhooks, deliveries: Deliveries, outbound: Outbound, queue: DeliveryQueue, clock: Clock,
        schedule: Sequence[float], spread: Callable[[], float],
    ) -> None:  # fmt: skip
        """`schedule`: seconds before each attempt; `spread`: a random factor of about one for each of them."""
        self._webhooks, self._deliveries, self._outbound = webhooks, deliveries, outbound
        self._queue, self._clock, self._schedule, self._spread = queue, clock, schedule, spread
        self._woken = set[int]()  # seconds of the loop's time

    async def wake(self) -> None:
        """Makes up for wake-ups that were lost, and for processes that died."""
        if await self._deliveries.find_due() is not None:
            self._queue.wake()

    async def run(self) -> None:
        """Sends until nothing is due; a receiver that hangs holds up nobody but itself."""
        now = asyncio.get_running_loop().time
        last_claim = now() + CLAIMING_S
        under_way: set[asyncio.Task[None]] = set()
        try:
            while True:
                busy: set[str] = set()
                while len(under_way) < AT_ONCE and now() < last_claim:
                    claimed = await self._claim(busy)
                    if claimed is None:
                        break
                    under_way.add(asyncio.create_task(self._deliver(*claimed)))
                if not under_way:
                    break
                _, under_way = await asyncio.wait(under_way, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await asyncio.gather(*under_way)
        if now() >= last_claim:
            await self.wake()

    async def _claim(self, busy: set[str]) -> tuple[Webhook, Delivery] | None:
        """What has waited longest, of a webhook that has a place; both are held by the same token."""
        while (due := await self._deliveries.find_due(busy)) is not None:
            token = random_token()
            try:
                webhook = await self._webhooks.enter(due.webhook_id, token, lease_s=LEASE_S)
            except WebhookNotFound:
                await self._deliveries.exhaust(due.webhook_id)
                continue
            if webhook is None:
                busy.add(due.webhook_id)
                continue
            delivery = await self._deliveries.claim(due.id, token, lease_s=LEASE_S)
            if delivery is not None:
                return webhook, delivery
            await self._webhooks.leave(webhook.id, token)  # somebody else was faster
        return None

    async def _deliver(self, webhook: Webhook, delivery: Delivery) -> None:
        """What goes wrong here leaves row and place to their leases."""
        told = {"delivery_id": delivery.id, "webhook_id": webhook.id, "event_type": delivery.event_type}
        with tracing.work("webhook", delivery.trace):
            try:
                await self._attempt(webhook, delivery, told)
            except Unavailable as error:
                log.warning("webhook_unsettled", error=error.code, **told)
            except Exception:
                log.exception("webhook_attempt_broken", **told)

    async def _attempt(self, webhook: Webhook, delivery: Delivery, told: dict[str, str]) -> None:
        token, at = delivery.token or "", self._clock()
        if delivery.tries > len(self._schedule):  # every attempt ended its process
            await self._webhooks.leave(webhook.id, token)
            await self._deliveries.close(delivery, None, Verdict("EXHAUSTED"))
            log.info("webhook_attempt", tries=delivery.tries, outcome="EXHAUSTED", error="worker_lost", **told)
            return
        answer, _ = await asyncio.gather(self._outbound.send(webhook, delivery), asyncio.sleep(SHORTEST_S))
        attempt = Attempt(at=at, status_code=answer.status, error=answer.error, duration_ms=answer.duration_ms)
        verdict = judged(answer, delivery.tries, self._schedule, self._spread())
        goes_on = await self._webhooks.leave(webhook.id, token, verdict)
        if not goes_on and verdict.status == "FAILED":
            verdict = Verdict("EXHAUSTED")
        await self._deliveries.close(delivery, attempt, verdict)
        if verdict.status == "FAILED" and verdict.delay_s <= SOON_S:
            self._wake_in(verdict.delay_s)
        if not goes_on:
            log.warning("webhook_disabled", webhook_id=webhook.id)
            await self._deliveries.exhaust(webhook.id)
        log.info("webhook_attempt", tries=delivery.tries, outcome=verdict.status, error=answer.error, **told)

    def _wake_in(self, delay_s: float) -> None:
        """Once for all that is due within the same second."""
        now = asyncio.get_running_loop().time()
        due = math.ceil(now + delay_s)
        if due not in self._woken:
            self._woken = {due, *(second for second in self._woken if second > now)}
            self._queue.wake(due - now)
