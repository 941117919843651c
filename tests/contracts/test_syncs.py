"""What a host makes of a scan service's messages, in whatever order and however often they come. On real MongoDB."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from app.documents.adapter.mongo import DocumentRecord
from app.documents.adapter.mongo_scanned import MongoScannedDocuments
from app.folders.adapter.callbacks import ScanCallbacks
from app.folders.adapter.mongo import MongoFolders
from app.folders.adapter.mongo_syncs import MongoSyncs, SyncRecord
from app.folders.application.syncs import SyncService
from app.folders.contracts import ScanCounts, ScannedFile, ScannedFolder
from app.folders.domain.errors import ScanRefused, SyncNotFound
from app.folders.domain.folder import Folder
from app.folders.domain.sync import Sync, SyncErrorCode
from app.scans.contracts import ScanOrder, ScanStatus
from core.clock import utc_now
from core.errors import Invalid, Unavailable
from core.ids import new_id
from core.mongo import MongoUnavailable
from core.security.signing import SignatureExpired, SignatureInvalid, sign

pytestmark = [pytest.mark.parametrize("database", ["mongodb"], indirect=True), pytest.mark.timeout(300)]

OWNER, KEY, SCAN = "usr_1", b"k" * 32, "scn_1"
BATCH = 1000


class Scans:
    """A scan service that answers as told."""

    def __init__(self) -> None:
        self.orders: list[tuple[ScanOrder, str]] = []
        self.failure: Exception | None = None
        self.now: ScanStatus = "RUNNING"

    async def order(self, order: ScanOrder, command_id: str) -> str:
        self.orders.append((order, command_id))
        if self.failure:
            raise self.failure
        return SCAN

    async def status(self, scan_id: str) -> ScanStatus:
        if self.failure:
            raise self.failure
        return self.now


class Nobody:
    """Neither a queue nor a listener does anything here."""

    def wake(self, sync: Sync) -> None:
        """The test orders by itself."""

    async def run_for(self, aggregate_id: str) -> None:
        """Events stay in the outbox."""


class Crashing(MongoScannedDocuments):
    """Ends its process where it is told to."""

    crash: str | None = None

    async def take(self, folder: ScannedFolder, files: Sequence[ScannedFile]) -> int:
        skipped = await super().take(folder, files)
        self._maybe("taken")
        return skipped

    async def sweep(self, folder: ScannedFolder) -> None:
        await super().sweep(folder)
        self._maybe("swept")

    def _maybe(self, place: str) -> None:
        if self.crash == place:
            raise MongoUnavailable


class Host:
    def __init__(self) -> None:
        self.scans, self.documents, self.now = Scans(), Crashing(utc_now, 2**40), utc_now
        world: Any = (MongoSyncs(), MongoFolders(), self.documents, self.scans, Nobody(), Nobody(), lambda: self.now())
        self.syncs = SyncService(*world)
        self.callbacks = ScanCallbacks(self.syncs, [KEY], utc_now)

    async def folder(self, source: str = "s3://imports/in/") -> str:
        folder = Folder(
            id=new_id("fld"), owner_id=OWNER, name=new_id("n"), source=source, version=1, created_at=utc_now(),
            updated_at=utc_now(),
        )  # fmt: skip
        return (await MongoFolders().add(folder)).id

    async def started(self, *folder_ids: str) -> str:
        sync = await self.syncs.start(OWNER, folder_ids or None, request_id="r")
        await self.syncs.order(sync.id)
        return sync.id

    async def send(self, message: dict[str, Any]) -> bool:
        body = json.dumps(message).encode()
        return await self.callbacks.receive(signed(body), body)

    async def sync(self, sync_id: str) -> tuple[Sync, ScanCounts]:
        return await self.syncs.get(OWNER, sync_id)

    async def attended(self) -> None:
        """What the reconciler does once its time has come."""
        await SyncRecord.get_pymongo_collection().update_many(
            {}, [{"$set": {"next_at": "$created_at", "locked_until": None}}]
        )
        await self.syncs.reconcile()

    async def later(self, passed: timedelta) -> None:
        self.now = lambda: utc_now() + passed
        await self.attended()


@pytest.fixture
def host(database: str) -> Host:
    return Host()


def signed(body: bytes, key: bytes = KEY, at: float | None = None) -> list[tuple[bytes, bytes]]:
    headers = sign([key], "msg_1", int(at or time.time()), body)
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def entry(number: int, etag: str = "e1") -> dict[str, Any]:
    return {
        "path": f"in/{number}.pdf", "filename": f"{number}.pdf", "size": 1, "etag": etag,
        "content_type": "application/pdf", "last_modified": "2026-01-31T10:00:00Z",
    }  # fmt: skip


def batch(
    sync_id: str, folder_id: str, number: int, documents: Iterable[dict[str, Any]] = (), **other: Any
) -> dict[str, Any]:
    return {
        "type": "scan.batch", "scan_id": SCAN, "correlation_id": sync_id, "folder_id": folder_id, "batch": number,
        "documents": list(documents), **other,
    }  # fmt: skip


def marker(sync_id: str, total_batches: int, **other: Any) -> dict[str, Any]:
    return {
        "type": "scan.completed", "scan_id": SCAN, "correlation_id": sync_id, "status": "COMPLETED",
        "total_batches": total_batches, "total_documents": 0, "failed_folders": [], **other,
    }  # fmt: skip


def messages(sync_id: str, folder_id: str, documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The marker and all batches."""
    parts = [documents[start : start + BATCH] for start in range(0, len(documents), BATCH)]
    return [
        marker(sync_id, len(parts)),
        *(batch(sync_id, folder_id, number, part) for number, part in enumerate(parts)),
    ]


