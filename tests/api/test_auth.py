"""Registering, signing in, staying signed in."""

import httpx
import pytest

from app.container import Container
from core.config import Settings
from core.security.tokens import TokenCodec, load_signing_keys
from tests.clients import PASSWORD, Person, problem


async def test_a_person_registers_and_signs_in(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/auth/register", json={"email": "Ada@Example.com", "password": PASSWORD, "name": "Ada Lovelace"}
    )
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == {"user_id", "email", "name", "created_at"}
    assert body["user_id"].startswith("usr_")
    assert body["created_at"].endswith("Z")

    login = await http.post("/auth/login", json={"email": "ada@example.com", "password": PASSWORD})
    assert login.status_code == 200
    assert login.headers["cache-control"] == "no-store"
    tokens = login.json()
    assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in", "refresh_expires_in"}
    assert (tokens["token_type"], tokens["expires_in"], tokens["refresh_expires_in"]) == ("bearer", 600, 604_800)

    me = await http.get("/users/me", headers={"Authorization": f"bearer {tokens['access_token']}"})
    assert me.json() == body


async def test_login_takes_the_form_that_swagger_sends(http: httpx.AsyncClient, ada: Person) -> None:
    form = {"username": ada.email, "password": PASSWORD, "grant_type": "password", "scope": "", "client_id": "x"}
    answer = await http.post("/auth/login", data=form)
    assert answer.status_code == 200
    assert answer.json()["access_token"]


async def test_one_address_in_two_spellings_is_one_account(http: httpx.AsyncClient, ada: Person) -> None:
    for twin in (ada.email.upper(), "Ada@example.com"):
        answer = await http.post("/auth/register", json={"email": twin, "password": PASSWORD})
        problem(answer, 409, "email_taken")


async def test_unknown_and_known_accounts_are_refused_alike(http: httpx.AsyncClient, ada: Person) -> None:
    wrong = await http.post("/auth/login", json={"email": ada.email, "password": "wrong one"})
    unknown = await http.post("/auth/login", json={"email": "nobody@example.com", "password": PASSWORD})
    one, other = problem(wrong, 401, "credentials_invalid"), problem(unknown, 401, "credentials_invalid")
    assert {**one, "request_id": ""} == {**other, "request_id": ""}


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"email": "ada@example.com"}, "/password", "missing"),
        ({"email": "Ada <ada@example.com>", "password": PASSWORD}, "/email", "email"),
        ({"email": "ada@example.com", "password": "short"}, "/password", "string_too_short"),
        ({"email": "ada@example.com", "password": PASSWORD, "role": "admin"}, "/role", "extra_forbidden"),
        ({"email": "ada@example.com", "password": 12345678}, "/password", "string_type"),
    ],
)
async def test_what_is_wrong_is_named_and_never_repeated(
    http: httpx.AsyncClient, body: dict[str, object], pointer: str, code: str
) -> None:
    answer = await http.post("/auth/register", json=body)
    found = problem(answer, 422, "validation_failed")
    assert (found["errors"][0]["pointer"], found["errors"][0]["code"]) == (pointer, code)
    assert PASSWORD not in answer.text
    assert "ada@example.com" not in answer.text


@pytest.mark.parametrize(
    "raw",
    [b"{", b'{"email":"a","email":"b"}', b'{"email":NaN}', b"\xef\xbb\xbf{}", b'{"a":1e999}', b"[" * 100_000, b"\xff"],
)
async def test_what_is_not_json_is_malformed(http: httpx.AsyncClient, raw: bytes) -> None:
    answer = await http.post("/auth/register", content=raw, headers={"Content-Type": "application/json"})
    if len(raw) > 32_768:
        problem(answer, 413, "body_too_large")
    else:
        problem(answer, 400, "malformed_request")


async def test_other_media_types_are_refused(http: httpx.AsyncClient) -> None:
    for media_type in ("text/plain", "application/json; charset=utf-7", "application/xml"):
        answer = await http.post("/auth/register", content=b"{}", headers={"Content-Type": media_type})
        problem(answer, 415, "unsupported_media_type")


async def test_refreshing_gives_a_new_pair_and_an_old_token_ends_the_session(
    container: Container, http: httpx.AsyncClient, ada: Person
) -> None:
    container.users.life.override(container.users.life().__class__(idle_s=600, absolute_s=6000, grace_s=0))
    first = ada.tokens["refresh_token"]
    renewed = await http.post("/auth/refresh", json={"refresh_token": first})
    assert renewed.status_code == 200
    assert renewed.json()["refresh_token"] != first

    replay = await http.post("/auth/refresh", json={"refresh_token": first})
    problem(replay, 401, "refresh_invalid")
    after = await http.get("/users/me", headers={"Authorization": f"Bearer {renewed.json()['access_token']}"})
    problem(after, 401, "token_revoked")


async def test_a_repeat_within_the_grace_gets_the_same_successor(http: httpx.AsyncClient, ada: Person) -> None:
    answers = [await http.post("/auth/refresh", json={"refresh_token": ada.tokens["refresh_token"]}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]


async def test_access_and_refresh_tokens_exclude_each_other(http: httpx.AsyncClient, ada: Person) -> None:
    crossed = await http.post("/auth/refresh", json={"refresh_token": ada.tokens["access_token"]})
    problem(crossed, 401, "refresh_invalid")
    other = await http.get("/users/me", headers={"Authorization": f"Bearer {ada.tokens['refresh_token']}"})
    problem(other, 401, "token_invalid")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "token_missing"),
        ("Basic YTpi", "token_missing"),
        ("Bearer", "token_invalid"),
        ("Bearer  x", "token_invalid"),
        ("Bearer a.b.c", "token_invalid"),
        ("Bearer " + "a" * 5000, "token_invalid"),
    ],
)
async def test_a_request_without_a_good_token_is_refused(
    http: httpx.AsyncClient, header: str | None, code: str
) -> None:
    answer = await http.get("/users/me", headers={"Authorization": header} if header else {})
    problem(answer, 401, code)
    assert answer.headers["www-authenticate"].startswith('Bearer realm="dossier"')


async def test_a_token_ends_when_it_says(http: httpx.AsyncClient, ada: Person, settings: Settings) -> None:
    keys = load_signing_keys(settings.jwt_private_keys)
    past = TokenCodec(keys, issuer="dossier", access_ttl=600, refresh_ttl=600, now=lambda: 1_700_000_000)
    token = past.mint_access(ada.user_id, "ses_" + "0" * 26)
    answer = await http.get("/users/me", headers={"Authorization": f"Bearer {token}"})
    problem(answer, 401, "token_expired")


async def test_registration_can_be_closed(container: Container, http: httpx.AsyncClient) -> None:
    container.settings.override(container.settings().model_copy(update={"registration_open": False}))
    answer = await http.post("/auth/register", json={"email": "late@example.com", "password": PASSWORD})
    problem(answer, 403, "registration_closed")
