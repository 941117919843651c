"""Listing and sending on real MongoDB and S3, turn by turn in the test's own process."""

import asyncio
import io
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
import structlog
from dependency_injector import providers

from app.container import Container
from app.scans.adapter.callbacks import RegisteredCallbacks
from app.scans.adapter.mongo import ScanBatchRecord, ScanRecord
from app.scans.application import lister
from app.scans.contracts import ScanFolder, ScanOrder, ScanState
from app.scans.domain.scan import Batch, Scan
from core.errors import Conflict
from core.security.service_keys import key_id
from core.security.signing import signing_key, verify
from core.storage.base import StorageUnavailable, StoredFile
from tests.clients import PRIVATE_TOKEN, SIGNING_SECRET
from tests.integration.faults.process import until
from tests.integration.scans.conftest import Put
from tests.integration.scans.host import Host, told


class Scans:
    """Orders, and takes turns as workers would."""

    def __init__(self, container: Container, prefix: str) -> None:
        self.container, self.prefix = container, prefix

    async def ordered(self, *sources: str, **changed: Any) -> str:
        found = sources or (f"s3://dossier/{self.prefix}",)
        folders = tuple(ScanFolder(folder_id=f"{n}", source=source) for n, source in enumerate(found))
        order = ScanOrder(user_id="7", folders=folders, correlation_id="sync-1", **changed)
        state: ScanState = await self.container.scans.service().order(order, None)
        return state.scan_id

    async def list_some(self, scan_id: str) -> None:
        await self.container.scans.lister().run(scan_id)

    async def deliver(self, scan_id: str) -> None:
        await self.container.scans.sender().run(scan_id)

    async def state(self, scan_id: str) -> ScanState:
        state: ScanState = await self.container.scans.service().state(scan_id)
        return state

    async def ended(self, scan_id: str) -> ScanState:
        """Turns until it is over."""

        async def over() -> bool:
            await self.list_some(scan_id)
            await self.deliver(scan_id)
            return (await self.state(scan_id)).status in {"COMPLETED", "FAILED"}

        await until(over, 3, "the scan is over")
        return await self.state(scan_id)

    def sent(self) -> list[tuple[Any, ...]]:
        wake_ups: Any = self.container.wake_ups()
        found: list[tuple[Any, ...]] = wake_ups.sent
        return found

    def delays(self) -> list[float]:
        wake_ups: Any = self.container.wake_ups()
        return [delay for delay in wake_ups.delays if delay]


@pytest.fixture
def scans(container: Container, prefix: str) -> Scans:
    return Scans(container, prefix)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lister, "PAGE", 2)


async def row(scan_id: str) -> dict[str, Any]:
    found = await ScanRecord.rows().find_one({"_id": scan_id})
    assert found is not None
    return found


async def test_what_lies_under_the_source_is_told(scans: Scans, host: Host, put: Put) -> None:
    await put("a.pdf", "b c.PDF", "ü/$x.docx", "notes.txt", "noextension", "pdf")
    await scans.container.files().put(scans.prefix[:-1] + "x.pdf", io.BytesIO(b"%PDF"), "application/pdf")
    state = await scans.ended(await scans.ordered())
    await scans.container.files().delete([scans.prefix[:-1] + "x.pdf"])
    assert (state.status, state.folders_done, state.documents_found, state.batches_delivered) == ("COMPLETED", 1, 3, 1)
    assert state.finished_at is not None
    batch, end = sorted((call.message for call in host.calls), key=lambda message: str(message["type"]))
    first = batch["documents"][0]
    assert batch == {
        "type": "scan.batch", "scan_id": state.scan_id, "correlation_id": "sync-1", "folder_id": "0", "batch": 0,
        "documents": batch["documents"],
    }  # fmt: skip
    assert first == {
        "path": f"{scans.prefix}a.pdf", "filename": "a.pdf", "size": 4, "content_type": "application/pdf",
        "etag": (await scans.container.files().stat(f"{scans.prefix}a.pdf")).etag,
        "last_modified": first["last_modified"],
    }  # fmt: skip
    assert [document["filename"] for document in batch["documents"]] == ["a.pdf", "b c.PDF", "$x.docx"]
    assert end == {
        "type": "scan.completed", "scan_id": state.scan_id, "correlation_id": "sync-1", "status": "COMPLETED",
        "total_batches": 1, "total_documents": 3, "failed_folders": [],
    }  # fmt: skip