async def events() -> list[str]:
    rows = await SyncRecord.get_pymongo_collection().find({}).to_list()
    return [event["type"] for row in rows for event in row["outbox"]]


async def present() -> int:
    rows = DocumentRecord.get_pymongo_collection()
    return int(await rows.count_documents({"source.missing_since": None, "deleted_at": None}))


@pytest.mark.slow
async def test_ten_thousand_documents_doubled_shuffled_and_rescanned(host: Host) -> None:
    folder_id = await host.folder()
    first = await host.started(folder_id)
    told = messages(first, folder_id, [entry(number) for number in range(10_000)])
    rest = told[1:] * 2
    random.Random(7).shuffle(rest)
    for message in [told[0], told[0], *rest]:
        await host.send(message)
    sync, counts = await host.sync(first)
    assert (sync.status, counts) == ("COMPLETED", ScanCounts(seen=10_000, created=10_000))
    assert await DocumentRecord.get_pymongo_collection().count_documents({}) == 10_000
    assert await events() == ["scan.completed"]

    second = await host.started(folder_id)
    left = [entry(number, "e2" if number < 500 else "e1") for number in range(9_000)]
    for message in reversed(messages(second, folder_id, left)):
        await host.send(message)
    sync, counts = await host.sync(second)
    assert (sync.status, counts) == ("COMPLETED", ScanCounts(seen=9_000, updated=500, missing=1_000))
    assert await present() == 9_000

    before = await SyncRecord.get_pymongo_collection().find({}).to_list()
    newest = await DocumentRecord.get_pymongo_collection().find({}).sort("_id", 1).limit(100).to_list()
    for message in told:
        assert await host.send(message) is True
    late = await host.started(await host.folder())  # a stale generation that was never taken
    await SyncRecord.get_pymongo_collection().update_one(
        {"_id": late}, {"$set": {"folders": [f.model_dump() for f in (await host.sync(first))[0].folders]}}
    )
    for message in messages(late, folder_id, [entry(number) for number in range(10_000)]):
        assert await host.send(message) is False
    after = await SyncRecord.get_pymongo_collection().find({"_id": {"$ne": late}}).to_list()
    assert after == before
    assert await DocumentRecord.get_pymongo_collection().find({}).sort("_id", 1).limit(100).to_list() == newest
    assert await present() == 9_000


