"""The relay: every event reaches every subscriber at least once, in any order of crashes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pymongo.asynchronous.collection import AsyncCollection

from app.documents.adapter.mongo import DocumentDeliveryRecord, DocumentRecord, MongoDocuments
from app.documents.domain.document import Document, uploaded_event
from app.inventory.adapter.mongo import StockDeliveryRecord, StockOutboxRecord
from core.clock import utc_now
from core.events import NotYet, OutboxEvent, Subscriber
from core.ids import new_id
from core.mongo import Row, init_records
from core.relay import TRIES, Relay

pytestmark = pytest.mark.parametrize("database", ["mongodb"], indirect=True)  # leases are the database's own time

UPLOADED = frozenset({"document.uploaded"})


class Listener:
    """Counts what it is told; fails as often as wanted."""

    def __init__(self, name: str = "listener", types: frozenset[str] = UPLOADED, failures: int = 0) -> None:
        self.seen: list[str] = []
        self.failures = failures
        self.subscriber = Subscriber(name, types, self.handle)

    async def handle(self, event: OutboxEvent) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        self.seen.append(event.event_id)


def relay(*listeners: Listener) -> Relay:
    return Relay(DocumentRecord, DocumentDeliveryRecord, [listener.subscriber for listener in listeners])


async def add(count: int = 1) -> list[str]:
    documents, ids = MongoDocuments(utc_now), []
    for _ in range(count):
        now = utc_now()
        document = Document(
            id=new_id("doc"), owner_id="usr_1", filename="a.pdf", content_type="application/pdf", size=1, sha256="0",
            key="k", created_at=now, updated_at=now,
        )  # fmt: skip
        event = uploaded_event(document)
        await documents.add(document.model_copy(update={"seq": 1, "outbox": (event,)}))
        ids.append(event.event_id)
    return ids


async def deliveries(**query: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = await DocumentDeliveryRecord.get_pymongo_collection().find(query).to_list()
    return rows


async def make_due() -> None:
    past = utc_now() - timedelta(seconds=1)
    rows = DocumentDeliveryRecord.get_pymongo_collection()
    await rows.update_many({}, {"$set": {"next_attempt_at": past, "locked_until": past}})


async def left() -> int:
    return int(await DocumentRecord.get_pymongo_collection().count_documents({"outbox.at": {"$exists": True}}))


async def test_each_subscriber_is_told_what_it_listens_to(database: str) -> None:
    ids = await add(5)
    one, other, deaf = Listener("one"), Listener("other"), Listener("deaf", frozenset({"document.deleted"}))
    await relay(one, other, deaf).run()
    assert sorted(one.seen) == sorted(other.seen) == sorted(ids)
    assert deaf.seen == []
    assert await left() == 0
    assert {row["status"] for row in await deliveries()} == {"DELIVERED"}
    await relay(one, other, deaf).run()
    assert len(one.seen) == 5


async def test_an_event_nobody_listens_to_leaves_its_outbox(database: str) -> None:
    await add()
    await relay().run()
    assert (await left(), await deliveries()) == (0, [])


async def test_a_crash_between_copy_and_removal_repeats_a_no_op(database: str) -> None:
    (event,) = await add()
    listener = Listener()
    await relay(listener).run()
    row = (await deliveries())[0]
    await DocumentRecord.get_pymongo_collection().update_one({}, {"$set": {"outbox": [row["event"]]}})
    await relay(listener).run()
    assert listener.seen == [event]
    assert await left() == 0


async def test_a_failed_handler_is_asked_again_later(database: str) -> None:
    (event,) = await add()
    listener = Listener(failures=1)
    await relay(listener).run()
    assert [(row["status"], row["tries"]) for row in await deliveries()] == [("FAILED", 1)]
    await relay(listener).run()
    assert listener.seen == []  # not before its time
    await make_due()
    await relay(listener).run()
    assert listener.seen == [event]
    assert [(row["status"], row["tries"], row["token"]) for row in await deliveries()] == [("DELIVERED", 2, None)]


async def test_a_handler_that_never_succeeds_is_given_up(database: str) -> None:
    await add()
    listener = Listener(failures=1_000)
    for _ in range(TRIES + 2):
        await relay(listener).run()
        await make_due()
    assert [(row["status"], row["tries"]) for row in await deliveries()] == [("EXHAUSTED", TRIES)]


async def test_a_delivery_whose_process_died_is_taken_over(database: str) -> None:
    (event,) = await add()
    listener = Listener()

    async def dies(_: OutboxEvent) -> None:
        raise SystemExit

    dying = Relay(DocumentRecord, DocumentDeliveryRecord, [Subscriber("listener", UPLOADED, dies)])
    with pytest.raises(SystemExit):
        await dying.run()
    await relay(listener).run()
    assert listener.seen == []  # its lease still runs
    await make_due()
    await relay(listener).run()
    assert listener.seen == [event]


async def test_a_relay_that_lost_its_lease_closes_nothing(database: str) -> None:
    (event,) = await add()
    listener, arrived, go_on = Listener(), asyncio.Event(), asyncio.Event()

    async def slow(_: OutboxEvent) -> None:
        arrived.set()
        await go_on.wait()
        raise ConnectionError

    frozen = asyncio.create_task(
        Relay(DocumentRecord, DocumentDeliveryRecord, [Subscriber("listener", UPLOADED, slow)]).run()
    )
    await arrived.wait()
    await make_due()
    await relay(listener).run()
    go_on.set()
    await frozen
    assert listener.seen == [event]
    assert [row["status"] for row in await deliveries()] == ["DELIVERED"]


async def test_many_relays_at_once_tell_everybody(database: str) -> None:
    ids = await add(30)
    listener = Listener()
    await asyncio.gather(*(relay(listener).run() for _ in range(5)))
    assert sorted(listener.seen) == sorted(ids)


async def test_one_aggregate_is_told_at_once_and_trouble_is_left_for_later(database: str) -> None:
    first, second = await add(2)
    listener = Listener()
    document_id = first.removeprefix("evt_").removesuffix("_1")
    await relay(listener).run_for(document_id)
    assert listener.seen == [first]
    await relay(listener).run()
    assert listener.seen == [first, second]


async def test_what_all_took_at_once_leaves_no_row_behind(database: str) -> None:
    (event,) = await add()
    one, other = Listener("one"), Listener("other")
    await relay(one, other).run_for(event.removeprefix("evt_").removesuffix("_1"))
    assert (one.seen, other.seen) == ([event], [event])
    assert (await left(), await deliveries()) == (0, [])


async def test_what_one_refused_at_once_is_told_again(database: str) -> None:
    (event,) = await add()
    one, failing = Listener("one"), Listener("failing", failures=1)
    await relay(one, failing).run_for(event.removeprefix("evt_").removesuffix("_1"))
    assert await left() == 1
    await relay(one, failing).run()
    assert failing.seen == [event]
    assert one.seen == [event, event]


async def test_what_is_passed_on_is_sent_once_and_stays_open(database: str) -> None:
    (event,) = await add()
    sent: list[str] = []

    async def pass_on(event: OutboxEvent) -> None:
        sent.append(event.event_id)
        raise NotYet

    subscriber = Subscriber("elsewhere", UPLOADED, pass_on, passes_on=True)
    passing = Relay(DocumentRecord, DocumentDeliveryRecord, [subscriber])
    await passing.run_for(event.removeprefix("evt_").removesuffix("_1"))
    await passing.run()
    assert sent == [event]
    assert [row["status"] for row in await deliveries()] == ["PENDING"]


@pytest.fixture
async def stock_outbox(database: str) -> AsyncIterator[AsyncCollection[Row]]:
    beside = DocumentRecord.rows().database
    prefix = beside.name.removesuffix("_documents")
    records = {"inventory": (StockOutboxRecord, StockDeliveryRecord)}
    await init_records(beside.client, prefix, records, build_indexes=False)
    yield StockOutboxRecord.rows()
    await beside.client.drop_database(f"{prefix}_inventory")


async def test_of_a_transaction_only_what_was_refused_is_told_again(stock_outbox: AsyncCollection[Row]) -> None:
    events = [
        OutboxEvent(event_id=f"evt_{seq}", seq=seq, type="document.uploaded", at=utc_now(), owner_id="usr_1", data={})
        for seq in (1, 2)
    ]
    await stock_outbox.insert_one({"_id": "command", "outbox": [event.model_dump() for event in events]})
    listener = Listener(failures=1)
    telling = Relay(StockOutboxRecord, StockDeliveryRecord, [listener.subscriber])
    await telling.run_for("command")
    assert listener.seen == ["evt_2"]
    await telling.run()
    assert listener.seen == ["evt_2", "evt_1"]
    assert await stock_outbox.count_documents({}) == 0
