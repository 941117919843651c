"""Sessions on real MongoDB and Redis: races, and what is left when one of the two is flushed, hangs or dies."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from dependency_injector import providers
from pydantic import SecretStr
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app.container import Container, build_container
from app.runtime import migrate
from app.server import create_app
from app.users.adapter.mongo import SessionRecord
from app.users.application.own_sessions import FILL_S, OwnSessions
from app.users.domain.ports import ENDED
from core import metrics
from core.config import Settings
from core.ids import random_token
from core.local.stack import Embedded, LocalServers, start_servers
from core.mongo import MongoUnavailable
from core.security.keys import ensure_local_signing_key
from core.security.tokens import TokenCodec, load_signing_keys
from tests.api.conftest import RecordedWakeUps
from tests.clients import PASSWORD, PRIVATE_TOKEN, SIGNING_SECRET, Person, problem

GRACE_S = 1


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """Servers that nobody else uses, since they are stopped here."""
    with start_servers(tmp_path_factory.mktemp("own"), Embedded(s3=False)) as running:
        yield running


@pytest.fixture
async def container(own: LocalServers, tmp_path: Path, signing_key: Path) -> AsyncIterator[Container]:
    settings = Settings(
        app_env="test",
        data_dir=tmp_path,
        mongo_url=SecretStr(own.mongo_url),
        mongo_db=f"t{random_token(48)}",
        redis_url=SecretStr(own.redis_url),
        storage_backend="local",
        jwt_private_keys=(str(signing_key),),
        private_tokens=SecretStr(PRIVATE_TOKEN),
        scan_signing_secret=SecretStr(SIGNING_SECRET),
        refresh_grace_seconds=GRACE_S,
        rate_limit_per_minute=0,
    )
    container = build_container(settings, "api")
    container.wake_ups.override(providers.Singleton(RecordedWakeUps))
    await migrate(container)
    yield container
    container.unwire()


@pytest.fixture
async def http(container: Container) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(container)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dossier.test") as client,
    ):
        yield client


@pytest.fixture
async def ada(http: httpx.AsyncClient) -> Person:
    return await Person.registered(http, "ada@example.com")


@pytest.fixture
async def redis(own: LocalServers) -> AsyncIterator[Redis]:
    client = Redis.from_url(own.redis_url, decode_responses=True)
    yield client
    await client.aclose()


@contextmanager
def stopped(own: LocalServers, name: str) -> Iterator[None]:
    own.stop(name)
    try:
        yield
    finally:
        own.start(name)


@contextmanager
def hung(own: LocalServers, name: str) -> Iterator[None]:
    os.kill(own.pid(name), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(own.pid(name), signal.SIGCONT)


def session_of(person: Person, container: Container) -> str:
    return str(container.token_codec().verify_access(person.tokens["access_token"]).session_id)


async def login(person: Person) -> Person:
    answer = await person.http.post("/auth/login", json={"email": person.email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return Person(person.http, person.email, person.user_id, answer.json())


async def refresh(person: Person, token: str | None = None) -> httpx.Response:
    return await person.http.post("/auth/refresh", json={"refresh_token": token or person.tokens["refresh_token"]})


async def is_in(person: Person) -> bool:
    answer = await person.get("/users/me")
    if answer.status_code == 200:
        return True
    problem(answer, 401, "token_revoked")
    return False


async def test_of_concurrent_refreshes_one_rotates_and_all_get_its_successor(ada: Person, container: Container) -> None:
    answers = await asyncio.gather(*(refresh(ada) for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
    codec = container.token_codec()
    assert {codec.verify_refresh(answer.json()["refresh_token"]).generation for answer in answers} == {2}
    row = await SessionRecord.get(session_of(ada, container))
    assert row is not None
    assert row.gen == 2


async def test_a_replay_after_the_grace_ends_the_session_and_its_access_tokens(ada: Person) -> None:
    old = ada.tokens["refresh_token"]
    ada.tokens = (await refresh(ada)).json()
    assert (await refresh(ada, old)).status_code == 200  # a lost answer
    assert await is_in(ada)  # and Redis remembers it
    await asyncio.sleep(GRACE_S + 0.1)
    with capture_logs() as lines:
        problem(await refresh(ada, old), 401, "refresh_invalid")
    assert [line for line in lines if line.get("name") == "refresh_reuse"]
    assert not await is_in(ada)
    problem(await refresh(ada), 401, "refresh_invalid")


async def test_forged_tokens_and_those_from_the_future_end_no_session(
    ada: Person, container: Container, tmp_path: Path
) -> None:
    session_id = session_of(ada, container)
    ada.tokens = (await refresh(ada)).json()
    await asyncio.sleep(GRACE_S + 0.1)
    stranger = TokenCodec(
        load_signing_keys([ensure_local_signing_key(tmp_path / "other")]),
        issuer="dossier",
        access_ttl=600,
        refresh_ttl=604_800,
    )
    late = container.token_codec().mint_refresh(ada.user_id, session_id, 7, 600)
    with capture_logs() as lines:
        for token in (stranger.mint_refresh(ada.user_id, session_id, 1, 600), late):
            problem(await refresh(ada, token), 401, "refresh_invalid")
    assert not [line for line in lines if line.get("name") == "refresh_reuse"]
    assert await is_in(ada)
    assert (await refresh(ada)).status_code == 200


async def test_nothing_survives_logout_all(ada: Person, container: Container) -> None:
    """Logins that have read the user, and refreshes, against the end of all: whoever comes first."""
    users, sessions = container.users.users(), container.users.sessions()
    life, survivors = container.users.life(), []
    for number in range(15):
        user = await users.get(ada.user_id)
        running = f"ses_{number}"
        assert await sessions.start(running, user, None, life) is not None
        starts = [sessions.start(f"ses_{number}_{each}", user, None, life) for each in range(4)]
        moves = [sessions.rotate(running, ada.user_id, each, life) for each in (1, 1, 2)]
        await asyncio.gather(*starts[:2], *moves[:1], sessions.end_all(ada.user_id), *moves[1:], *starts[2:])
        survivors += await sessions.list(ada.user_id)
    assert survivors == []


async def test_all_sessions_end_together_with_what_ends_them_or_not_at_all(
    ada: Person, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> list[str]:
        raise RuntimeError

    users, sessions = container.users.users(), container.users.sessions()
    before = await users.get(ada.user_id)
    monkeypatch.setattr("app.users.adapter.mongo._delete", dies)
    with pytest.raises(RuntimeError):
        await sessions.end_all(ada.user_id)
    with pytest.raises(RuntimeError):
        await sessions.change_password(before, "new", keep="none")
    assert await users.get(ada.user_id) == before
    assert await is_in(ada)


async def test_many_logins_at_a_time_leave_ten_sessions(ada: Person, container: Container) -> None:
    people = await asyncio.gather(*(login(ada) for _ in range(14)))
    alive = [person for person in (ada, *people) if await is_in(person)]
    assert len(alive) == 10
    assert len(await container.users.sessions().list(ada.user_id)) == 10
    assert ada not in alive


async def test_an_end_that_overtakes_a_check_holds(
    ada: Person, container: Container, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check has read MongoDB, the session ends, and only then does the check tell Redis."""
    cache = container.users.session_cache()
    genuine, read, go_on = cache.keep, asyncio.Event(), asyncio.Event()

    async def late(session_id: str, user_id: str, seconds: float) -> None:
        read.set()
        await go_on.wait()
        await genuine(session_id, user_id, seconds)

    monkeypatch.setattr(cache, "keep", late)
    check = asyncio.create_task(ada.get("/users/me"))
    await read.wait()
    assert (await ada.post("/auth/logout")).status_code == 204
    go_on.set()
    assert (await check).status_code == 200
    monkeypatch.undo()
    assert await redis.get(f"session:{session_of(ada, container)}") == ENDED
    assert not await is_in(ada)