async def test_an_order_names_the_sync_and_its_sources(host: Host) -> None:
    folder_id = await host.folder()
    sync_id = await host.started()
    order, command_id = host.scans.orders[0]
    assert (order.correlation_id, command_id, order.user_id, order.callback) == (sync_id, sync_id, OWNER, "default")
    assert [(folder.folder_id, folder.source) for folder in order.folders] == [(folder_id, "s3://imports/in/")]
    assert ((await host.sync(sync_id))[0].status, (await host.sync(sync_id))[0].scan_id) == ("RUNNING", SCAN)
    await host.syncs.order(sync_id)
    assert len(host.scans.orders) == 1


async def test_an_order_that_could_not_be_given_is_repeated(host: Host) -> None:
    await host.folder()
    host.scans.failure = Unavailable()
    sync_id = await host.started()
    assert (await host.sync(sync_id))[0].status == "PENDING"
    host.scans.failure = None
    await host.attended()
    assert (await host.sync(sync_id))[0].status == "RUNNING"
    assert [command_id for _, command_id in host.scans.orders] == [sync_id, sync_id]


async def test_an_order_that_is_refused_ends_the_sync(host: Host) -> None:
    await host.folder()
    host.scans.failure = ScanRefused("source_not_allowed")
    sync_id = await host.started()
    sync, _ = await host.sync(sync_id)
    assert (sync.status, sync.error) == ("FAILED", "source_not_allowed")
    assert await events() == ["scan.failed"]
    row: Any = await SyncRecord.get_pymongo_collection().find_one({"_id": sync_id})
    told = row["outbox"][0]
    assert (told["owner_id"], told["event_id"]) == (OWNER, f"evt_{sync_id}_1")
    assert (told["data"]["sync_id"], told["data"]["error"]["code"]) == (sync_id, "source_not_allowed")


async def test_a_callback_may_overtake_the_answer_to_the_order(host: Host) -> None:
    folder_id = await host.folder()
    sync = await host.syncs.start(OWNER, None, request_id="r")
    assert await host.send(batch(sync.id, folder_id, 0, [entry(1)])) is False
    await host.syncs.order(sync.id)
    assert await host.send(marker(sync.id, 1)) is False
    assert (await host.sync(sync.id))[0].status == "COMPLETED"


async def test_the_first_message_binds_the_scan(host: Host) -> None:
    folder_id = await host.folder()
    sync = await host.syncs.start(OWNER, None, request_id="r")
    await host.send(batch(sync.id, folder_id, 0, [entry(1)], scan_id="scn_other"))
    for message in (batch(sync.id, folder_id, 1, [entry(2)]), marker(sync.id, 1)):
        with pytest.raises(SyncNotFound):
            await host.send(message)
    assert await present() == 1


async def test_of_two_scans_at_once_one_is_bound(host: Host) -> None:
    await host.folder()
    sync = await host.syncs.start(OWNER, None, request_id="r")
    marks = await asyncio.gather(
        *(MongoSyncs().mark(sync.id, f"scn_{number}", f"f:{number}", 0) for number in range(5))
    )
    assert len([mark for mark in marks if mark]) == 1


async def test_a_folder_or_sync_that_is_not_concerned_changes_nothing(host: Host) -> None:
    folder_id, other = await host.folder(), await host.folder()
    sync_id = await host.started(folder_id)
    for message in (
        batch(sync_id, other, 0, [entry(1)]), batch(new_id("syn"), folder_id, 0, [entry(1)]), marker("$ne", 0),
    ):  # fmt: skip
        with pytest.raises(SyncNotFound):
            await host.send(message)
    assert (await present(), len((await host.sync(sync_id))[0].batches)) == (0, 0)


async def test_identical_messages_at_once_have_one_effect(host: Host) -> None:
    folder_id = await host.folder()
    sync_id = await host.started(folder_id)
    told = [batch(sync_id, folder_id, 0, map(entry, range(100))), marker(sync_id, 1)]
    answers = await asyncio.gather(*(host.send(message) for message in told * 10))
    assert answers.count(False) == 2
    sync, counts = await host.sync(sync_id)
    assert (sync.status, counts, await present()) == ("COMPLETED", ScanCounts(seen=100, created=100), 100)
    assert await events() == ["scan.completed"]


