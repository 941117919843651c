"""Which URLs may be registered, which addresses are public, and what the operator may list."""

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.config import ConfigError, load_settings
from core.http.problems import status_of
from core.security import egress
from core.security.addresses import has_public_name, listed_ok, parse_url, public
from core.security.egress import DestinationRefused, EgressClient, PinnedBackend, UrlNotAllowed

PUBLIC = "93.184.215.14"
NAME = "hooks.example.com"
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one takes a while to make


class Dns:
    """Answers what the test says, and counts the questions."""

    def __init__(self, *addresses: str, error: Exception | None = None) -> None:
        self.addresses, self.error, self.asked = addresses, error, 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.addresses


def client(*addresses: str, error: Exception | None = None, origins: Sequence[str] = ()) -> EgressClient:
    return EgressClient(Dns(*(addresses or (PUBLIC,)), error=error), origins=origins, tls=TLS)


# URLs


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        ("https://hooks.example.com", "https://hooks.example.com/"),
        ("HTTPS://Hooks.Example.COM:443/In?a=1?b", "https://hooks.example.com/In?a=1?b"),
        ("https://hooks.example.com.:8443/", "https://hooks.example.com:8443/"),
        ("https://hooks.example.com?x=%2e%2e/", "https://hooks.example.com/?x=%2e%2e/"),
        ("https://xn--bcher-kva.example/@me/%7B", "https://xn--bcher-kva.example/@me/%7B"),
        ("https://hooks.example.com/...", "https://hooks.example.com/..."),
        ("https://internal.example.com/", "https://internal.example.com/"),
        ("https://3com.example/", "https://3com.example/"),
    ],
)
async def test_a_url_is_kept_in_its_normalised_form(given_url: str, kept: str) -> None:
    assert await client().check_url(given_url) == kept
    assert await client().check_url(kept) == kept


TEXTS = [
    "", "x", "//hooks.example.com/", "ftp://hooks.example.com/", "http://hooks.example.com/", "https:hooks.example.com",
    "https:///x", "https://", "https://hooks.example.com:80/", "https://hooks.example.com:9443/",
    "https://hooks.example.com:/", "https://hooks.example.com:0443x/", "https://hooks.example.com:65979/",
    "https://user@hooks.example.com/", "https://user:@hooks.example.com/", "http://hooks.example.com:443/",
    "https://@hooks.example.com/",
    "https://hooks.example.com\\@127.0.0.1/", "https://127.0.0.1\\@hooks.example.com/", "https:\\\\hooks.example.com/",
    "https://hooks.example.com/a\\b", "https://hooks.example.com/#", "https://hooks.example.com/#f",
    "https://hooks.example.com#@127.0.0.1/", " https://hooks.example.com/", "https://hooks.example.com/ ",
    "https://hooks.example.com/\n", "https://hooks.example.com/\r\nHost: x", "https://hooks.exa\tmple.com/",
    "https://hooks.example.com/\x00", "https://hooks.example.com/\x7f", "https://bücher.example/", "https://ⓔxample.com/",
    "https://hooks.example.com/é", "https://hooks%2eexample.com/", "https://hooks.example.com/../x",
    "https://hooks.example.com/a/%2E%2e/b", "https://hooks.example.com/a/..%2fb", "https://hooks.example.com/.",
    "https://hoo\u212as.example.com/", "http\u017f://hooks.example.com/", "https://hooks.example.com:443/" + "a" * 2019,
    "https://hooks.example.com/" + "a" * 2048, "https://" + "a." * 130 + "com/", "https://" + "a" * 64 + ".com/",
]  # fmt: skip
HOSTS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "127.0.0.1.", "8.8.8.8",
    "[::1]", "[::ffff:127.0.0.1]", "[2606:4700::1111]", "1.2.3.4.5", "a.0x7f", "localhost", "localhost.", "a.localhost",
    "printer.local", "vault.internal", "metadata.google.internal", "nas.home.arpa", "api.default.svc", "LOCALHOST",
    "api.default.svc.cluster.local", "a.onion", "A.ONION.", "intranet", "com", "a..com", ".com", "example.com..",
    "-a.com", "a-.com", "a_b.com", "*.example.com",
]  # fmt: skip