async def test_what_could_not_be_filed_and_our_own_objects_are_never_told(scans: Scans, host: Host) -> None:
    keys = ["_dossier/originals/x.pdf", "a\x01.pdf", "a/../b.pdf", "folder.pdf/", "x" * 1021 + ".pdf", "b.pdf"]
    files = [StoredFile(key, 1, scans.container.clock()(), "e") for key in keys]
    with scans.container.files.override(providers.Object(Listed(files))):
        await scans.ended(await scans.ordered("s3://dossier/"))
    assert told(host.taken())[1] == ["b.pdf"]


async def test_a_source_that_cannot_be_read_does_not_hold_up_the_others(scans: Scans, host: Host, put: Put) -> None:
    await put("a.pdf")
    state = await scans.ended(await scans.ordered("s3://missing-bucket/", f"s3://dossier/{scans.prefix}"))
    assert (state.status, state.failed_folders, state.folders_done) == ("COMPLETED", ("0",), 2)
    assert told(host.taken())[2][0]["failed_folders"] == ["0"]


async def test_a_scan_of_which_nothing_can_be_read_fails_and_says_so(scans: Scans, host: Host) -> None:
    state = await scans.ended(await scans.ordered("s3://missing-bucket/"))
    assert state.status == "FAILED"
    assert state.error is not None
    assert state.error.code == "source_unreadable"
    assert [end["status"] for end in told(host.taken())[2]] == ["FAILED"]


async def test_an_outage_of_the_storage_is_waited_out(scans: Scans) -> None:
    scan_id = await scans.ordered()
    with scans.container.files.override(providers.Object(Listed(StorageUnavailable()))):
        await scans.list_some(scan_id)
    waiting = await row(scan_id)
    assert (waiting["run"]["state"], waiting["run"]["tries"], waiting["status"]) == ("queued", 0, "RUNNING")
    assert waiting["run"]["ready_at"] > waiting["created_at"]
    await ScanRecord.rows().update_one({"_id": scan_id}, [{"$set": {"run.ready_at": None}}])
    assert (await scans.ended(scan_id)).status == "COMPLETED"


@pytest.mark.usefixtures("small_pages")
async def test_whoever_dies_is_replaced_behind_the_last_page(scans: Scans, host: Host, put: Put) -> None:
    await put(*(f"{number:02}.pdf" for number in range(9)))
    scan_id = await scans.ordered()
    dying = providers.Object(Dying(scans.container.scans.scans(), pages=2))
    with scans.container.scans.scans.override(dying), pytest.raises(SystemError):
        await scans.list_some(scan_id)
    await scans.list_some(scan_id)  # its lease is not over
    assert (await row(scan_id))["batches"] == 2
    state = await _freed(scans, scan_id)
    batches, paths, ends = told(host.taken())
    assert (batches, len(paths), len(ends)) == ([0, 1, 2, 3, 4], 9, 1)
    assert (state.status, state.documents_found, state.batches_delivered) == ("COMPLETED", 9, 5)


@pytest.mark.usefixtures("small_pages")
async def test_a_lister_that_wakes_after_its_lease_changes_nothing(scans: Scans, host: Host, put: Put) -> None:
    await put(*(f"{number}.pdf" for number in range(4)))
    scan_id = await scans.ordered()
    repository = scans.container.scans.scans()
    frozen = await repository.claim(scan_id, "frozen")
    assert frozen is not None
    moved, batch = frozen.with_batch([{"path": "late"}], scans.container.clock()())
    await _lease_over(scans, scan_id)
    assert await repository.claim(scan_id, "second") is not None
    for _ in ("while another one lists", "when it is over"):
        assert await repository.advance(moved, batch, token="frozen") is None
        await repository.give_back(scan_id, "frozen", delay_s=0)
        await repository.give_back(scan_id, "second", delay_s=0)
        assert (await scans.ended(scan_id)).documents_found == 4
    assert told(host.taken())[0] == [0, 1]


async def test_a_scan_that_ends_its_workers_is_given_up(scans: Scans, host: Host) -> None:
    scan_id = await scans.ordered()
    for _ in range(lister.TRIES):
        assert await scans.container.scans.scans().claim(scan_id, "dies") is not None
        await _lease_over(scans, scan_id)
    state = await scans.ended(scan_id)
    assert (state.status, state.error and state.error.code) == ("FAILED", "worker_lost")
    assert [end["status"] for end in told(host.taken())[2]] == ["FAILED"]