@pytest.mark.parametrize("place", ["taken", "swept"])
async def test_a_crash_in_between_is_made_good_by_a_repeat(host: Host, place: str) -> None:
    folder_id = await host.folder()
    first = await host.started(folder_id)
    for message in messages(first, folder_id, [entry(1), entry(2)]):
        await host.send(message)
    sync_id = await host.started(folder_id)
    told = messages(sync_id, folder_id, [entry(1)])
    host.documents.crash = place
    for message in told:
        try:
            assert await host.send(message) is False
        except MongoUnavailable:
            assert place == "taken"  # told as 503, so the sender repeats
    assert (await host.sync(sync_id))[0].status == "RUNNING"
    host.documents.crash = None
    if place == "taken":
        assert await host.send(told[1]) is False
    else:  # what was sent is here, nobody sends it again
        await host.attended()
    sync, counts = await host.sync(sync_id)
    assert (sync.status, counts) == ("COMPLETED", ScanCounts(seen=1, missing=1))
    assert await events() == ["scan.completed"] * 2


async def test_somebody_else_who_finalises_is_not_disturbed(host: Host) -> None:
    folder_id = await host.folder()
    sync_id = await host.started(folder_id)
    await host.send(marker(sync_id, 1))
    assert await MongoSyncs().hold(sync_id, "theirs")
    await host.send(batch(sync_id, folder_id, 0, [entry(1)]))
    assert (await host.sync(sync_id))[0].status == "RUNNING"
    assert not await MongoSyncs().finish(sync_id, "COMPLETED", ScanCounts(), None, "mine")
    assert await MongoSyncs().finish(sync_id, "COMPLETED", ScanCounts(seen=1), None, "theirs")
    assert not await MongoSyncs().finish(sync_id, "FAILED", ScanCounts(), "scan_timeout", None)


async def scanned_twice(host: Host, *end: dict[str, Any], **marked: Any) -> tuple[Sync, ScanCounts]:
    """Two folders with a document each; the second scan sees none of them."""
    folders = [await host.folder("s3://imports/in/") for _ in range(2)]
    first = await host.started(*folders)
    for number, folder_id in enumerate(folders):
        await host.send(batch(first, folder_id, number, [entry(1)]))
    await host.send(marker(first, 2))
    second = await host.started(*folders)
    failed = [folders[0]] if marked.pop("one_fails", False) else []
    await host.send(marker(second, marked.pop("total_batches", 0), failed_folders=failed, **marked))
    return await host.sync(second)


async def test_what_a_folder_that_failed_holds_is_not_missing(host: Host) -> None:
    sync, counts = await scanned_twice(host, one_fails=True)
    assert (sync.status, sync.error, counts) == ("COMPLETED", "source_unreadable", ScanCounts(missing=1))
    assert await present() == 1


async def test_a_scan_that_failed_makes_nothing_missing(host: Host) -> None:
    sync, counts = await scanned_twice(host, status="FAILED", total_batches=7)
    assert (sync.status, sync.error, counts) == ("FAILED", "scan_failed", ScanCounts())
    assert await present() == 2
    assert await events() == ["scan.completed", "scan.failed"]


async def test_nothing_is_missing_before_all_batches_are_here(host: Host) -> None:
    sync, counts = await scanned_twice(host, total_batches=1)
    assert (sync.status, counts, await present()) == ("RUNNING", ScanCounts(), 2)


async def test_counts_are_frozen_when_it_is_over(host: Host) -> None:
    folder_id = await host.folder()
    first = await host.started(folder_id)
    for message in messages(first, folder_id, [entry(1), entry(2)]):
        await host.send(message)
    second = await host.started(folder_id)
    await host.send(batch(second, folder_id, 0, [entry(1), entry(3)]))
    assert (await host.sync(second))[1] == ScanCounts(seen=2, created=1)
    assert (await host.sync(first))[1] == ScanCounts(seen=2, created=2)