async def test_what_was_read_too_long_ago_is_not_told_to_redis(ada: Person, container: Container, redis: Redis) -> None:
    for age, remembered in ((FILL_S, None), (FILL_S - 1, ada.user_id)):
        times = iter([0.0, float(age)])
        slow = OwnSessions(container.users.sessions(), container.users.session_cache(), times.__next__)
        assert await slow.is_alive(session_of(ada, container), ada.user_id)
        assert await redis.get(f"session:{session_of(ada, container)}") == remembered


async def test_redis_holds_who_it_is_and_until_when(ada: Person, container: Container, redis: Redis) -> None:
    key = f"session:{session_of(ada, container)}"
    await is_in(ada)
    assert await redis.get(key) == ada.user_id
    assert 50_000 < await redis.pttl(key) <= 60_000
    ending = {"$set": {"ends_at": {"$add": ["$$NOW", 5000]}}}
    await SessionRecord.get_pymongo_collection().update_one({"_id": session_of(ada, container)}, [ending])
    await redis.flushall()
    await is_in(ada)
    assert 3_000 < await redis.pttl(key) <= 5_000
    await ada.post("/auth/logout")
    assert await redis.get(key) == ENDED
    assert 50_000 < await redis.pttl(key) <= 60_000


@pytest.mark.parametrize("how", ["logout", "logout-all", "password", "another session", "eviction"])
async def test_an_end_counts_at_once_although_redis_believed_the_session(ada: Person, how: str) -> None:
    elsewhere = await login(ada)
    assert await is_in(ada)
    if how == "logout":
        await ada.post("/auth/logout")
    elif how == "logout-all":
        await elsewhere.post("/auth/logout-all")
    elif how == "password":
        change = {"current_password": PASSWORD, "new_password": "staple of another battery"}
        assert (await elsewhere.post("/users/me/password", json=change)).status_code == 204
    elif how == "another session":
        items = (await ada.get("/auth/sessions")).json()["items"]
        (mine,) = [item["session_id"] for item in items if item["current"]]
        assert (await elsewhere.call("DELETE", f"/auth/sessions/{mine}")).status_code == 204
    else:
        await asyncio.gather(*(login(ada) for _ in range(10)))
    assert not await is_in(ada)


