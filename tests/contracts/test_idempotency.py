"""Idempotency-Keys, and commands that run twice: one suite for real MongoDB and for the server-free twins."""

import asyncio
from collections.abc import Callable

import pytest

from app.documents.adapter.mongo import MongoDocuments
from app.documents.domain.document import Document, RunResult
from app.documents.domain.errors import DocumentNotFound
from app.documents.domain.ports import Runs
from app.folders.adapter.mongo import FolderKeyRecord, MongoFolders
from app.folders.domain.errors import FolderExists
from app.folders.domain.folder import Folder
from app.users.adapter.mongo import MongoUsers
from app.users.domain.errors import EmailTaken
from app.users.domain.user import User
from core.clock import utc_now
from core.idempotency import Answer, IdempotencyKeys, MongoIdempotencyKeys
from core.ids import id_for, id_pattern, new_id
from tests.idempotency_twin import IdempotencyKeysTwin

DONE = Answer(status=201, headers={"location": "$body"}, body='{"a": "$$NOW"}')  # never an expression
OTHER = Answer(status=200, headers={}, body="{}")
BODY, OTHER_BODY = ("hash under the new secret", "hash under the old secret"), ("another",)

Make = Callable[..., IdempotencyKeys]


@pytest.fixture
def make(database: str) -> Make:
    """Keys with a lease and a life in seconds."""

    def made(*, lease_s: float = 0.3, kept_s: float = 60) -> IdempotencyKeys:
        if database == "mongodb":
            return MongoIdempotencyKeys(FolderKeyRecord, lease_s=lease_s, kept_s=kept_s)
        return IdempotencyKeysTwin(utc_now, lease_s=lease_s, kept_s=kept_s)

    return made


async def test_of_many_at_once_one_holds_the_key(make: Make) -> None:
    keys = make(lease_s=30)
    claims = await asyncio.gather(*(keys.claim("k", BODY, f"cmd_{number}") for number in range(50)))
    won = [number for number, claim in enumerate(claims) if claim.holder == f"cmd_{number}"]
    assert len(won) == 1
    assert {claim.command_id for claim in claims} == {f"cmd_{won[0]}"}
    assert (await keys.claim("another", BODY, "cmd_x")).holder == "cmd_x"


async def test_an_answer_is_kept_and_given_to_everybody_after(make: Make) -> None:
    keys = make()
    await keys.claim("k", BODY, "cmd_1")
    await keys.finish("k", "cmd_1", DONE)
    await keys.finish("k", "cmd_1", OTHER)
    await keys.release("k", "cmd_1")
    await keys.forget("k", "cmd_1")
    await asyncio.sleep(0.35)  # longer than a lease, which nobody takes over any more
    for body in (OTHER_BODY, BODY):
        again = await keys.claim("k", body, "cmd_2")
        assert (again.response, again.holder, again.body_hash) == (DONE, "cmd_1", BODY[0])


async def test_of_many_at_once_one_takes_over_what_a_dead_holder_left(make: Make) -> None:
    keys = make(lease_s=0.3)
    await keys.claim("k", BODY[1:], "cmd_dead")
    assert (await keys.claim("k", BODY, "cmd_early")).holder == "cmd_dead"
    await asyncio.sleep(0.35)
    assert (await keys.claim("k", OTHER_BODY, "cmd_other")).holder == "cmd_dead"
    claims = await asyncio.gather(*(keys.claim("k", BODY, f"cmd_{number}") for number in range(20)))
    assert len([number for number, claim in enumerate(claims) if claim.holder == f"cmd_{number}"]) == 1
    assert {(claim.command_id, claim.body_hash) for claim in claims} == {("cmd_dead", BODY[1])}


async def test_a_renewed_lease_is_not_taken_over(make: Make) -> None:
    keys = make(lease_s=0.4)
    await keys.claim("k", BODY, "cmd_1")
    for _ in range(3):
        await asyncio.sleep(0.2)
        await keys.renew("k", "cmd_1")
        await keys.renew("k", "cmd_2")
    assert (await keys.claim("k", BODY, "cmd_2")).holder == "cmd_1"


async def test_a_stranger_neither_renews_nor_releases(make: Make) -> None:
    keys = make(lease_s=0.3)
    await keys.claim("k", BODY, "cmd_1")
    await keys.release("k", "cmd_2")
    assert (await keys.claim("k", BODY, "cmd_2")).holder == "cmd_1"
    await asyncio.sleep(0.35)
    await keys.renew("k", "cmd_2")
    assert (await keys.claim("k", BODY, "cmd_2")).holder == "cmd_2"


async def test_a_released_key_is_taken_over_at_once_under_the_same_command(make: Make) -> None:
    keys = make(lease_s=30)
    await keys.claim("k", BODY, "cmd_1")
    await keys.release("k", "cmd_1")
    assert (await keys.claim("k", OTHER_BODY, "cmd_2")).holder == "cmd_1"
    second = await keys.claim("k", BODY, "cmd_2")
    assert (second.holder, second.command_id) == ("cmd_2", "cmd_1")


