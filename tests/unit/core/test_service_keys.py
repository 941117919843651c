"""Keys of other services: who passes, and that every refusal is the same clean 401."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Unauthenticated
from core.logging import configure_logging
from core.security.service_keys import ApiKeyInvalid, ApiKeyMissing, KeyRefused, ServiceKeys

OLD, NEW = "old-key-of-the-shop-0123", "new-key-of-the-shop-4567"
Headers = list[tuple[bytes, bytes]]


def api_keys(*keys: str) -> ServiceKeys:
    return ServiceKeys("X-API-Key", keys, "api_key")


def private_tokens(*keys: str) -> ServiceKeys:
    return ServiceKeys("Private-Token", keys, "private_token", alone=True)


def sent(key: str, header: str = "x-api-key") -> Headers:
    return [(b"host", b"dossier.test"), (header.encode(), key.encode())]


async def test_both_keys_work_during_a_rotation_and_are_one_service() -> None:
    keys = api_keys(OLD, NEW)
    principals = [keys(sent(OLD)), keys(sent(NEW))]
    assert {(principal.id, principal.kind) for principal in principals} == {("service:api_key", "service")}


async def test_a_removed_key_ends_at_once() -> None:
    with pytest.raises(ApiKeyInvalid):
        api_keys(NEW)(sent(OLD))


@pytest.mark.parametrize(
    ("keys", "challenge"),
    [(api_keys, 'X-API-Key realm="dossier"'), (private_tokens, 'Private-Token realm="dossier"')],
)
async def test_without_its_header_a_key_is_missing(keys: Callable[..., ServiceKeys], challenge: str) -> None:
    with pytest.raises(ApiKeyMissing) as refused:
        keys(NEW)([(b"host", b"dossier.test"), (b"authorization", b"Bearer x")])
    assert (refused.value.code, refused.value.challenge) == ("api_key_missing", challenge)


@pytest.mark.parametrize(
    "headers",
    [
        sent(NEW) + sent(NEW), sent(NEW) + sent(OLD), sent(""), sent("unknown"), sent(NEW + " "), sent(" " + NEW),
        sent(NEW.upper()), sent(NEW[:-1]), sent(f"{OLD},{NEW}"), sent("A" * 513), sent("ключ"), sent("\0"),
        [(b"x-api-key", b"\xff\xfe")], [(b"x-api-key", NEW.encode() + b"\n")],
    ],
    ids=repr,
)  # fmt: skip
async def test_anything_but_one_known_key_is_refused_alike(headers: Headers) -> None:
    with pytest.raises(ApiKeyInvalid) as refused:
        api_keys(OLD, NEW)(headers)
    assert (refused.value.code, refused.value.challenge) == ("api_key_invalid", 'X-API-Key realm="dossier"')
    assert refused.value.detail == "The key is not known here"


@given(st.lists(st.tuples(st.sampled_from([b"x-api-key", b"private-token", b"authorization"]), st.binary())))
async def test_no_headers_break_the_check(headers: Headers) -> None:
    for keys in (api_keys(OLD, NEW), private_tokens(OLD, NEW), api_keys()):
        with pytest.raises(KeyRefused):
            keys(headers)


async def test_a_key_of_the_greatest_length_passes_whole() -> None:
    longest = "k" * 512
    assert (api_keys(longest)(sent(longest))).id == "service:api_key"
    with pytest.raises(ApiKeyInvalid):
        api_keys(longest + "k")(sent(longest + "k"))


async def test_a_private_token_beside_an_authorization_is_refused() -> None:
    headers = sent(NEW, "private-token")
    assert (private_tokens(NEW)(headers)).id == "service:private_token"
    with pytest.raises(ApiKeyInvalid):
        private_tokens(NEW)([*headers, (b"authorization", b"Basic x")])


async def test_the_lists_do_not_serve_each_other() -> None:
    with pytest.raises(ApiKeyInvalid):
        api_keys(OLD)(sent(NEW))
    with pytest.raises(ApiKeyMissing):
        api_keys(NEW)(sent(NEW, "private-token"))
    with pytest.raises(ApiKeyMissing):
        private_tokens(NEW)(sent(NEW))


async def test_without_keys_nobody_passes() -> None:
    with pytest.raises(ApiKeyInvalid):
        api_keys()(sent(""))


def test_no_clear_value_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    import structlog

    keys, refusal = api_keys(NEW), ApiKeyInvalid("X-API-Key")
    configure_logging("api")
    structlog.get_logger("t").info("request", keys=repr(keys), state=str(vars(keys)), refusal=repr(refusal))
    structlog.reset_defaults()
    line = capsys.readouterr().out
    assert json.loads(line)["keys"].startswith("<core.security.service_keys.ServiceKeys")
    assert NEW not in line


def test_every_refusal_is_a_401() -> None:
    assert issubclass(KeyRefused, Unauthenticated)