async def test_a_crowd_does_not_run_out_of_connections(ada: Person, container: Container) -> None:
    session_id, cache = session_of(ada, container), container.users.session_cache()
    assert await is_in(ada)
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(cache.find(session_id) for _ in range(200)))
    assert set(answers) == {ada.user_id}


async def test_a_flushed_redis_logs_nobody_out_and_revives_nothing(ada: Person, redis: Redis) -> None:
    gone = await login(ada)
    assert await is_in(ada)
    assert (await gone.post("/auth/logout")).status_code == 204
    await redis.flushall()
    assert await is_in(ada)
    assert not await is_in(gone)
    problem(await refresh(gone), 401, "refresh_invalid")


async def test_without_redis_everything_answers_as_always(own: LocalServers, ada: Person) -> None:
    gone, unseen = await login(ada), metrics.session_ends_unseen._value.get()
    with stopped(own, "redis"):
        assert await is_in(ada)
        elsewhere = await login(ada)
        assert await is_in(elsewhere)
        assert (await refresh(elsewhere)).status_code == 200
        assert len((await ada.get("/auth/sessions")).json()["items"]) == 3
        assert (await gone.post("/auth/logout")).status_code == 204
        assert not await is_in(gone)
        problem(await refresh(gone), 401, "refresh_invalid")
    assert metrics.session_ends_unseen._value.get() == unseen + 1
    assert await is_in(ada)
    assert not await is_in(gone)


async def test_a_hung_redis_costs_the_first_requests_a_moment_and_the_others_nothing(
    own: LocalServers, ada: Person, redis: Redis, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = container.users.session_cache()
    breaker = cache._breaker
    genuine, now, asked = breaker.ask, time.monotonic(), 0

    async def counted(command: Any) -> Any:
        nonlocal asked
        asked += 1
        return await genuine(command)

    async def asks_of(requests: int) -> int:
        before = asked
        async with asyncio.timeout(5):  # a quarter of a second each would be too much
            assert all([await is_in(ada) for _ in range(requests)])
        return asked - before

    monkeypatch.setattr(breaker, "ask", counted)
    monkeypatch.setattr(breaker, "_now", lambda: now)
    with hung(own, "redis"):
        assert await asks_of(2) == 3  # to read, to fill, and to read again
        assert await asks_of(30) == 0
        assert (await login(ada)).tokens
        now += 5.1
        before = asked
        assert all(await asyncio.gather(*(is_in(ada) for _ in range(10))))
        assert asked - before == 1  # one asks on behalf of all
    now += 5.1
    await redis.flushall()
    assert await is_in(ada)
    assert await cache.find(session_of(ada, container)) == ada.user_id


async def test_without_mongodb_only_what_redis_knows_goes_on(
    own: LocalServers, ada: Person, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, unknown = await login(ada), await login(ada)
    assert await is_in(known)
    hashed: list[Any] = []
    passwords = container.passwords()
    for name in ("hash", "verify"):
        monkeypatch.setattr(passwords, name, hashed.append)
    credentials = {"email": ada.email, "password": PASSWORD}
    with stopped(own, "mongod"):
        authenticate = container.users.authenticate()
        principal = authenticate.identify([(b"authorization", known.auth["Authorization"].encode())])
        await authenticate.confirm(principal)
        assert principal.id == ada.user_id
        answers = await asyncio.gather(
            ada.http.post("/auth/login", json=credentials),
            refresh(known),
            known.post("/auth/logout"),
            known.post("/auth/logout-all"),
            known.post("/users/me/password", json={"current_password": PASSWORD, "new_password": PASSWORD + "!"}),
            unknown.get("/auth/sessions"),
        )
        stranger = authenticate.identify([(b"authorization", unknown.auth["Authorization"].encode())])
        with pytest.raises(MongoUnavailable):
            await authenticate.confirm(stranger)
    for answer in answers:
        problem(answer, 503, "dependency_unavailable")
        assert answer.headers["retry-after"] == "5"
    assert hashed == []
    assert await is_in(known)  # no end was told that had not happened


async def test_a_session_holds_nothing_that_identifies_but_the_user(ada: Person, container: Container) -> None:
    row = await SessionRecord.get_pymongo_collection().find_one({"_id": session_of(ada, container)})
    assert row is not None
    assert set(row) == {
        "_id", "user_id", "state", "gen", "rotated_at", "created_at", "last_seen_at", "ends_at", "absolute_at",
        "user_agent",
    }  # fmt: skip
