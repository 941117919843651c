"""Where somebody is signed in, and the end of that; another password."""

from typing import Any

import httpx
import pytest

from app.container import Container
from app.users.domain.ports import ENDED
from core.config import Settings
from core.security.tokens import TokenCodec, load_signing_keys
from tests.clients import PASSWORD, Person, problem

NEW = "staple of another battery"


async def signed_in_again(person: Person, **headers: str) -> Person:
    login = await person.http.post("/auth/login", json={"email": person.email, "password": PASSWORD}, headers=headers)
    return Person(person.http, person.email, person.user_id, login.json())


async def refresh(person: Person) -> httpx.Response:
    return await person.http.post("/auth/refresh", json={"refresh_token": person.tokens["refresh_token"]})


async def sessions(person: Person) -> list[dict[str, Any]]:
    answer = await person.get("/auth/sessions")
    assert answer.status_code == 200, answer.text
    assert answer.json()["next_cursor"] is None
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def has_ended(person: Person) -> bool:
    answer = await person.get("/users/me")
    if answer.status_code == 200:
        return False
    problem(answer, 401, "token_revoked")
    problem(await refresh(person), 401, "refresh_invalid")
    return True


async def test_logout_ends_this_session_and_may_be_repeated(ada: Person) -> None:
    elsewhere = await signed_in_again(ada)
    for _ in range(2):
        answer = await ada.post("/auth/logout")
        assert (answer.status_code, answer.content) == (204, b"")
        assert await has_ended(ada)
    assert not await has_ended(elsewhere)


async def test_an_expired_token_still_logs_out_and_does_nothing_else(
    http: httpx.AsyncClient, ada: Person, settings: Settings, container: Container
) -> None:
    session_id = container.token_codec().verify_access(ada.tokens["access_token"]).session_id
    keys = load_signing_keys(settings.jwt_private_keys)
    past = TokenCodec(keys, issuer="dossier", access_ttl=600, refresh_ttl=600, now=lambda: 1_700_000_000)
    expired = {"Authorization": f"Bearer {past.mint_access(ada.user_id, session_id)}"}
    problem(await http.post("/auth/logout-all", headers=expired), 401, "token_expired")
    assert (await http.post("/auth/logout", headers=expired)).status_code == 204
    problem(await http.get("/users/me", headers=expired), 401, "token_expired")
    assert await has_ended(ada)


@pytest.mark.parametrize(("header", "code"), [(None, "token_missing"), ("Bearer a.b.c", "token_invalid")])
async def test_logout_needs_a_token_of_ours(http: httpx.AsyncClient, header: str | None, code: str) -> None:
    answer = await http.post("/auth/logout", headers={"Authorization": header} if header else {})
    problem(answer, 401, code)


async def test_a_refresh_token_does_not_log_out(http: httpx.AsyncClient, ada: Person) -> None:
    headers = {"Authorization": f"Bearer {ada.tokens['refresh_token']}"}
    problem(await http.post("/auth/logout", headers=headers), 401, "token_invalid")