@pytest.mark.parametrize("text", [*TEXTS, *(f"https://{host}/" for host in HOSTS)])
async def test_what_could_be_read_in_two_ways_or_names_no_public_host_is_refused(text: str) -> None:
    dns = Dns(PUBLIC)
    with pytest.raises(UrlNotAllowed) as refused:
        await EgressClient(dns, tls=TLS).check_url(text, pointer="/callback_url")
    assert (refused.value.code, refused.value.pointer) == ("url_not_allowed", "/callback_url")
    assert status_of(refused.value) == 422
    assert dns.asked == 0
    assert (await EgressClient(dns, tls=TLS).post(text, {}, b"")).error == "url_not_allowed"
    assert dns.asked == 0


PIECES = st.sampled_from(
    ["https://", "http://", "HTTPS:", "//", "/", "\\", "@", ":", "443", "#", "?", ".", "..", "%2e", "[", "]", "::1",
     "%", "hooks.example.com", "127.0.0.1", "0x7f", "localhost", "\t", "\r\n", " ", "é", "。", "xn--", "-", "_",
     "\x00", "K"]
)  # fmt: skip
URLS = st.one_of(
    st.text(),
    st.lists(PIECES, max_size=12).map("".join),
    st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=8).map(lambda parts: "https://" + "".join(parts)),
    st.text(max_size=5).map(lambda text: f"https://hooks.example.com/{text}"),
)


@given(URLS)
@example("https://a.com" + "?" * 2035)
def test_no_text_breaks_the_check_and_other_parsers_read_the_same_host(text: str) -> None:
    try:
        kept = asyncio.run(client().check_url(text))
    except UrlNotAllowed:
        return
    assert len(kept) <= 2048
    assert kept.isascii()
    assert kept.isprintable()
    assert asyncio.run(client().check_url(kept)) == kept
    url = parse_url(kept)
    assert url.scheme == "https"
    assert has_public_name(url)
    assert (urlsplit(kept).hostname, urlsplit(kept).port or 443) == (url.host, url.port)
    assert (httpx.URL(kept).raw_host.decode(), httpx.URL(kept).port or 443) == (url.host, url.port)


# Names at registration


@pytest.mark.parametrize("error", [OSError(), UnicodeError(), TimeoutError()])
async def test_a_name_that_dns_does_not_know_yet_is_accepted(error: Exception) -> None:
    assert await client(error=error).check_url(f"https://{NAME}/") == f"https://{NAME}/"
    assert await EgressClient(Dns(), tls=TLS).check_url(f"https://{NAME}/") == f"https://{NAME}/"


async def test_a_resolver_that_hangs_does_not_hold_up_a_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(egress, "RESOLVE_AT_REGISTRATION_S", 0.05)
    assert await asyncio.wait_for(EgressClient(hang, tls=TLS).check_url(f"https://{NAME}/"), 5) == f"https://{NAME}/"


@pytest.mark.parametrize("addresses", [("10.0.0.1",), (PUBLIC, "10.0.0.1"), ("10.0.0.1", PUBLIC), ("nonsense",)])
async def test_one_private_answer_refuses_a_registration(addresses: tuple[str, ...]) -> None:
    with pytest.raises(UrlNotAllowed):
        await client(*addresses).check_url(f"https://{NAME}/")


# Addresses

NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1",
    "172.31.9.9", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200", "192.0.0.192",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:100.64.0.1",
    "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1", "2002:7f00:1::1", "2002:808:808::1", "100::1",
    "2001:0:7f00:1::1", "2001:db8::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1",
    "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "4000::1", "::ffff:0:808:808",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_leads_inside_is_not_public(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "::ffff:1.1.1.1", "2606:4700:4700::1111", "172.32.0.1"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert public(address)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.0.0.1", True), ("127.0.0.1", True), ("::1", True), ("fd12::1", True), ("192.168.1.1", True),
        (PUBLIC, True), ("::ffff:10.0.0.1", True), ("64:ff9b::a00:1", True),
        ("169.254.169.254", False), ("::ffff:169.254.169.254", False), ("::a9fe:a9fe", False), ("0.0.0.0", False),
        ("64:ff9b::a9fe:a9fe", False), ("64:ff9b:1::a9fe:a9fe", False), ("2002:a9fe:a9fe::1", False), ("::", False),
        ("2001:0:1:1::5601:5601", False), ("fd00:ec2::254", False), ("fd20:ce::254", False), ("fe80::1%eth0", False),
        ("ff02::1", False),
        ("168.63.129.16", False), ("100.100.100.200", False), ("192.0.0.192", False), ("224.0.0.1", False),
    ],
)  # fmt: skip
def test_a_listed_origin_may_be_private_but_no_metadata_service(address: str, allowed: bool) -> None:
    assert listed_ok(address) is allowed


async def test_a_unix_socket_is_never_connected() -> None:
    with pytest.raises(DestinationRefused):
        await PinnedBackend(Dns(PUBLIC), {443}, ()).connect_unix_socket("/var/run/docker.sock")


# Origins that the operator lists

GOOD = "http://relay.internal:8080, https://10.0.0.7:9443,http://[fd12::1]:80"


@pytest.mark.parametrize("env", ["local", "stage"])
def test_listed_origins_are_a_comma_list(env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EGRESS_ALLOWED_ORIGINS", GOOD)
    origins = load_settings(env).egress_allowed_origins
    assert origins == ("http://relay.internal:8080", "https://10.0.0.7:9443", "http://[fd12::1]:80")
    EgressClient(Dns(), origins=origins, tls=TLS)


@pytest.mark.parametrize("env", ["local", "stage", "prod"])
@pytest.mark.parametrize(
    "value",
    [
        "*", "https://*:443", "https://*.example.com:443", "relay:8080", "https://relay.secret", "https://relay.secret:",
        "ftp://relay.secret:21", "http://relay.secret:80/", "http://relay.secret:80/path", "http://u@relay.secret:80",
        "http://relay.secret:080", "http://relay.secret:0", "http://relay.secret:80?", "http://relay.secret:80,", "http://relay..secret:80",
        "http://169.254.169.254:80", "http://[fd00:ec2::254]:80", "http://[::ffff:169.254.169.254]:80",
        "http://168.63.129.16:80", "http://0.0.0.0:80", "http://[:::::]:80", "http://169.16689662:80",
    ],
)  # fmt: skip
def test_another_list_stops_the_start(env: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EGRESS_ALLOWED_ORIGINS", value)
    with pytest.raises(ConfigError) as refused:
        load_settings(env)
    assert len(refused.value.lines) == 1
    assert refused.value.lines[0].startswith("EGRESS_ALLOWED_ORIGINS: ")
    assert value not in str(refused.value).removeprefix("EGRESS_ALLOWED_ORIGINS: must be a comma list of exact ")


@pytest.mark.parametrize("url", ["http://relay:8080/x", "http://RELAY.:8080/x"])
async def test_only_the_listed_origin_is_spared_the_rules_of_hosts(url: str) -> None:
    listed = client("10.0.0.7", origins=["http://relay:8080"])
    assert await listed.check_url(url) == "http://relay:8080/x"
    for neighbour in ("https://relay:8080/x", "http://relay:8081/x", "http://a.relay:8080/x", "http://relay/x"):
        with pytest.raises(UrlNotAllowed):
            await listed.check_url(neighbour)
    with pytest.raises(UrlNotAllowed):  # the rules of URLs hold all the same
        await listed.check_url("http://u@relay:8080/x")
    with pytest.raises(UrlNotAllowed):
        await client("169.254.169.254", origins=["http://relay:8080"]).check_url(url)