async def test_only_the_first_holder_frees_a_key_and_only_while_it_is_the_only_one(make: Make) -> None:
    keys = make(lease_s=30)
    await keys.claim("k", BODY, "cmd_1")
    await keys.forget("k", "cmd_2")
    assert (await keys.claim("k", BODY, "cmd_2")).holder == "cmd_1"
    await keys.forget("k", "cmd_1")
    free = await keys.claim("k", OTHER_BODY, "cmd_3")
    assert (free.holder, free.command_id) == ("cmd_3", "cmd_3")

    await keys.release("k", "cmd_3")
    await keys.claim("k", OTHER_BODY, "cmd_4")
    for holder in ("cmd_3", "cmd_4"):  # once taken over, it stays bound to its command
        await keys.forget("k", holder)
    assert (await keys.claim("k", OTHER_BODY, "cmd_5")).command_id == "cmd_3"


async def test_the_answer_of_a_late_first_run_counts(make: Make) -> None:
    keys = make(lease_s=30)
    await keys.claim("k", BODY, "cmd_1")
    await keys.release("k", "cmd_1")
    await keys.claim("k", BODY, "cmd_2")
    await keys.finish("k", "cmd_1", DONE)  # by its command: both runs made the same
    assert (await keys.claim("k", BODY, "cmd_3")).response == DONE


async def test_a_key_past_its_time_is_as_if_it_had_never_been(make: Make) -> None:
    keys = make(lease_s=30, kept_s=0.3)
    for done in (True, False):
        await keys.claim("k", BODY, "cmd_1")
        if done:
            await keys.finish("k", "cmd_1", DONE)
        await asyncio.sleep(0.35)
        fresh = await keys.claim("k", OTHER_BODY, "cmd_2")
        assert (fresh.holder, fresh.command_id, fresh.response) == ("cmd_2", "cmd_2", None)
        assert fresh.body_hash == OTHER_BODY[0]
        await keys.finish("k", "cmd_1", DONE)  # of the command that was forgotten
        assert (await keys.claim("k", OTHER_BODY, "cmd_3")).response is None
        await keys.forget("k", "cmd_2")


async def test_an_answer_is_kept_for_its_whole_time(make: Make) -> None:
    keys = make(lease_s=30, kept_s=0.6)
    await keys.claim("k", BODY, "cmd_1")
    await asyncio.sleep(0.4)
    await keys.finish("k", "cmd_1", DONE)
    await asyncio.sleep(0.4)
    assert (await keys.claim("k", BODY, "cmd_2")).response == DONE


def test_what_a_command_makes_has_the_same_id_in_every_run() -> None:
    command = new_id("cmd")
    made = id_for("doc", command)
    assert made == id_for("doc", command)
    assert id_pattern("doc").fullmatch(made)
    assert id_for("doc", None) != id_for("doc", None)
    assert id_for("doc", new_id("cmd")) != made


async def test_a_second_run_is_given_the_folder_of_the_first(database: str) -> None:
    folders, now = MongoFolders(), utc_now().replace(microsecond=0)

    def folder(folder_id: str, owner: str = "usr_1") -> Folder:
        return Folder(
            id=folder_id, owner_id=owner, name="A", source=None, version=1, created_at=now, updated_at=now
        )  # fmt: skip

    first = await folders.add(folder("fld_1"))
    assert Folder(**(await folders.add(folder("fld_1"))).model_dump(include=set(Folder.model_fields))) == first
    with pytest.raises(FolderExists):
        await folders.add(folder("fld_2"))
    with pytest.raises(FolderExists):
        await folders.add(folder("fld_1", "usr_2"))


async def test_a_second_run_is_given_the_account_of_the_first(database: str) -> None:
    users, now = MongoUsers(), utc_now()

    def user(user_id: str, name: str) -> User:
        return User(id=user_id, email="a@b.c", email_key="a@b.c", name=name, password_hash="x", created_at=now)

    await users.add(user("usr_1", "first"))
    assert (await users.add(user("usr_1", "second"))).name == "first"
    with pytest.raises(EmailTaken):
        await users.add(user("usr_2", "first"))


def document(document_id: str, key: str = "k", owner: str = "usr_1") -> Document:
    now = utc_now()
    return Document(
        id=document_id, owner_id=owner, filename="a.pdf", content_type="application/pdf", size=1, sha256="00", key=key,
        created_at=now, updated_at=now,
    )  # fmt: skip


async def test_a_second_run_is_given_the_document_of_the_first(database: str, runs: Runs) -> None:
    documents = MongoDocuments(utc_now)
    assert await documents.find("doc_1", "usr_1") is None
    await documents.add(document("doc_1", "first"))
    assert (await documents.add(document("doc_1", "second"))).key == "first"
    assert await documents.find("doc_1", "usr_2") is None
    with pytest.raises(DocumentNotFound):
        await documents.add(document("doc_1", owner="usr_2"))
    await runs.remove("doc_1", "usr_1")
    with pytest.raises(DocumentNotFound):  # deleted since: it does not come back
        await documents.add(document("doc_1", "second"))


async def test_one_command_starts_one_attempt(database: str, runs: Runs) -> None:
    await MongoDocuments(utc_now).add(document("doc_1"))

    async def asked(command_id: str | None) -> Document | None:
        return await runs.request(
            "doc_1", "usr_1", processor="extract", options={}, force=True, request_id="r", command_id=command_id
        )

    first = await asked("cmd_1")
    assert first is not None
    assert first.run.command_id == "cmd_1"
    await runs.claim("doc_1", 1, token="t", worker="w")
    result = RunResult(
        attempt=1, processor="extract", version="1", partial=False, warnings=(), summary=None, objects={}
    )
    assert await runs.complete("doc_1", "t", result)
    assert await asked("cmd_1") is None
    second = await asked(None)
    assert second is not None
    assert (second.run.attempt, second.run.command_id) == (2, None)
