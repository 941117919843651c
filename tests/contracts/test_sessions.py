"""Sessions: one suite for real MongoDB and for the twin."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app.users.adapter.mongo import MongoUsers, SessionRecord
from app.users.domain.ports import SessionLife, Sessions
from app.users.domain.user import User
from core.clock import utc_now
from tests.sessions_twin import SessionsTwin

LIFE = SessionLife(idle_s=100, absolute_s=1000, grace_s=10)
STRICT = SessionLife(idle_s=100, absolute_s=1000, grace_s=0)
SHORT = SessionLife(idle_s=1, absolute_s=1, grace_s=0)


@pytest.fixture
async def user(database: str) -> User:
    return await MongoUsers().add(_user("usr_1"))


@pytest.fixture
async def other(database: str) -> User:
    return await MongoUsers().add(_user("usr_2"))


def _user(user_id: str) -> User:
    key = f"{user_id}@example.com"
    return User(id=user_id, email=key, email_key=key, name=None, password_hash="old", created_at=utc_now())


async def ids(sessions: Sessions, user_id: str = "usr_1") -> list[str]:
    return [session.id for session in await sessions.list(user_id)]


async def age(sessions: Sessions, session_id: str, seconds: int) -> None:
    """As if it had not been used for a while."""
    if isinstance(sessions, SessionsTwin):
        row = sessions.rows[session_id]
        last = row.last_seen_at - timedelta(seconds=seconds)
        sessions.rows[session_id] = row.model_copy(update={"last_seen_at": last})
    else:
        moved: dict[str, Any] = {"last_seen_at": {"$subtract": ["$last_seen_at", seconds * 1000]}}
        await SessionRecord.get_pymongo_collection().update_one({"_id": session_id}, [{"$set": moved}])


async def test_a_session_is_alive_until_it_ends(sessions: Sessions, user: User) -> None:
    assert await sessions.start("ses_1", user, "$agent", LIFE) == []
    left = await sessions.seconds_left("ses_1", "usr_1")
    assert left is not None
    assert 98 < left <= 100
    assert await sessions.seconds_left("ses_1", "usr_2") is None
    assert await sessions.seconds_left("ses_2", "usr_1") is None
    await sessions.start("ses_3", user, None, SHORT)
    await asyncio.sleep(1.05)
    assert await sessions.seconds_left("ses_3", "usr_1") is None
    assert await sessions.rotate("ses_3", "usr_1", 1, LIFE) is None
    assert await ids(sessions) == ["ses_1"]
    assert (await MongoUsers().get("usr_1")).last_login_at is not None


async def test_concurrent_refreshes_converge_on_one_successor(sessions: Sessions, user: User) -> None:
    await sessions.start("ses_1", user, None, LIFE)
    answers = await asyncio.gather(*(sessions.rotate("ses_1", "usr_1", 1, LIFE) for _ in range(20)))
    assert {(answer.gen, answer.state) for answer in answers if answer} == {(2, "active")}
    assert len([answer for answer in answers if answer]) == 20
    assert answers[0] is not None
    assert answers[0].user_agent is None


async def test_an_old_generation_ends_the_session(sessions: Sessions, user: User) -> None:
    await sessions.start("ses_1", user, None, STRICT)
    assert await sessions.rotate("ses_1", "usr_1", 1, STRICT) is not None
    reused = await sessions.rotate("ses_1", "usr_1", 1, STRICT)
    assert reused is not None
    assert reused.state == "revoked_reuse"
    assert await sessions.seconds_left("ses_1", "usr_1") is None
    assert await sessions.rotate("ses_1", "usr_1", 2, STRICT) is None
    assert await ids(sessions) == []
    assert not await sessions.end("ses_1", "usr_1")  # the tombstone stays


async def test_an_older_generation_is_reuse_even_within_the_grace(sessions: Sessions, user: User) -> None:
    await sessions.start("ses_1", user, None, LIFE)
    for generation in (1, 2):
        assert await sessions.rotate("ses_1", "usr_1", generation, LIFE) is not None
    reused = await sessions.rotate("ses_1", "usr_1", 1, LIFE)
    assert reused is not None
    assert reused.state == "revoked_reuse"


async def test_two_holders_who_take_turns_are_caught_at_the_first_late_replay(sessions: Sessions, user: User) -> None:
    await sessions.start("ses_1", user, None, STRICT)
    thief = await sessions.rotate("ses_1", "usr_1", 1, STRICT)
    assert thief is not None
    assert thief.gen == 2
    victim = await sessions.rotate("ses_1", "usr_1", 1, STRICT)  # the direct parent: still reuse
    assert victim is not None
    assert victim.state == "revoked_reuse"
    assert await sessions.rotate("ses_1", "usr_1", 2, STRICT) is None


async def test_a_generation_from_the_future_changes_nothing(sessions: Sessions, user: User) -> None:
    await sessions.start("ses_1", user, None, LIFE)
    ahead = await sessions.rotate("ses_1", "usr_1", 7, LIFE)
    assert ahead is not None
    assert (ahead.gen, ahead.state) == (1, "active")
    assert await sessions.seconds_left("ses_1", "usr_1")


async def test_refreshing_does_not_outlive_the_absolute_end(sessions: Sessions, user: User) -> None:
    life = SessionLife(idle_s=100, absolute_s=50, grace_s=10)
    await sessions.start("ses_1", user, None, life)
    rotated = await sessions.rotate("ses_1", "usr_1", 1, life)
    assert rotated is not None
    assert rotated.ends_at == rotated.absolute_at


async def test_a_login_makes_room_by_ending_what_was_not_used_for_longest(
    sessions: Sessions, user: User, other: User
) -> None:
    await sessions.start("ses_other", other, None, LIFE)
    for number in range(10):
        assert await sessions.start(f"ses_{number}", user, None, LIFE) == []
        await age(sessions, f"ses_{number}", 100 - number)
    await sessions.rotate("ses_0", "usr_1", 1, LIFE)  # the oldest, but in use
    assert await sessions.start("ses_new", user, None, LIFE) == ["ses_1"]
    found = await ids(sessions)
    assert len(found) == 10
    assert {"ses_new", "ses_0"} < set(found)
    assert "ses_1" not in found
    assert await ids(sessions, "usr_2") == ["ses_other"]


async def test_being_seen_is_noted_once_a_minute(sessions: Sessions, user: User) -> None:
    await sessions.start("ses_1", user, None, LIFE)
    (fresh,) = await sessions.list("usr_1")
    await sessions.seconds_left("ses_1", "usr_1")
    assert (await sessions.list("usr_1"))[0].last_seen_at == fresh.last_seen_at
    await age(sessions, "ses_1", 70)
    await sessions.seconds_left("ses_1", "usr_1")
    assert (await sessions.list("usr_1"))[0].last_seen_at >= fresh.last_seen_at


async def test_only_its_owner_ends_a_session(sessions: Sessions, user: User) -> None:
    await sessions.start("ses_1", user, None, LIFE)
    assert not await sessions.end("ses_1", "usr_2")
    assert await sessions.end("ses_1", "usr_1")
    assert not await sessions.end("ses_1", "usr_1")
    assert await sessions.rotate("ses_1", "usr_1", 1, LIFE) is None


async def test_ending_all_also_ends_a_login_that_is_under_way(sessions: Sessions, user: User, other: User) -> None:
    await sessions.start("ses_1", user, None, LIFE)
    await sessions.start("ses_2", user, None, LIFE)
    await sessions.start("ses_3", other, None, LIFE)
    assert sorted(await sessions.end_all("usr_1")) == ["ses_1", "ses_2"]
    assert await sessions.start("ses_4", user, None, LIFE) is None  # it read the user before
    assert await ids(sessions) == []
    assert await ids(sessions, "usr_2") == ["ses_3"]
    assert await sessions.start("ses_5", await MongoUsers().get("usr_1"), None, LIFE) == []


async def test_another_password_ends_all_sessions_but_one(sessions: Sessions, user: User) -> None:
    for number in range(3):
        await sessions.start(f"ses_{number}", user, None, LIFE)
    ended = await sessions.change_password(user, "new", keep="ses_1")
    assert ended is not None
    assert sorted(ended) == ["ses_0", "ses_2"]
    assert await ids(sessions) == ["ses_1"]
    assert (await MongoUsers().get("usr_1")).password_hash == "new"
    assert await sessions.change_password(user, "newer", keep="ses_1") is None
    assert (await MongoUsers().get("usr_1")).password_hash == "new"
    assert await sessions.start("ses_4", user, None, LIFE) is None