@pytest.mark.usefixtures("small_pages")
async def test_the_lister_waits_for_a_host_that_is_behind(
    scans: Scans, host: Host, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lister, "MOST_UNSENT", 3)
    await put(*(f"{number:02}.pdf" for number in range(12)))
    scan_id = await scans.ordered()
    await scans.list_some(scan_id)
    await scans.list_some(scan_id)
    assert await ScanBatchRecord.rows().count_documents({"scan_id": scan_id}) == 3
    sent = len(scans.sent())
    await scans.deliver(scan_id)
    assert ("scans.list", scan_id) in scans.sent()[sent:]
    state = await scans.ended(scan_id)
    assert (state.status, state.batches_delivered, told(host.taken())[0]) == ("COMPLETED", 6, list(range(6)))


@pytest.mark.parametrize("how", ["fail", "redirect", "garbage", "hang up"])
async def test_a_message_is_sent_again_until_it_is_taken(scans: Scans, host: Host, put: Put, how: str) -> None:
    await put("a.pdf")
    host.script = [how, how]
    state = await scans.ended(await scans.ordered())
    assert state.status == "COMPLETED"
    assert {call.path for call in host.calls} == {"/callbacks"}  # a redirect is not followed
    again = [call for call in host.calls if call.headers["webhook-id"] == host.calls[0].headers["webhook-id"]]
    assert [call.how for call in again][-1] == "accept"
    assert len({call.body for call in again}) == 1
    assert len(told(host.taken())[2]) == 1


async def test_a_host_that_takes_too_long_is_asked_again(scans: Scans, host: Host, put: Put) -> None:
    await put("a.pdf")
    egress = scans.container.scans.egress()
    egress.__dict__["_total_s"] = 0.2
    scan_id = await scans.ordered()
    await scans.list_some(scan_id)
    host.slow_s = 1
    await scans.deliver(scan_id)
    assert {row["error"] async for row in ScanBatchRecord.rows().find({"scan_id": scan_id})} == {"timeout"}
    host.slow_s = 0
    assert (await scans.ended(scan_id)).status == "COMPLETED"


async def test_a_host_that_asks_for_time_gets_it(scans: Scans, host: Host, put: Put) -> None:
    await put("a.pdf")
    host.script = ["busy"]
    scan_id = await scans.ordered()
    await scans.list_some(scan_id)
    await scans.deliver(scan_id)
    waiting = [
        row["next_attempt_at"] - row["created_at"] async for row in ScanBatchRecord.rows().find({"status": "PENDING"})
    ]
    assert [pause > timedelta(seconds=900) for pause in waiting] == [True]
    assert scans.delays() == []


async def test_a_repeat_that_is_due_soon_has_a_wake_up_of_its_own(scans: Scans, host: Host, put: Put) -> None:
    await put("a.pdf")
    host.script = ["fail"]
    scan_id = await scans.ordered()
    await scans.list_some(scan_id)
    await scans.deliver(scan_id)
    assert [0.16 <= delay <= 0.24 for delay in scans.delays()] == [True]


async def test_each_attempt_has_a_time_of_its_own(scans: Scans, host: Host, put: Put) -> None:
    await put("a.pdf")
    host.script = ["fail"]
    scans.container.scans.callbacks().__dict__["_clock"] = Ahead(scans.container.clock())
    await scans.ended(await scans.ordered())
    first, again = (call for call in host.calls if call.body == host.calls[0].body)
    assert first.message == again.message  # both signatures are good
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] < again.headers["webhook-timestamp"]


async def test_a_host_that_never_answers_fails_the_scan(scans: Scans, host: Host, put: Put) -> None:
    await put("a.pdf")
    host.always = "fail"
    state = await scans.ended(await scans.ordered())
    assert (state.status, state.error and state.error.code) == ("FAILED", "callback_failed")
    assert len(host.calls) >= 6
    sizes = {row["status"]: row["body"] async for row in ScanBatchRecord.rows().find({"scan_id": state.scan_id})}
    assert sizes == {"EXHAUSTED": None}
    calls = len(host.calls)
    await scans.deliver(state.scan_id)
    assert len(host.calls) == calls


async def test_a_day_is_the_longest(scans: Scans, host: Host, put: Put) -> None:
    await put("a.pdf")
    scan_id = await scans.ordered()
    await scans.list_some(scan_id)
    sender = scans.container.scans.sender()
    sender.__dict__["_schedule"] = (0, 60_000, 60_000)
    host.always = "fail"
    await sender.run(scan_id)
    assert (await scans.state(scan_id)).status == "RUNNING"
    await ScanBatchRecord.rows().update_many({"scan_id": scan_id}, [{"$set": {"next_attempt_at": "$created_at"}}])
    sender.__dict__["_clock"] = Ahead(scans.container.clock(), by_s=60_000)
    await sender.run(scan_id)
    assert (await scans.state(scan_id)).status == "FAILED"


