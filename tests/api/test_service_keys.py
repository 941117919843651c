"""Keys of services at every route of the OpenAPI document that asks for one."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.clients import API_KEY, PRIVATE_TOKEN, Person, problem

HEADERS = {"api_key": "X-API-Key", "private_token": "Private-Token"}
KEYS = {"api_key": API_KEY, "private_token": PRIVATE_TOKEN}
OTHER = {"api_key": "private_token", "private_token": "api_key"}


async def guarded(http: httpx.AsyncClient, credential: str) -> list[tuple[str, str]]:
    """Method and path of every route that this credential alone opens."""

    def found(paths: dict[str, dict[str, dict[str, object]]]) -> Iterator[tuple[str, str]]:
        for path, operations in paths.items():
            for method, operation in operations.items():
                if operation.get("security") == [{credential: []}]:
                    yield method, re.sub(r"\{.*?\}", "x", path)

    routes = list(found((await http.get("/openapi.json")).json()["paths"]))
    assert len(routes) > 1
    return routes


@pytest.mark.parametrize("credential", HEADERS)
async def test_without_its_key_a_route_says_which_one_it_wants(
    http: httpx.AsyncClient, ada: Person, credential: str
) -> None:
    header, key = HEADERS[credential], KEYS[credential]
    elsewhere = [
        {}, ada.auth, {HEADERS[OTHER[credential]]: KEYS[OTHER[credential]]}, {HEADERS[OTHER[credential]]: key},
        {"Authorization": f"Bearer {key}"}, {"Cookie": f"{header}={key}"},
    ]  # fmt: skip
    for method, path in await guarded(http, credential):
        for headers in elsewhere:
            answer = await http.request(method, path, headers=headers, params={header: key, "key": key})
            problem(answer, 401, "api_key_missing")
            assert answer.headers["www-authenticate"] == f'{header} realm="dossier"'
            assert key not in answer.text


@pytest.mark.parametrize("credential", HEADERS)
async def test_a_wrong_key_is_refused_alike_whatever_is_wrong(http: httpx.AsyncClient, credential: str) -> None:
    header, key = HEADERS[credential].encode(), KEYS[credential].encode()
    wrong = [
        [b""],
        [b"wrong-but-long-enough-00"],
        [key + b"x"],
        [key[:-1]],
        [key, key],
        [b"k" * 513],
        ["ключ".encode()],
    ]
    for method, path in await guarded(http, credential):
        for values in wrong:
            answer = await http.request(method, path, headers=[(header, value) for value in values])
            body = problem(answer, 401, "api_key_invalid")
            assert answer.headers["www-authenticate"] == f'{header.decode()} realm="dossier"'
            assert body["detail"] == "The key is not known here"
            assert not any(value.decode() in answer.text for value in values if value)


async def test_a_private_token_beside_a_persons_token_is_refused(http: httpx.AsyncClient, ada: Person) -> None:
    for method, path in await guarded(http, "private_token"):
        answer = await ada.call(method, path, headers={"Private-Token": PRIVATE_TOKEN})
        problem(answer, 401, "api_key_invalid")


async def test_the_right_key_is_let_in(http: httpx.AsyncClient) -> None:
    for credential, header in HEADERS.items():
        for method, path in await guarded(http, credential):
            answer = await http.request(method, path, headers={header: KEYS[credential]})
            assert "api_key_" not in answer.text, path
