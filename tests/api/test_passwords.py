"""Passwords: how they are compared, kept, and what many logins at a time cost."""

import asyncio
import statistics
import time
import unicodedata
from collections.abc import AsyncIterator

import httpx
import psutil
import pytest
from argon2 import PasswordHasher

from app.container import Container
from app.users.adapter.mongo import UserRecord
from app.users.domain.errors import CredentialsInvalid
from core.security import passwords
from core.security.passwords import WAITING
from tests.clients import PASSWORD, Person, problem

HASH_MIB = 19


@pytest.fixture
async def unlimited(container: Container, http: httpx.AsyncClient) -> AsyncIterator[Container]:
    """Without rate limits: here it is about what lies behind them."""
    with container.settings.override(container.settings().model_copy(update={"rate_limit_per_minute": 0})):
        yield container


async def login(http: httpx.AsyncClient, email: str, password: str) -> httpx.Response:
    return await http.post("/auth/login", json={"email": email, "password": password})


async def stored_hash(person: Person) -> str:
    user = await UserRecord.get(person.user_id)
    assert user is not None
    return user.password_hash


async def test_a_hash_of_other_parameters_is_renewed_at_the_next_login(http: httpx.AsyncClient, ada: Person) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    await UserRecord.get_pymongo_collection().update_one({"_id": ada.user_id}, {"$set": {"password_hash": weak}})
    problem(await login(http, ada.email, "wrong one"), 401, "credentials_invalid")
    assert await stored_hash(ada) == weak
    assert (await login(http, ada.email, PASSWORD)).status_code == 200
    renewed = await stored_hash(ada)
    assert renewed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (await login(http, ada.email, PASSWORD)).status_code == 200
    assert await stored_hash(ada) == renewed


async def test_canonically_equal_passwords_are_one_and_nothing_is_cut(http: httpx.AsyncClient) -> None:
    password = " Über-Äpfel für Ångström " + "x" * 990
    composed, decomposed = (unicodedata.normalize(form, password) for form in ("NFC", "NFD"))
    assert composed != decomposed
    answer = await http.post("/auth/register", json={"email": "ada@example.com", "password": decomposed})
    assert answer.status_code == 201
    for same in (composed, decomposed):
        assert (await login(http, "ada@example.com", same)).status_code == 200
    for other in (composed[:-1], composed.strip(), composed.lower(), composed[:72], composed[:128]):
        problem(await login(http, "ada@example.com", other), 401, "credentials_invalid")


async def test_known_and_unknown_accounts_take_the_same_time(unlimited: Container, ada: Person) -> None:
    """In CPU time of this process, hashing threads included, so that a busy machine does not matter."""
    sign_in = unlimited.users.sign_in()

    async def cost(email: str) -> float:
        started = time.process_time()
        with pytest.raises(CredentialsInvalid):
            await sign_in.login(email=email, password="wrong one", user_agent=None, network="192.0.2.0/32")
        return time.process_time() - started

    def one_hash() -> float:
        started = time.process_time()
        passwords._hash("wrong one")
        return time.process_time() - started

    for attempt in range(3):  # a single outlier of the machine is not ours
        known, unknown = [], []
        for number in range(25):
            known.append(await cost(ada.email))
            unknown.append(await cost(f"nobody{attempt}-{number}@example.com"))
        difference = abs(statistics.median(known) - statistics.median(unknown))
        a_hash = statistics.median(one_hash() for _ in range(9))
        if difference < a_hash / 10:
            return
    pytest.fail(f"known and unknown accounts differ by {difference / a_hash:.0%} of a hash")


async def test_a_flood_of_logins_keeps_memory_bounded_and_health_quick(
    unlimited: Container, http: httpx.AsyncClient, ada: Person
) -> None:
    process, concurrency = psutil.Process(), unlimited.settings().password_hash_concurrency
    before = peak = process.memory_info().rss
    flood = asyncio.gather(*(login(http, f"nobody{n}@example.com", "wrong one") for n in range(4 * WAITING)))
    seconds: list[float] = []
    while not flood.done():
        started = time.perf_counter()
        assert (await http.get("/health")).status_code == 200
        seconds.append(time.perf_counter() - started)
        peak = max(peak, process.memory_info().rss)
        await asyncio.sleep(0.005)
    answers = await flood
    codes = [answer.json()["code"] for answer in answers]
    assert set(codes) == {"credentials_invalid", "overloaded"}
    assert codes.count("credentials_invalid") <= concurrency + WAITING
    assert {answer.headers["retry-after"] for answer in answers if answer.status_code == 503} == {"1"}
    assert peak - before < (concurrency * HASH_MIB + 32) * 2**20  # all at once would be gigabytes
    assert len(seconds) > 5
    assert statistics.median(seconds) < 0.05
    assert (await login(http, ada.email, PASSWORD)).status_code == 200


async def test_bodies_about_passwords_are_small(ada: Person) -> None:
    change = {"current_password": PASSWORD, "new_password": "x" * 40_000}
    problem(await ada.post("/users/me/password", json=change), 413, "body_too_large")


async def test_the_list_of_common_passwords_is_long_and_leaves_phrases_alone(container: Container) -> None:
    common = passwords._common_passwords(8)
    assert len(common) >= 3000
    assert all(len(word) >= 8 for word in common)
    for phrase in (PASSWORD, "correct horse"):
        assert not await container.passwords().is_common(phrase)