@pytest.mark.usefixtures("small_pages")
async def test_four_at_a_time_and_one_sender(scans: Scans, host: Host, put: Put) -> None:
    await put(*(f"{number:02}.pdf" for number in range(24)))
    scan_id = await scans.ordered()
    await scans.list_some(scan_id)
    host.slow_s = 0.05
    await asyncio.gather(*(scans.deliver(scan_id) for _ in range(5)))
    assert (await scans.state(scan_id)).status == "COMPLETED"
    assert host.most_inside == 4
    assert len(host.calls) == 13


async def test_an_order_that_is_repeated_is_one_scan(scans: Scans) -> None:
    order = ScanOrder(user_id="7", folders=(ScanFolder(folder_id="1", source="s3://dossier/x/"),))
    service = scans.container.scans.service()
    first, again = await service.order(order, "syn_1"), await service.order(order, "syn_1")
    assert first == again
    assert first.scan_id == "scn_1"


class Receiver:
    """The host in the same process."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.refuses: list[Exception] = [Conflict(), RuntimeError("a bug")]

    async def receive(self, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        given = list(headers)
        assert (b"private-token", PRIVATE_TOKEN.encode()) in given
        verify([signing_key(SIGNING_SECRET)], given, body, time.time())
        if self.refuses:
            raise self.refuses.pop()
        self.bodies.append(body)


async def test_a_host_in_the_same_process_gets_the_same_bytes(scans: Scans, put: Put) -> None:
    await put("a.pdf")
    receiver = Receiver()
    callbacks = scans.container.scans.callbacks()
    callbacks.__dict__.update(_receiver=receiver, _registered={})
    with structlog.testing.capture_logs():
        state = await scans.ended(await scans.ordered())
    assert (state.status, len(receiver.bodies)) == ("COMPLETED", 2)


async def test_the_token_of_the_order_is_sent_or_the_first_where_it_was_withdrawn(scans: Scans, host: Host) -> None:
    callbacks = RegisteredCallbacks(
        {}, scans.container.scans.egress(), None, [b"x" * 24], ["first", "second"], scans.container.clock()
    )
    scan = await scans.container.scans.scans().get(await scans.ordered())
    batch = scan.completed(scan.created_at)[1]
    for key, token in ((b"first", "first"), (b"second", "second"), (b"withdrawn", "first")):
        await callbacks.send(scan.model_copy(update={"key_id": key_id(key)}), batch)
        assert host.calls[-1].headers["private-token"] == token


class Listed:
    """A storage that lists what it is given, or fails."""

    def __init__(self, found: list[StoredFile] | Exception) -> None:
        self._found = found

    def at(self, _: str) -> "Listed":
        return self

    async def page(self, prefix: str, after: str, limit: int) -> tuple[list[StoredFile], bool]:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found, False

    async def close(self) -> None:
        """Nothing is open."""


class Dying:
    """A process that ends after so many pages."""

    def __init__(self, scans: Any, pages: int) -> None:
        self._scans, self._pages = scans, pages

    async def advance(self, scan: Scan, batch: Batch | None, *, token: str) -> Scan | None:
        if not self._pages:
            raise SystemError("killed")
        self._pages -= 1
        moved: Scan | None = await self._scans.advance(scan, batch, token=token)
        return moved

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scans, name)


class Ahead:
    """A clock that is later with every look, or by so many seconds."""

    def __init__(self, clock: Any, by_s: int | None = None) -> None:
        self._clock, self._by_s, self._looks = clock, by_s, 0

    def __call__(self) -> Any:
        self._looks += 1
        return self._clock() + timedelta(seconds=self._by_s or self._looks)


async def _lease_over(scans: Scans, scan_id: str) -> None:
    await ScanRecord.rows().update_one({"_id": scan_id}, [{"$set": {"run.locked_until": "$created_at"}}])
    await scans.container.scans.service().reconcile()


async def _freed(scans: Scans, scan_id: str) -> ScanState:
    await _lease_over(scans, scan_id)
    assert ("scans.list", scan_id) in scans.sent()[1:]
    return await scans.ended(scan_id)