async def test_a_folder_that_is_deleted_meanwhile_gets_no_documents(host: Host) -> None:
    folder_id = await host.folder()
    sync_id = await host.started(folder_id)
    folders = MongoFolders()
    assert await folders.remove(await folders.get(folder_id, OWNER))
    for message in messages(sync_id, folder_id, [entry(1)]):
        await host.send(message)
    assert ((await host.sync(sync_id))[0].status, await present()) == ("COMPLETED", 0)


async def test_silence_is_asked_about(host: Host) -> None:
    await host.folder()
    sync_id = await host.started()
    await host.later(timedelta(minutes=16))
    assert (await host.sync(sync_id))[0].status == "RUNNING"
    host.scans.now = "FAILED"
    await host.later(timedelta(minutes=14))  # it was heard just now
    assert (await host.sync(sync_id))[0].status == "RUNNING"
    await host.later(timedelta(minutes=16))
    assert ((await host.sync(sync_id))[0].status, (await host.sync(sync_id))[0].error) == ("FAILED", "scan_failed")


async def test_a_scan_that_nobody_knows_ends_the_sync(host: Host) -> None:
    await host.folder()
    sync_id = await host.started()
    host.scans.failure = ScanRefused("upstream_failed")
    await host.later(timedelta(minutes=16))
    assert (await host.sync(sync_id))[0].error == "upstream_failed"


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_sync_ends_after_a_day(host: Host, ordered: bool) -> None:
    await host.folder()
    host.scans.failure = None if ordered else Unavailable()
    sync_id = await host.started()
    await host.later(timedelta(hours=25))
    sync, _ = await host.sync(sync_id)
    expected: SyncErrorCode = "scan_timeout"
    assert (sync.status, sync.error, await events()) == ("FAILED", expected, ["scan.failed"])


async def test_one_command_starts_one_sync(host: Host) -> None:
    await host.folder()
    started: Callable[[], Awaitable[Sync]] = lambda: host.syncs.start(OWNER, None, request_id="r", command_id="cmd_1")  # noqa: E731
    ids = {sync.id for sync in await asyncio.gather(*(started() for _ in range(5)))}
    assert ids == {"syn_1"}


async def test_only_what_is_signed_is_read(host: Host) -> None:
    sync_id = await host.started(folder_id := await host.folder())
    body = json.dumps(batch(sync_id, folder_id, 0, [entry(1)])).encode()
    with pytest.raises(SignatureInvalid):
        await host.callbacks.receive(signed(body, b"other" * 8), body)
    with pytest.raises(SignatureInvalid):
        await host.callbacks.receive(signed(body), body + b" ")
    with pytest.raises(SignatureExpired):
        await host.callbacks.receive(signed(body, at=time.time() - 400), body)
    assert await present() == 0
    await host.callbacks.receive(signed(body), body)
    assert await present() == 1


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"type": "scan.other"}, "/type"),
        ({"type": ["scan.batch"]}, "/type"),
        ({"batch": -1}, "/batch"),
        ({"batch": "0"}, "/batch"),
        ({"extra": 1}, ""),
        ({"documents": [entry(number) for number in range(1001)]}, "/documents"),
        ({"documents": [{**entry(1), "size": -1}]}, "/documents/0/size"),
        ({"documents": [{**entry(1), "size": 2**70}]}, "/documents/0/size"),
        ({"documents": [{**entry(1), "etag": "a\r\nX-Evil: 1"}]}, "/documents/0/etag"),
        ({"documents": [{**entry(1), "last_modified": "yesterday"}]}, "/documents/0/last_modified"),
        ({"documents": [{"path": "in/a.pdf"}]}, "/documents/0/filename"),
        ({"documents": [{**entry(1), "secret": 1}]}, "/documents/0"),
    ],
)
async def test_a_message_that_does_not_fit_is_refused_as_a_whole(
    host: Host, change: dict[str, Any], pointer: str
) -> None:
    sync_id = await host.started(folder_id := await host.folder())
    with pytest.raises(Invalid) as refused:
        await host.send({**batch(sync_id, folder_id, 0, [entry(1)]), **change})
    assert refused.value.pointer == pointer
    assert await present() == 0
