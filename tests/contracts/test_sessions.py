"""Sessions: one suite for real MongoDB and for the twin."""

import asyncio

from app.users.domain.ports import SessionLife, Sessions

LIFE = SessionLife(idle_s=100, absolute_s=1000, grace_s=10)
STRICT = SessionLife(idle_s=100, absolute_s=1000, grace_s=0)
SHORT = SessionLife(idle_s=1, absolute_s=1, grace_s=0)


async def test_a_session_is_alive_until_it_ends(sessions: Sessions) -> None:
    await sessions.start("ses_1", "usr_1", "$agent", LIFE)
    assert await sessions.is_alive("ses_1", "usr_1")
    assert not await sessions.is_alive("ses_1", "usr_2")
    assert not await sessions.is_alive("ses_2", "usr_1")
    await sessions.start("ses_3", "usr_1", None, SHORT)
    await asyncio.sleep(1.05)
    assert not await sessions.is_alive("ses_3", "usr_1")
    assert await sessions.rotate("ses_3", "usr_1", 1, LIFE) is None


async def test_concurrent_refreshes_converge_on_one_successor(sessions: Sessions) -> None:
    await sessions.start("ses_1", "usr_1", None, LIFE)
    answers = await asyncio.gather(*(sessions.rotate("ses_1", "usr_1", 1, LIFE) for _ in range(20)))
    assert {(answer.gen, answer.state) for answer in answers if answer} == {(2, "active")}
    assert len([answer for answer in answers if answer]) == 20
    assert answers[0] is not None
    assert answers[0].user_agent is None


async def test_an_old_generation_ends_the_session(sessions: Sessions) -> None:
    await sessions.start("ses_1", "usr_1", None, STRICT)
    assert await sessions.rotate("ses_1", "usr_1", 1, STRICT) is not None
    reused = await sessions.rotate("ses_1", "usr_1", 1, STRICT)
    assert reused is not None
    assert reused.state == "revoked_reuse"
    assert not await sessions.is_alive("ses_1", "usr_1")
    assert await sessions.rotate("ses_1", "usr_1", 2, STRICT) is None


async def test_an_older_generation_is_reuse_even_within_the_grace(sessions: Sessions) -> None:
    await sessions.start("ses_1", "usr_1", None, LIFE)
    for generation in (1, 2):
        assert await sessions.rotate("ses_1", "usr_1", generation, LIFE) is not None
    reused = await sessions.rotate("ses_1", "usr_1", 1, LIFE)
    assert reused is not None
    assert reused.state == "revoked_reuse"


async def test_a_generation_from_the_future_changes_nothing(sessions: Sessions) -> None:
    await sessions.start("ses_1", "usr_1", None, LIFE)
    ahead = await sessions.rotate("ses_1", "usr_1", 7, LIFE)
    assert ahead is not None
    assert (ahead.gen, ahead.state) == (1, "active")
    assert await sessions.is_alive("ses_1", "usr_1")


async def test_refreshing_does_not_outlive_the_absolute_end(sessions: Sessions) -> None:
    life = SessionLife(idle_s=100, absolute_s=50, grace_s=10)
    await sessions.start("ses_1", "usr_1", None, life)
    rotated = await sessions.rotate("ses_1", "usr_1", 1, life)
    assert rotated is not None
    assert rotated.ends_at == rotated.absolute_at
