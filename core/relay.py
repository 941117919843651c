"""From outboxes to subscribers, by state: nothing is skipped, whatever commits late or dies in between.

`run_for` calls the subscribers itself and takes out of the outbox what all of them took. For the rest `route` copies
each event into one row per subscriber and then takes it out; a crash between the two repeats a no-op. `deliver` claims
rows and closes each **after** its handler succeeded. So delivery is at least once.
"""

import random
import time
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

import structlog
from pymongo import ASCENDING, DeleteOne, IndexModel, ReturnDocument, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection

from core import tracing
from core.errors import Unavailable
from core.events import NotYet, OutboxEvent, Subscriber
from core.ids import random_token
from core.mongo import NOW, Record, Row, later, translated

log = structlog.get_logger("events")

BATCH, RUN_S = 200, 8.0
LEASE_S = 30
TRIES = 10
BACK_OFF_S, BACK_OFF_MAX_S, BACK_OFF_SPREAD = 5, 6 * 3600, 0.2
KEPT_S = 30 * 24 * 3600  # longer than the longest back-off, else a late relay would revive what is done
OPEN = ("PENDING", "FAILED")
AGAIN_S, GIVEN_UP_S = 30, 7 * 24 * 3600  # what was passed on and not closed: sent again, and no more
OUTBOX_INDEX = IndexModel(  # the relay: events not yet routed
    [("outbox.at", ASCENDING)], name="outbox", partialFilterExpression={"outbox.at": {"$exists": True}}
)
IS_DUE: Row = {
    "status": {"$in": list(OPEN)},
    "$expr": {"$and": [{"$lte": ["$next_attempt_at", NOW]}, {"$lte": ["$locked_until", NOW]}]},
}


def claimed(token: str, lease_s: float) -> list[Row]:
    """The update that takes a due row; whoever else has it by then finds another token."""
    return [{"$set": {"token": token, "tries": {"$add": ["$tries", 1]}, "locked_until": later(lease_s)}}]


class OutboxRecord(Record):
    """Events of a transaction that changes several documents; `_id` is the command's or the first event's id."""

    outbox: tuple[OutboxEvent, ...]

    class Settings:
        name = "outbox"
        indexes: ClassVar = [OUTBOX_INDEX]


class DeliveryRecord(Record):
    """One event for one subscriber; `_id` is `<event_id>:<subscriber>`. Each module has its own collection."""

    subscriber: str
    event: OutboxEvent
    status: str
    tries: int
    next_attempt_at: datetime
    locked_until: datetime | None = None
    token: str | None = None
    closed_at: datetime | None = None

    class Settings:
        name = "deliveries"
        indexes: ClassVar = [
            IndexModel(  # what is due, longest first
                [("next_attempt_at", ASCENDING)], name="due", partialFilterExpression={"status": {"$in": list(OPEN)}}
            ),
            IndexModel([("closed_at", ASCENDING)], name="forget", expireAfterSeconds=KEPT_S),
        ]


