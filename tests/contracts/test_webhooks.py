"""Webhooks on real MongoDB: who holds what, how many at a time, and what ends."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.webhooks.adapter.mongo import MongoWebhooks, WebhookRecord
from app.webhooks.adapter.mongo_deliveries import MongoDeliveries, WebhookDeliveryRecord
from app.webhooks.adapter.outbound import SealedSecrets, SignedPosts
from app.webhooks.application import dispatch
from app.webhooks.application.dispatch import Dispatch
from app.webhooks.application.fan_out import FanOut
from app.webhooks.application.service import WebhookService
from app.webhooks.domain.delivery import Delivery, Verdict, delivery_of
from app.webhooks.domain.errors import TooManyWebhooks, WebhookNotFound
from app.webhooks.domain.webhook import DEGRADED_AFTER, IN_FLIGHT, Secret, Webhook
from core.clock import utc_now
from core.errors import PreconditionFailed
from core.events import OutboxEvent
from core.ids import new_id
from core.security.egress import EgressAnswer, EgressClient
from core.security.secret_box import SecretBox

pytestmark = pytest.mark.parametrize("database", ["mongodb"], indirect=True)  # leases are the database's own time

OK, BROKEN, REFUSED = EgressAnswer(200, None), EgressAnswer(500, "http_status"), EgressAnswer(None, "url_not_allowed")
BOX = SecretBox([b"k" * 32])
SCHEDULE = (0.0, 60.0, 60.0)
WEBHOOKS, DELIVERIES = MongoWebhooks(), MongoDeliveries(utc_now)


class Quiet:
    """Stands for the broker."""

    def __init__(self) -> None:
        self.woken, self.later = 0, list[float]()

    def wake(self, after_s: float = 0) -> None:
        self.woken += 1
        self.later.append(after_s)


class Receiver:
    """Stands for all receivers: answers by webhook, and counts who is with it."""

    def __init__(self, answer: Callable[[Webhook, Delivery], EgressAnswer] = lambda *_: OK, seconds: float = 0) -> None:
        self.answer, self.seconds = answer, seconds
        self.seen: list[Delivery] = []
        self.inside, self.most = 0, 0

    async def check_url(self, url: str) -> str:
        return url

    async def send(self, webhook: Webhook, delivery: Delivery) -> EgressAnswer:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.inside -= 1
        self.seen.append(delivery)
        return self.answer(webhook, delivery)


def sending(receiver: Any, schedule: Sequence[float] = SCHEDULE, queue: Quiet | None = None) -> Dispatch:
    return Dispatch(WEBHOOKS, DELIVERIES, receiver, queue or Quiet(), utc_now, schedule, lambda: 1.0)


async def webhook(owner_id: str = "usr_1", events: Sequence[str] = ("document.completed",), **more: Any) -> Webhook:
    webhook_id, now = new_id("whk"), utc_now()
    secret = Secret(id="sec_1", sealed=BOX.seal(b"s" * 32, webhook_id))
    made = Webhook(
        id=webhook_id, owner_id=owner_id, url="https://hooks.example.com/", events=tuple(events), secrets=(secret,),
        created_at=now, updated_at=now, **more,
    )  # fmt: skip
    return await WEBHOOKS.add(made, most=100)


def event(
    number: int = 1, owner_id: str = "usr_1", at: datetime | None = None, kind: str = "document.completed"
) -> OutboxEvent:
    return OutboxEvent(
        event_id=f"evt_doc_{number}_2", seq=2, type=kind, at=at or utc_now() - timedelta(seconds=1),
        owner_id=owner_id, data={"document_id": f"doc_{number}", "status": "COMPLETED", "attempt": 1, "error": None},
    )  # fmt: skip


async def waiting(hook: Webhook, count: int = 1, first: int = 1) -> None:
    """So many due deliveries."""
    await DELIVERIES.add(
        [delivery_of(hook.id, event(first + number), owner_id=hook.owner_id) for number in range(count)]
    )


async def rows(**query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await WebhookDeliveryRecord.get_pymongo_collection().find(query).to_list()
    return found


async def states(**query: Any) -> list[tuple[str, int]]:
    return sorted((row["status"], row["tries"]) for row in await rows(**query))


async def time_passes() -> None:
    """As if every pause and every lease were over."""
    past = utc_now() - timedelta(seconds=1)
    deliveries, hooks = WebhookDeliveryRecord.get_pymongo_collection(), WebhookRecord.get_pymongo_collection()
    await deliveries.update_many({"next_attempt_at": {"$ne": None}}, {"$set": {"next_attempt_at": past}})
    await deliveries.update_many({"locked_until": {"$ne": None}}, {"$set": {"locked_until": past}})
    await hooks.update_many({"slots.0": {"$exists": True}}, {"$set": {"slots.$[].until": past}})
    await hooks.update_many({}, {"$set": {"paused_until": None}})


# Who is told


async def test_an_event_becomes_one_delivery_for_each_webhook_of_its_owner_that_wants_it(database: str) -> None:
    wanted = [await webhook(), await webhook(events=("document.failed", "document.completed"))]
    await webhook(events=("document.failed",))
    await webhook("usr_2")
    await WEBHOOKS.change(await webhook(), {"status": "disabled"})
    queue = Quiet()
    fan_out = FanOut(WEBHOOKS, DELIVERIES, queue)
    for _ in range(3):  # the relay may repeat it
        await fan_out.handle(event())
    found = await rows()
    assert sorted(row["webhook_id"] for row in found) == sorted(hook.id for hook in wanted)
    assert {row["owner_id"] for row in found} == {"usr_1"}
    assert queue.woken
    sleeping = Quiet()
    await FanOut(WEBHOOKS, DELIVERIES, sleeping).handle(event(owner_id="usr_3"))
    assert (len(await rows()), sleeping.woken) == (2, 0)


async def test_a_change_of_stock_is_told_to_services_whatever_brought_it_about(database: str) -> None:
    await webhook("service:api_key", ("stock.changed",))
    await webhook("usr_1", ("stock.changed",))
    for number, actor in enumerate(("service:api_key", "service:inventory", "usr_1")):
        told = event(number, actor, kind="stock.changed")
        await FanOut(WEBHOOKS, DELIVERIES, Quiet()).handle(told)
    assert [row["owner_id"] for row in await rows()] == ["service:api_key"] * 3


async def test_a_repeated_event_does_not_touch_what_became_of_the_first(database: str) -> None:
    await webhook()
    fan_out = FanOut(WEBHOOKS, DELIVERIES, Quiet())
    await fan_out.handle(event())
    await sending(Receiver()).run()
    other = await webhook()
    await fan_out.handle(event())
    assert await states() == [("DELIVERED", 1), ("PENDING", 0)]
    assert [row["webhook_id"] for row in await rows(status="PENDING")] == [other.id]


async def test_an_owner_has_so_many_webhooks_and_a_repeat_finds_its_own(database: str) -> None:
    made = [await webhook() for _ in range(3)]
    assert await WEBHOOKS.add(made[0], most=3) == made[0]
    with pytest.raises(TooManyWebhooks):
        await WEBHOOKS.add(made[0].model_copy(update={"id": new_id("whk")}), most=3)
    await webhook("usr_2")


async def test_of_two_changes_to_one_state_one_counts(database: str) -> None:
    hook = await webhook()
    changed = await WEBHOOKS.change(hook, {"url": "https://other.example.com/"})
    assert (changed.version, changed.url, changed.events) == (2, "https://other.example.com/", hook.events)
    with pytest.raises(PreconditionFailed):
        await WEBHOOKS.change(hook, {"status": "disabled"})
    with pytest.raises(PreconditionFailed):
        await WEBHOOKS.change(changed.model_copy(update={"owner_id": "usr_2"}), {"status": "disabled"})


# What an attempt leaves behind


async def test_a_success_closes_the_row_and_is_remembered(database: str) -> None:
    await waiting(await webhook())
    receiver = Receiver()
    await sending(receiver).run()
    (row,) = await rows()
    assert (row["status"], row["token"], row["locked_until"], row["next_attempt_at"]) == ("DELIVERED", None, None, None)
    assert row["closed_at"] is not None
    assert [(attempt["status_code"], attempt["error"]) for attempt in row["attempts"]] == [(200, None)]
    await sending(receiver).run()
    assert len(receiver.seen) == 1


async def test_failures_follow_the_schedule_until_it_is_over(database: str) -> None:
    await waiting(await webhook())
    receiver = Receiver(lambda *_: BROKEN)
    for tries in (1, 2):
        await sending(receiver).run()
        await sending(receiver).run()  # not before its time
        (row,) = await rows()
        assert (row["status"], row["tries"], row["closed_at"]) == ("FAILED", tries, None)
        assert 55 < (row["next_attempt_at"] - utc_now()).total_seconds() < 61
        await time_passes()
    await sending(receiver).run()
    (row,) = await rows()
    assert (row["status"], row["next_attempt_at"], len(row["attempts"])) == ("EXHAUSTED", None, 3)
    assert {delivery.event_id for delivery in receiver.seen} == {"evt_doc_1_2"}
    assert len({delivery.body for delivery in receiver.seen}) == 1


async def test_a_refused_destination_is_never_tried_again(database: str) -> None:
    await waiting(await webhook())
    await sending(Receiver(lambda *_: REFUSED)).run()
    (row,) = await rows()
    assert row["status"] == "EXHAUSTED"
    assert [(attempt["status_code"], attempt["error"]) for attempt in row["attempts"]] == [(None, "url_not_allowed")]


async def test_a_name_that_turned_private_is_refused_at_delivery(database: str) -> None:
    answers = [["93.184.215.14"], ["127.0.0.1"]]

    async def dns(host: str, port: int) -> list[str]:
        return answers.pop(0)

    outbound = SignedPosts(EgressClient(dns), BOX, utc_now)
    service = WebhookService(WEBHOOKS, DELIVERIES, SealedSecrets(BOX), outbound, Quiet(), utc_now)
    hook, _ = await service.create(
        "usr_1", "https://hooks.example.com/", ["document.completed"], for_service=False, command_id=None
    )
    await waiting(hook)
    await sending(outbound).run()
    (row,) = await rows()
    assert (row["status"], row["attempts"][0]["error"]) == ("EXHAUSTED", "url_not_allowed")
    assert answers == []


async def test_attempts_of_a_long_story_are_cut_to_the_latest(database: str) -> None:
    await waiting(await webhook())
    for number in range(25):
        await time_passes()
        answer = EgressAnswer(None, "timeout", duration_ms=number)
        await sending(Receiver(lambda *_, answer=answer: answer), [60.0] * 50).run()
    (row,) = await rows()
    assert [attempt["duration_ms"] for attempt in row["attempts"]] == list(range(5, 25))


# Who holds a row


async def test_many_at_once_send_each_delivery_once(database: str) -> None:
    hooks = [await webhook() for _ in range(5)]
    for hook in hooks:
        await waiting(hook, 6)
    receiver = Receiver()
    await asyncio.gather(*(sending(receiver).run() for _ in range(4)))
    while await DELIVERIES.find_due() is not None:  # who found all places taken went home
        await sending(receiver).run()
    assert len(receiver.seen) == len({delivery.id for delivery in receiver.seen}) == 30
    assert {status for status, _ in await states()} == {"DELIVERED"}


async def test_a_delivery_whose_process_died_is_sent_by_another_and_closed_once(database: str) -> None:
    hook = await webhook()
    await waiting(hook)
    due = await DELIVERIES.find_due()
    assert due is not None
    await WEBHOOKS.enter(hook.id, "dead", lease_s=30)
    claimed = await DELIVERIES.claim(due.id, "dead", lease_s=30)
    assert claimed is not None
    dead: Delivery = claimed
    early = Receiver()
    await sending(early).run()
    assert early.seen == []  # its lease still runs
    await time_passes()

    class Waking(Receiver):
        async def send(self, webhook: Webhook, delivery: Delivery) -> EgressAnswer:
            await DELIVERIES.close(dead, None, Verdict("FAILED", 60))  # it was only frozen
            assert await states() == [("PENDING", 2)]
            return await super().send(webhook, delivery)

    receiver = Waking()
    await sending(receiver).run()
    await DELIVERIES.close(dead, None, Verdict("FAILED", 60))
    assert (len(receiver.seen), await states()) == (1, [("DELIVERED", 2)])


async def test_a_delivery_that_ends_its_process_every_time_is_given_up(database: str) -> None:
    await waiting(await webhook())
    for number in range(len(SCHEDULE)):
        due = await DELIVERIES.find_due()
        assert due is not None
        await DELIVERIES.claim(due.id, f"dead{number}", lease_s=30)
        await time_passes()
    receiver = Receiver()
    await sending(receiver).run()
    assert (receiver.seen, await states()) == ([], [("EXHAUSTED", len(SCHEDULE) + 1)])


async def test_wake_ups_are_sent_for_what_is_due_and_for_nothing_else(database: str) -> None:
    hook, queue = await webhook(), Quiet()
    await sending(Receiver(), queue=queue).wake()
    assert queue.woken == 0
    await waiting(hook)
    await sending(Receiver(), queue=queue).wake()
    assert queue.woken == 1
    await sending(Receiver()).run()
    await sending(Receiver(), queue=queue).wake()
    assert queue.woken == 1


@pytest.mark.parametrize(("pause_s", "woken"), [(5.0, 1), (61.0, 0)])
async def test_a_repeat_that_is_due_soon_has_a_wake_up_of_its_own(database: str, pause_s: float, woken: int) -> None:
    await waiting(await webhook(), 3)
    queue = Quiet()
    await sending(Receiver(lambda *_: BROKEN), (0.0, pause_s), queue).run()
    assert len(queue.later) in {woken, 2 * woken}  # the seconds in which they are due
    assert all(pause_s <= later <= pause_s + 1 for later in queue.later)


async def test_a_run_hands_over_in_time_and_says_that_there_is_more(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "CLAIMING_S", 0.3)
    await waiting(await webhook(), 40)
    receiver, queue = Receiver(seconds=0.1), Quiet()
    await sending(receiver, queue=queue).run()
    assert 0 < len(receiver.seen) < 40
    assert queue.woken == 1


# How many at a time


async def test_one_webhook_is_called_by_four_at_a_time_whoever_sends(database: str) -> None:
    await waiting(await webhook(), 12)
    receiver = Receiver(seconds=0.2)
    await asyncio.gather(*(sending(receiver).run() for _ in range(3)))
    assert receiver.most == IN_FLIGHT
    assert len(receiver.seen) == 12


async def test_one_webhook_is_called_fifty_times_a_second_at_most(database: str) -> None:
    await waiting(await webhook(), 60)
    started = asyncio.get_running_loop().time()
    await asyncio.gather(*(sending(Receiver()).run() for _ in range(2)))
    assert asyncio.get_running_loop().time() - started > 60 / 50 - 0.1
    assert {status for status, _ in await states()} == {"DELIVERED"}


async def test_a_receiver_that_hangs_holds_up_nobody_else(database: str) -> None:
    hanging = await webhook()
    await waiting(hanging, 100)  # all of them due before the others
    hooks = [await webhook() for _ in range(49)]
    for hook in hooks:
        await waiting(hook, 2, first=1000)
    done = asyncio.Event()

    class Hanging(Receiver):
        async def send(self, webhook: Webhook, delivery: Delivery) -> EgressAnswer:
            if webhook.id == hanging.id:
                await done.wait()
            return await super().send(webhook, delivery)

    receiver = Hanging()
    running = asyncio.create_task(sending(receiver).run())
    async with asyncio.timeout(6):
        while len(receiver.seen) < 98:
            await asyncio.sleep(0.05)
        while len(await rows(status="DELIVERED")) < 98:
            await asyncio.sleep(0.05)
    assert hanging.id not in {delivery.webhook_id for delivery in receiver.seen}
    late = await webhook()  # and who comes while it hangs is not late either
    await waiting(late)
    async with asyncio.timeout(2):
        while late.id not in {delivery.webhook_id for delivery in receiver.seen}:
            await asyncio.sleep(0.05)
    done.set()
    await running


# What becomes of the webhook


async def status_of(hook: Webhook) -> str:
    return (await WEBHOOKS.get(hook.id, hook.owner_id)).status


async def test_after_five_failures_in_a_row_there_is_one_trial_at_a_time(database: str) -> None:
    hook = await webhook()
    await waiting(hook, DEGRADED_AFTER)
    await sending(Receiver(lambda *_: BROKEN)).run()
    assert await status_of(hook) == "degraded"
    await time_passes()
    receiver = Receiver(lambda *_: BROKEN, seconds=0.1)
    await sending(receiver).run()
    assert (receiver.most, len(receiver.seen)) == (1, 1)  # and the next one after a pause
    await time_passes()
    await sending(Receiver()).run()
    assert await status_of(hook) == "active"
    assert [status for status, _ in await states()] == ["DELIVERED"] * DEGRADED_AFTER


async def test_a_success_in_between_keeps_a_webhook_active(database: str) -> None:
    hook = await webhook()
    for number, answer in enumerate([*[BROKEN] * 4, OK, *[BROKEN] * 4], start=1):
        await waiting(hook, first=number)  # one by one: attempts side by side may end in another order
        await sending(Receiver(lambda *_, answer=answer: answer)).run()
    assert await status_of(hook) == "active"


async def test_nothing_but_failures_for_five_days_disables_a_webhook(database: str) -> None:
    hook = await webhook(failures=7, failing_since=utc_now() - timedelta(days=5, minutes=1), status="degraded")
    young = await webhook("usr_2", failures=7, failing_since=utc_now() - timedelta(days=4, hours=23), status="degraded")
    await waiting(hook, 3)
    await waiting(young, 3)
    await sending(Receiver(lambda *_: BROKEN)).run()
    assert (await status_of(hook), await status_of(young)) == ("disabled", "degraded")
    assert [status for status, _ in await states(webhook_id=hook.id)] == ["EXHAUSTED"] * 3
    assert [status for status, _ in await states(webhook_id=young.id)] == ["FAILED", "PENDING", "PENDING"]


async def test_gone_disables_a_webhook_and_closes_what_waits(database: str) -> None:
    hook = await webhook()
    await waiting(hook, 10)
    later = event(99, at=utc_now() + timedelta(hours=1))
    other = await webhook("usr_2")
    await waiting(other)
    await DELIVERIES.add([delivery_of(other.id, later, owner_id="usr_2")])
    receiver = Receiver(lambda *_: EgressAnswer(410, "http_status"))
    await sending(receiver).run()
    assert (await status_of(hook), await status_of(other)) == ("disabled", "disabled")
    assert {status for status, _ in await states()} == {"EXHAUSTED"}
    assert len(receiver.seen) <= IN_FLIGHT + 1


async def test_a_webhook_that_has_changed_is_not_deleted_as_what_it_was(database: str) -> None:
    hook = await webhook()
    changed = await WEBHOOKS.change(hook, {"events": ("document.failed",)})
    assert not await WEBHOOKS.remove(hook)
    assert await WEBHOOKS.remove(changed)


async def test_what_waits_for_a_webhook_that_was_deleted_is_never_sent(database: str) -> None:
    hook = await webhook()
    await waiting(hook, 3)
    assert await WEBHOOKS.remove(hook)
    receiver = Receiver()
    await sending(receiver).run()
    assert (receiver.seen, {status for status, _ in await states()}) == ([], {"EXHAUSTED"})


async def test_an_attempt_under_way_when_its_webhook_ends_is_told_as_it_was(database: str) -> None:
    hook = await webhook()
    await waiting(hook, 2)

    class Ending(Receiver):
        async def send(self, webhook: Webhook, delivery: Delivery) -> EgressAnswer:
            answer = OK if not self.seen else BROKEN
            self.seen.append(delivery)
            current = await WEBHOOKS.get(hook.id, "usr_1")
            if current.status == "active":
                with suppress(PreconditionFailed):  # the other attempt was first
                    await WEBHOOKS.change(current, {"status": "disabled"})
            await DELIVERIES.exhaust(hook.id)
            return answer

    await sending(Ending()).run()
    assert await status_of(hook) == "disabled"
    assert sorted(status for status, _ in await states()) in (["DELIVERED", "EXHAUSTED"], ["DELIVERED"])


# Again


async def test_recover_reopens_what_failed_since_then(database: str) -> None:
    hook, now = await webhook(), utc_now()
    other = await webhook()
    ages = {1: timedelta(hours=1), 2: timedelta(hours=3), 3: timedelta(days=15)}
    made = [delivery_of(hook.id, event(number, at=now - age), owner_id="usr_1") for number, age in ages.items()]
    made.append(delivery_of(other.id, event(1, at=now - ages[1]), owner_id="usr_1"))
    await DELIVERIES.add(made)
    await sending(Receiver(lambda *_: REFUSED)).run()
    service = WebhookService(WEBHOOKS, DELIVERIES, SealedSecrets(BOX), Receiver(), Quiet(), utc_now)
    assert await service.recover("usr_1", hook.id, now - timedelta(hours=2)) == 1
    assert await service.recover("usr_1", hook.id, now - timedelta(days=30)) == 1  # the third is too old
    with pytest.raises(WebhookNotFound):
        await service.recover("usr_2", hook.id, now)
    receiver = Receiver()
    await sending(receiver).run()
    assert sorted(delivery.event_id for delivery in receiver.seen) == ["evt_doc_1_2", "evt_doc_2_2"]
    assert {delivery.webhook_id for delivery in receiver.seen} == {hook.id}


async def test_a_delivered_one_is_sent_again_under_the_same_id_with_all_its_tries(database: str) -> None:
    await waiting(await webhook())
    receiver = Receiver()
    await sending(receiver).run()
    (row,) = await rows()
    service = WebhookService(WEBHOOKS, DELIVERIES, SealedSecrets(BOX), receiver, Quiet(), utc_now)
    with pytest.raises(WebhookNotFound):
        await service.redeliver("usr_2", row["_id"])
    await service.redeliver("usr_1", row["_id"])
    await sending(receiver).run()
    assert [delivery.event_id for delivery in receiver.seen] == ["evt_doc_1_2"] * 2
    (row,) = await rows()
    assert (row["status"], row["tries"], len(row["attempts"])) == ("DELIVERED", 1, 2)


# Roots of keys


async def test_secrets_move_to_the_newest_key_and_lost_ones_end_their_webhook(database: str) -> None:
    old, lost = SecretBox([b"o" * 32]), SecretBox([b"l" * 32])
    kept, gone = await webhook(), await webhook()
    await WEBHOOKS.change(kept, {"secrets": (Secret(id="sec_1", sealed=old.seal(b"s" * 32, kept.id)),)})
    await WEBHOOKS.change(gone, {"secrets": (Secret(id="sec_1", sealed=lost.seal(b"s" * 32, gone.id)),)})
    current = await webhook()
    both = SecretBox([b"k" * 32, b"o" * 32])
    service = WebhookService(WEBHOOKS, DELIVERIES, SealedSecrets(both), Receiver(), Quiet(), utc_now)
    await service.seal_anew()
    renewed = await WEBHOOKS.get(kept.id, "usr_1")
    assert BOX.open(renewed.secrets[0].sealed, kept.id) == b"s" * 32
    assert (await status_of(gone), await status_of(kept)) == ("disabled", "active")
    assert await WEBHOOKS.get(current.id, "usr_1") == current
    assert [hook.id for hook in await WEBHOOKS.sealed_before(both.mark)] == [gone.id]