async def test_the_api_description_says_that_logout_takes_a_token(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    for path in ("/auth/logout", "/auth/logout-all"):
        assert paths[path]["post"]["security"] == [{"bearer": []}]
    assert paths["/auth/login"]["post"]["security"] == []


async def test_logout_all_ends_every_session_of_the_person(ada: Person, bob: Person) -> None:
    elsewhere = await signed_in_again(ada)
    assert (await elsewhere.post("/auth/logout-all")).status_code == 204
    assert await has_ended(ada)
    assert await has_ended(elsewhere)
    assert not await has_ended(bob)
    problem(await ada.post("/auth/logout-all"), 401, "token_revoked")
    assert not await has_ended(await signed_in_again(ada))


async def test_a_person_sees_where_they_are_signed_in(ada: Person, bob: Person) -> None:
    phone = await signed_in_again(ada, **{"User-Agent": "phone " + "x" * 300})
    found = await sessions(ada)
    assert [set(one) for one in found] == 2 * [{"session_id", "created_at", "last_seen_at", "user_agent", "current"}]
    assert sorted((one["current"], one["user_agent"][:5]) for one in found) == [(False, "phone"), (True, "pytho")]
    assert max(len(one["user_agent"]) for one in found) == 200
    assert [one["current"] for one in await sessions(phone)] != [one["current"] for one in found]


async def test_sessions_come_in_pages_newest_first(ada: Person) -> None:
    newest = [await signed_in_again(ada) for _ in range(2)][1]
    seen, path = [], "/auth/sessions?limit=1"
    while path:
        answer = await newest.get(path)
        seen += answer.json()["items"]
        path = answer.links["next"]["url"] if "next" in answer.links else ""
    assert seen == await sessions(newest)
    assert [one["current"] for one in seen] == [True, False, False]
    problem(await ada.get("/auth/sessions?limit=0"), 422, "validation_failed")
    problem(await ada.get("/auth/sessions?cursor=x"), 400, "cursor_invalid")


async def test_ending_one_session_leaves_the_others(ada: Person, bob: Person, container: Container) -> None:
    phone = await signed_in_again(ada)
    (other,) = [one["session_id"] for one in await sessions(ada) if not one["current"]]
    problem(await bob.call("DELETE", f"/auth/sessions/{other}"), 404, "not_found")
    assert container.users.session_cache().entries.get(other) != ENDED
    assert not await has_ended(phone)
    assert (await ada.call("DELETE", f"/auth/sessions/{other}")).status_code == 204
    assert await has_ended(phone)
    assert not await has_ended(ada)
    problem(await ada.call("DELETE", f"/auth/sessions/{other}"), 404, "not_found")
    problem(await ada.call("DELETE", "/auth/sessions/nonsense"), 404, "not_found")


async def test_an_eleventh_login_ends_the_session_that_was_not_used_for_longest(ada: Person) -> None:
    people = [await signed_in_again(ada) for _ in range(10)]
    assert await has_ended(ada)
    assert not await has_ended(people[0])
    assert len(await sessions(people[0])) == 10


async def test_another_password_ends_the_other_sessions(http: httpx.AsyncClient, ada: Person) -> None:
    phone = await signed_in_again(ada)
    change = {"current_password": PASSWORD, "new_password": NEW}
    assert (await ada.post("/users/me/password", json=change)).status_code == 204
    assert not await has_ended(ada)
    assert (await refresh(ada)).status_code == 200
    assert await has_ended(phone)
    old = await http.post("/auth/login", json={"email": ada.email, "password": PASSWORD})
    problem(old, 401, "credentials_invalid")
    new = await http.post("/auth/login", json={"email": ada.email, "password": NEW})
    assert new.status_code == 200


async def test_a_wrong_current_password_changes_nothing(ada: Person) -> None:
    phone = await signed_in_again(ada)
    wrong = {"current_password": PASSWORD + "!", "new_password": NEW}
    problem(await ada.post("/users/me/password", json=wrong), 401, "credentials_invalid")
    assert not await has_ended(phone)


async def test_a_stolen_token_cannot_guess_the_password_without_end(ada: Person) -> None:
    guess = {"current_password": "not the right one", "new_password": NEW}
    codes = [(await ada.post("/users/me/password", json=guess)).json()["code"] for _ in range(8)]
    assert codes[0] == "credentials_invalid"
    assert codes[-1] == "rate_limited"
    right = {"current_password": PASSWORD, "new_password": NEW}
    problem(await ada.post("/users/me/password", json=right), 429, "rate_limited")


@pytest.mark.parametrize(
    ("password", "code"),
    [("short", "string_too_short"), ("iloveyou1", "password_too_common"), ("", "string_too_short"),
     ("PassWord1", "password_too_common"), ("a\u0301" * 7, "string_too_short"), ("x" * 1025, "string_too_long")],
)  # fmt: skip
async def test_a_password_that_will_not_do_is_refused(
    http: httpx.AsyncClient, ada: Person, password: str, code: str
) -> None:
    new = await http.post("/auth/register", json={"email": "new@example.com", "password": password})
    change = await ada.post("/users/me/password", json={"current_password": PASSWORD, "new_password": password})
    for answer, pointer in ((new, "/password"), (change, "/new_password")):
        found = problem(answer, 422, "validation_failed")
        assert (found["errors"][0]["pointer"], found["errors"][0]["code"]) == (pointer, code)


async def test_a_login_that_password_and_logout_all_overtake_does_not_get_in(
    http: httpx.AsyncClient, ada: Person, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the hash is computed everything ends: the first try is void, the second one sees how things are now."""
    passwords, users = container.passwords(), container.users.sessions()
    genuine, tries = passwords.verify, 0

    async def overtaken(hashed: str | None, password: str) -> bool:
        nonlocal tries
        tries += 1
        good = bool(await genuine(hashed, password))
        await users.end_all(ada.user_id)
        return good

    monkeypatch.setattr(passwords, "verify", overtaken)
    answer = await http.post("/auth/login", json={"email": ada.email, "password": PASSWORD})
    problem(answer, 401, "credentials_invalid")
    assert tries == 2
    monkeypatch.undo()
    assert (await http.post("/auth/login", json={"email": ada.email, "password": PASSWORD})).status_code == 200