class Relay:
    """Moves the events of one collection on; any number of relays may run."""

    def __init__(
        self, source: type[Record], deliveries: type[DeliveryRecord], subscribers: Sequence[Subscriber]
    ) -> None:
        self._source, self._deliveries = source, deliveries
        self._subscribers = {subscriber.name: subscriber for subscriber in subscribers}

    async def run(self) -> None:
        """Everything that waits, for as long as a periodic task may take."""
        deadline = time.monotonic() + RUN_S
        while time.monotonic() < deadline:
            routed = await self._route({"outbox.at": {"$exists": True}})
            if not await self._deliver() and not routed:
                return

    async def run_for(self, aggregate_id: str) -> None:
        """The events of one aggregate, right after its change; what fails here is the next `run`'s."""
        if not self._subscribers:
            return
        try:
            if any(subscriber.passes_on for subscriber in self._subscribers.values()):
                if routed := await self._route({"_id": aggregate_id}):
                    await self._deliver(among=routed)
            else:
                await self._tell(aggregate_id)
        except Unavailable as error:
            log.warning("relay_postponed", error=error.code)

    async def _tell(self, aggregate_id: str) -> None:
        """Without a row for each: four round trips instead of ten for what nearly always succeeds at once."""
        rows: AsyncCollection[Row] = self._source.rows()
        with translated():
            row = await rows.find_one({"_id": aggregate_id}, {"outbox": 1}) or {}
        told = [event["event_id"] for event in row.get("outbox", ()) if await self._told(event)]
        if told:
            with translated():
                await rows.bulk_write([self._taken_out(row, told)])

    async def _told(self, event: Row) -> bool:
        """Whether all who listen took it."""
        took_it = True
        for subscriber in self._listening(event):
            with tracing.work(f"{event['type']} for {subscriber.name}", event.get("trace") or ""):
                try:
                    await subscriber.handle(OutboxEvent.model_validate(event))
                except Exception:
                    log.exception("event_failed", event_id=event["event_id"], subscriber=subscriber.name, tries=0)
                    took_it = False
        return took_it

    async def _route(self, query: Row) -> list[str]:
        """The ids of the deliveries."""
        rows: AsyncCollection[Row] = self._source.rows()
        with translated():
            found = await rows.find(query, {"outbox": 1}).limit(BATCH).to_list()
            copies = {
                id_: copy for row in found for event in row.get("outbox", ()) for id_, copy in self._copies(event)
            }
            if copies:
                await self._deliveries.rows().bulk_write(list(copies.values()), ordered=False)
            done = []
            for row in found:
                routed = [event["event_id"] for event in row.get("outbox", ())]
                if routed or issubclass(self._source, OutboxRecord):
                    done.append(self._taken_out(row, routed))
            if done:
                await rows.bulk_write(done, ordered=False)
        return list(copies)

    def _taken_out(self, row: Row, event_ids: list[str]) -> UpdateOne | DeleteOne:
        if issubclass(self._source, OutboxRecord) and len(event_ids) == len(row.get("outbox", ())):
            return DeleteOne({"_id": row["_id"]})  # it was there for its events alone
        return UpdateOne({"_id": row["_id"]}, {"$pull": {"outbox": {"event_id": {"$in": event_ids}}}})

    def _listening(self, event: Row) -> list[Subscriber]:
        return [subscriber for subscriber in self._subscribers.values() if event["type"] in subscriber.types]

    def _copies(self, event: Row) -> list[tuple[str, UpdateOne]]:
        fresh = {
            "event": event, "status": "PENDING", "tries": 0, "next_attempt_at": event["at"],
            "locked_until": None, "token": None, "closed_at": None,
        }  # fmt: skip
        return [
            (id_, UpdateOne({"_id": id_}, {"$setOnInsert": {**fresh, "subscriber": subscriber.name}}, upsert=True))
            for subscriber in self._listening(event)
            for id_ in [delivery_id(event["event_id"], subscriber.name)]
        ]

    async def _deliver(self, among: Sequence[str] | None = None) -> int:
        """How many were due, a batch at most."""
        if not self._subscribers:
            return 0
        for count in range(BATCH):
            token = random_token()
            row = await self._claim(token, among)
            if row is None:
                return count
            event = row["event"]
            with tracing.work(f"{event['type']} for {row['subscriber']}", event.get("trace") or ""):
                await self._hand_over(row, token)
        return BATCH

    async def _claim(self, token: str, among: Sequence[str] | None = None) -> Row | None:
        due = {"subscriber": {"$in": list(self._subscribers)}, **IS_DUE}
        if among is not None:
            due["_id"] = {"$in": among}
        with translated():
            row: Row | None = await self._deliveries.rows().find_one_and_update(
                due, claimed(token, LEASE_S), sort=[("next_attempt_at", 1)], return_document=ReturnDocument.AFTER
            )
        return row

    async def _hand_over(self, row: Row, token: str) -> None:
        subscriber, tries = self._subscribers[row["subscriber"]], row["tries"]
        told = {"event_id": row["event"]["event_id"], "subscriber": subscriber.name, "tries": tries}
        closed: Row = {"status": "DELIVERED", "closed_at": NOW}
        if tries > TRIES:  # its handler ended our process every time
            closed = {"status": "EXHAUSTED", "closed_at": NOW}
        else:
            try:
                await subscriber.handle(OutboxEvent.model_validate(row["event"]))
            except NotYet:
                closed = _passed_on(tries)
            except Exception:
                log.exception("event_failed", **told)
                pause_s = min(BACK_OFF_S * 4 ** (tries - 1), BACK_OFF_MAX_S)
                spread = 1 + random.uniform(-BACK_OFF_SPREAD, BACK_OFF_SPREAD)  # noqa: S311 – spreads load
                closed = {"status": "FAILED", "next_attempt_at": later(pause_s * spread)}
                if tries == TRIES:
                    closed = {"status": "EXHAUSTED", "closed_at": NOW}
        if closed["status"] == "EXHAUSTED":
            log.error("event_exhausted", **told)
        ours = {"_id": row["_id"], "status": {"$in": list(OPEN)}, "token": token}
        with translated():
            await self._deliveries.rows().update_one(ours, [{"$set": {**closed, "token": None, "locked_until": None}}])

    async def close(self, delivery_id: str) -> None:
        """What another process has done with an event that was passed on to it."""
        done = {"status": "DELIVERED", "closed_at": NOW, "token": None, "locked_until": None}
        with translated():
            still_open = {"_id": delivery_id, "status": {"$in": list(OPEN)}}
            await self._deliveries.rows().update_one(still_open, [{"$set": done}])


def delivery_id(event_id: str, subscriber: str) -> str:
    """One event for one subscriber, however often it is routed."""
    return f"{event_id}:{subscriber}"


def _passed_on(tries: int) -> Row:
    """Open still, and no try of ours; after a week nobody will close it."""
    given_up = {"$lt": ["$event.at", later(-GIVEN_UP_S)]}
    return {
        "status": {"$cond": [given_up, "EXHAUSTED", "PENDING"]},
        "closed_at": {"$cond": [given_up, NOW, None]},
        "next_attempt_at": later(AGAIN_S),
        "tries": tries - 1,
    }
