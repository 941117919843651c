"""Calls to URLs of strangers, against listeners on this machine that count who connects.

No test leaves the machine: `Everywhere` brings every connection to the listener, whatever address was called, and says
that it came to that address. So a wall that does not hold shows as a connection counted.
"""

import asyncio
import datetime as dt
import gzip
import socket
import ssl
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core.security import egress
from core.security.egress import EgressAnswer, EgressClient, UrlNotAllowed, system_resolver
from core.tracing import begin

PUBLIC, PUBLIC_6, OTHER_PUBLIC = "93.184.215.14", "2606:4700:4700::1111", "1.1.1.1"
NAME = "hooks.example.com"
URL = f"https://{NAME}/in"
TOTAL_S = 1.0  # where an attempt is to run out of time; elsewhere it has the usual 15 s

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """A server on 127.0.0.1: how many connected, and what they sent."""

    def __init__(self, answer: Answer, *, reads: bool) -> None:
        self.answer, self.reads, self.connections, self.port = answer, reads, 0, 0
        self.requests: list[bytes] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            with suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.CancelledError):
                if self.reads:
                    self.requests.append(await request_in(reader))
                await self.answer(reader, writer)
                await writer.drain()
        finally:
            self.tasks.discard(task)
            writer.close()


async def request_in(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


@asynccontextmanager
async def listening(
    answer: Answer, tls: ssl.SSLContext | None = None, *, reads: bool = True
) -> AsyncIterator[Listener]:
    listener = Listener(answer, reads=reads)
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0, ssl=tls)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()
        for task in set(listener.tasks):
            task.cancel()
        await asyncio.gather(*listener.tasks, return_exceptions=True)


def says(head: str, body: bytes = b"") -> Answer:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

    return answer


OK = says("HTTP/1.1 200 OK\nContent-Length: 2", b"ok")


class Everywhere(httpcore.AsyncNetworkBackend):
    """Whatever address is called, the listener is there; those in `dead` refuse, those in `mute` never answer."""

    def __init__(
        self, port: int, *, peer: str | None = None, dead: Iterable[str] = (), mute: Iterable[str] = ()
    ) -> None:
        self.port, self.peer, self.dead, self.mute = port, peer, set(dead), set(mute)
        self.called: list[tuple[str, int]] = []

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: object = None, socket_options: Any = ()
    ) -> httpcore.AsyncNetworkStream:
        self.called.append((host, port))
        if host in self.dead:
            raise httpcore.ConnectError
        if host in self.mute:
            await asyncio.sleep(60 if timeout is None else timeout)
            raise httpcore.ConnectTimeout
        stream = await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", self.port, timeout)
        return Disguised(stream, (self.peer or host, port))


class Disguised(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream, address: tuple[str, int]) -> None:
        self.address = address
        self.read, self.write, self.aclose, self.start_tls = (  # type: ignore[method-assign]
            stream.read, stream.write, stream.aclose, stream.start_tls,
        )  # fmt: skip
        self.inner = stream

    def get_extra_info(self, info: str) -> Any:
        return self.address if info == "server_addr" else self.inner.get_extra_info(info)


class Dns:
    """Gives the next answer at each question, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers, self.asked = list(answers), 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of `NAME`, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "tls.pem"
    pem, open_ = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, open_)
    path.write_bytes(private + signed.public_bytes(pem))
    return path


@pytest.fixture(scope="module")
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(scope="module")
def trust(certificate: Path) -> ssl.SSLContext:
    """A client's context that knows this one issuer."""
    return ssl.create_default_context(cafile=str(certificate))


async def post_to(
    listener: Listener, dns: Dns, trust: ssl.SSLContext, url: str = URL, *, total_s: float = 15, **wire: Any
) -> EgressAnswer:
    client = EgressClient(dns, total_s=total_s, tls=trust, wire=Everywhere(listener.port, **wire))
    return await client.post(url, {}, b"{}")


# What goes through


@pytest.mark.parametrize("address", [PUBLIC, PUBLIC_6, "::ffff:1.1.1.1"])
async def test_a_public_address_is_called_over_tls(
    address: str, server_tls: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    trace = begin("req_of_this_test")
    async with listening(OK, server_tls) as listener:
        wire, dns = Everywhere(listener.port), Dns([address])
        client = EgressClient(dns, tls=trust, wire=wire)
        given = {"Content-Type": "application/json", "webhook-id": "evt_1", "Host": "x", "User-Agent": "x"}
        answer = await client.post(f"{URL}?a=1", given, b'{"a":1}')
    assert (answer.status, answer.error, answer.body) == (200, None, b"ok")
    assert 0 <= answer.duration_ms < 15_000
    assert "ok" not in repr(answer)
    assert wire.called == [(address, 443)]  # the address, not the name
    assert dns.asked == 1
    head, _, body = listener.requests[0].partition(b"\r\n\r\n")
    first, *lines = head.decode().lower().split("\r\n")
    assert first == "post /in?a=1 http/1.1"
    assert body == b'{"a":1}'
    told = dict(line.split(": ") for line in lines)
    assert told.pop("traceparent").split("-")[1] == trace.trace_id
    assert told == {
        "content-type": "application/json", "webhook-id": "evt_1", "host": NAME, "user-agent": "dossier",
        "accept-encoding": "identity", "connection": "close", "x-request-id": trace.request_id, "content-length": "7",
    }  # fmt: skip


async def test_every_attempt_connects_anew(server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with listening(OK, server_tls) as listener:
        client = EgressClient(Dns([PUBLIC]), tls=trust, wire=Everywhere(listener.port))
        for _ in range(3):
            assert (await client.post(URL, {}, b"")).error is None
        assert listener.connections == 3


async def test_the_next_address_is_tried_up_to_three(server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    dead = ["1.1.1.1", "1.0.0.1"]
    async with listening(OK, server_tls) as listener:
        assert (await post_to(listener, Dns([*dead, PUBLIC]), trust, dead=dead)).error is None
        dead.append("9.9.9.9")
        assert (await post_to(listener, Dns([*dead, PUBLIC]), trust, dead=dead)).error == "connect"
        assert listener.connections == 1


async def test_an_address_that_never_answers_leaves_time_for_the_next(trust: ssl.SSLContext) -> None:
    async with listening(OK) as listener:
        client = EgressClient(
            Dns(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), origins=["http://relay.internal:80"], total_s=4 * TOTAL_S,
            tls=trust, wire=Everywhere(listener.port, mute=["10.0.0.1", "10.0.0.2"]),
        )  # fmt: skip
        assert (await client.post("http://relay.internal/", {}, b"")).error is None


# Where nothing may connect to

INSIDE = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "192.0.0.192",
    "169.254.169.254", "168.63.129.16", "100.100.100.200", "255.255.255.255", "224.0.0.1", "::1", "::", "fe80::1%1",
    "fc00::1", "ff02::1", "fec0::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "::127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::1", "text", "",
]  # fmt: skip
MIXED = [(PUBLIC, "127.0.0.1"), ("127.0.0.1", PUBLIC), (PUBLIC, PUBLIC_6, OTHER_PUBLIC, "9.9.9.9", "::1"), ()]


@pytest.mark.parametrize("addresses", [*((address,) for address in INSIDE), *MIXED])
async def test_no_answer_that_leads_inside_yields_a_connection(
    addresses: tuple[str, ...], server_tls: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    async with listening(OK) as listener:
        wire = Everywhere(listener.port)
        client = EgressClient(Dns(addresses), tls=trust, wire=wire)
        answer = await client.post(URL, {}, b"")
        assert (answer.status, answer.error) == (None, "url_not_allowed")
        assert (wire.called, listener.connections) == ([], 0)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::ffff:127.0.0.1"])
async def test_this_machine_is_not_called_over_the_real_network(address: str, trust: ssl.SSLContext) -> None:
    with socket.create_server(("0.0.0.0", 0)) as sock:
        sock.setblocking(False)
        port = sock.getsockname()[1]
        client = EgressClient(Dns([address]), ports={port}, tls=trust)
        assert (await client.post(f"https://{NAME}:{port}/", {}, b"")).error == "url_not_allowed"
        with pytest.raises(BlockingIOError):
            sock.accept()


async def test_a_name_that_turns_private_after_registration_is_not_called(trust: ssl.SSLContext) -> None:
    async with listening(OK) as listener:
        wire = Everywhere(listener.port)
        client = EgressClient(Dns([PUBLIC], ["127.0.0.1"]), tls=trust, wire=wire)
        kept = await client.check_url(URL)
        assert (await client.post(kept, {}, b"")).error == "url_not_allowed"
        assert (wire.called, listener.connections) == ([], 0)


async def test_a_name_is_resolved_once_for_check_and_call(server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with listening(OK, server_tls) as listener:
        wire, dns = Everywhere(listener.port), Dns([PUBLIC], ["127.0.0.1"])
        client = EgressClient(dns, tls=trust, wire=wire)
        assert (await client.post(URL, {}, b"")).error is None
        assert (wire.called, dns.asked) == ([(PUBLIC, 443)], 1)


async def test_a_connection_that_ends_inside_all_the_same_gets_no_byte(trust: ssl.SSLContext) -> None:
    async with listening(OK) as listener:
        answer = await post_to(listener, Dns([PUBLIC]), trust, peer="10.0.0.1")
        assert answer.error == "url_not_allowed"
        await asyncio.sleep(0.05)
        assert listener.requests == []


@pytest.mark.parametrize("port", [22, 80, 6379, 27017])
async def test_other_ports_are_not_called(port: int, trust: ssl.SSLContext) -> None:
    async with listening(OK) as listener:
        wire = Everywhere(listener.port)
        client = EgressClient(Dns([PUBLIC]), tls=trust, wire=wire)
        assert (await client.post(f"https://{NAME}:{port}/", {}, b"")).error == "url_not_allowed"
        backend = egress.PinnedBackend(Dns([PUBLIC]), egress.PORTS, (), wire)
        with pytest.raises(egress.DestinationRefused):
            await backend.connect_tcp(NAME, port)
        assert wire.called == []


# Detours


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 Other", "307 Temporary", "308 Permanent", "304 Same"]
)
async def test_a_redirect_is_not_followed(status: str, server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with listening(OK) as target:
        head = f"HTTP/1.1 {status}\nLocation: http://127.0.0.1:{target.port}/\nContent-Length: 0"
        async with listening(says(head), server_tls) as listener:
            answer = await post_to(listener, Dns([PUBLIC]), trust)
            assert (answer.status, answer.error) == (int(status[:3]), "redirect")
            assert (listener.connections, target.connections) == (1, 0)


async def test_proxy_variables_are_not_read(
    server_tls: ssl.SSLContext, trust: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(OK) as proxy, listening(OK, server_tls) as listener:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert (await post_to(listener, Dns([PUBLIC]), trust)).error is None
        assert (listener.connections, proxy.connections) == (1, 0)


# TLS


async def test_a_certificate_of_another_name_fails(server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with listening(OK, server_tls) as listener:
        answer = await post_to(listener, Dns([PUBLIC]), trust, "https://other.example.com/")
        assert (answer.status, answer.error) == (None, "tls")
        assert listener.requests == []


async def test_an_issuer_that_nobody_knows_fails(server_tls: ssl.SSLContext) -> None:
    async with listening(OK, server_tls) as listener:
        client = EgressClient(Dns([PUBLIC]), wire=Everywhere(listener.port))  # the real roots
        assert (await client.post(URL, {}, b"")).error == "tls"
        assert listener.requests == []


async def test_a_server_without_tls_fails(trust: ssl.SSLContext) -> None:
    async with listening(says("HTTP/1.1 200 OK"), reads=False) as listener:
        assert (await post_to(listener, Dns([PUBLIC]), trust)).error == "tls"


# Time and size


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def drip_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless_interim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: " + b"a" * 2000 + b"\r\n\r\n")
        await writer.drain()


async def endless_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Bomb: " + b"a" * 65_536)
        await writer.drain()


async def endless_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"a" * 65_536)
        await writer.drain()


async def endless_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1;" + b"x" * 5000 + b"\r\na\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    ("answer", "errors"),
    [
        (silent, "timeout"), (drip_head, "timeout"), (drip_body, "timeout"), (endless_interim, "timeout"),
        (endless_head, "connect"), (endless_body, "response_too_large"),
        (endless_chunks, "timeout response_too_large"),
    ],
)  # fmt: skip
async def test_drips_and_bombs_end_in_time_with_flat_memory(
    answer: Answer, errors: str, server_tls: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    async with listening(answer, server_tls) as listener:
        tracemalloc.start()
        started = time.monotonic()
        got = await post_to(listener, Dns([PUBLIC]), trust, total_s=TOTAL_S)
        took, (_, peak) = time.monotonic() - started, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert got.error in errors.split()
        assert len(got.body) <= 16_384
        assert took < 2 * TOTAL_S
        assert peak < 4 * 2**20
        assert listener.connections == 1


async def test_a_handshake_that_never_ends_is_given_up(trust: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:  # the kernel accepts, nobody answers
        started = time.monotonic()
        client = EgressClient(Dns([PUBLIC]), total_s=TOTAL_S, tls=trust, wire=Everywhere(sock.getsockname()[1]))
        assert (await client.post(URL, {}, b"")).error == "timeout"
        assert time.monotonic() - started < 2 * TOTAL_S


async def test_a_server_that_does_not_read_is_given_up(trust: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        client = EgressClient(Dns(["127.0.0.1"]), origins=[f"http://{NAME}:{port}"], total_s=TOTAL_S, tls=trust)
        started = time.monotonic()
        assert (await client.post(f"http://{NAME}:{port}/", {}, b"a" * 2**24)).error == "timeout"
        assert time.monotonic() - started < 2 * TOTAL_S


async def test_exactly_as_much_as_is_read_is_no_error(server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    for size, error in ((16_384, None), (16_385, "response_too_large")):
        head = f"HTTP/1.1 200 OK\nContent-Length: {size}"
        async with listening(says(head, b"a" * size), server_tls) as listener:
            answer = await post_to(listener, Dns([PUBLIC]), trust)
            assert (answer.error, len(answer.body)) == (error, 16_384)


async def test_nothing_is_unpacked(server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    packed = gzip.compress(b"a" * 2**20)
    head = f"HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: {len(packed)}"
    async with listening(says(head, packed), server_tls) as listener:
        answer = await post_to(listener, Dns([PUBLIC]), trust)
        assert (answer.error, answer.body) == (None, packed)


# Failures have names


@pytest.mark.parametrize(
    ("head", "status", "error", "retry_after"),
    [
        ("HTTP/1.1 204 No Content", 204, None, None),
        ("HTTP/1.1 400 Bad\nContent-Length: 0", 400, "http_status", None),
        ("HTTP/1.1 410 Gone\nContent-Length: 0", 410, "http_status", None),
        ("HTTP/1.1 503 Away\nContent-Length: 0\nRetry-After: 120", 503, "http_status", 120),
        ("HTTP/1.1 429 Slow\nContent-Length: 0\nRetry-After: -1", 429, "http_status", None),
        ("HTTP/1.1 101 Switching\nUpgrade: x\nConnection: upgrade", None, "connect", None),
        ("SSH-2.0-OpenSSH", None, "connect", None),
        ("HTTP/1.1 200 OK\nContent-Length: 9", None, "connect", None),
        ("HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3", None, "connect", None),
    ],
)
async def test_a_failure_has_one_of_the_names(
    head: str, status: int | None, error: str | None, retry_after: int | None,
    server_tls: ssl.SSLContext, trust: ssl.SSLContext,
) -> None:  # fmt: skip
    async with listening(says(head), server_tls) as listener:
        answer = await post_to(listener, Dns([PUBLIC]), trust)
        assert (answer.status, answer.error, answer.retry_after_s) == (status, error, retry_after)


async def test_a_connection_that_is_refused_or_reset_is_named(trust: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    client = EgressClient(Dns(["127.0.0.1"]), origins=[f"http://{NAME}:{port}"], tls=trust)
    assert (await client.post(f"http://{NAME}:{port}/", {}, b"")).error == "connect"

    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with listening(reset) as listener:
        origin = f"http://{NAME}:{listener.port}"
        client = EgressClient(Dns(["127.0.0.1"]), origins=[origin], tls=trust)
        assert (await client.post(f"{origin}/", {}, b"")).error == "connect"


async def test_a_name_without_an_answer_is_named(trust: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async def hang(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(egress, "RESOLVE_S", 0.1)
    for resolve in (unknown, hang):
        assert (await EgressClient(resolve, tls=trust).post(URL, {}, b"")).error == "dns"


async def test_a_caller_who_is_cancelled_is_cancelled(server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with listening(silent, server_tls) as listener:
        task = asyncio.create_task(post_to(listener, Dns([PUBLIC]), trust))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# Origins that the operator lists


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
async def test_a_listed_origin_works_over_the_real_network_and_its_neighbours_do_not(
    address: str, trust: ssl.SSLContext
) -> None:
    async with listening(OK) as listener, listening(OK) as neighbour:
        client = EgressClient(
            Dns([address]), origins=[f"http://relay.internal:{listener.port}"], tls=trust,
            ports={443, listener.port, neighbour.port},
        )  # fmt: skip
        listed = await client.check_url(f"http://relay.internal:{listener.port}/in")
        assert (await client.post(listed, {}, b"")).error is None
        assert b"host: relay.internal:" in listener.requests[0].lower()
        for url in (
            f"https://relay.internal:{listener.port}/", f"http://relay.internal:{neighbour.port}/",
            f"https://relay.internal:{neighbour.port}/", f"http://a.relay.internal:{listener.port}/",
            f"http://relay.internal.example.com:{listener.port}/", f"http://127.0.0.1:{listener.port}/",
        ):  # fmt: skip
            assert (await client.post(url, {}, b"")).error == "url_not_allowed"
            with pytest.raises(UrlNotAllowed):
                await client.check_url(url)
        assert (listener.connections, neighbour.connections) == (1, 0)


async def test_the_other_scheme_of_a_listed_origin_stays_public_only(trust: ssl.SSLContext) -> None:
    async with listening(OK) as listener:
        client = EgressClient(
            Dns(["127.0.0.1"]), origins=[f"http://{NAME}:{listener.port}"], ports={listener.port},
            tls=trust,
        )  # fmt: skip
        assert (await client.post(f"https://{NAME}:{listener.port}/", {}, b"")).error == "url_not_allowed"
        assert listener.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        ("169.254.169.254",), ("::ffff:169.254.169.254",), ("fd00:ec2::254",), ("64:ff9b::a9fe:a9fe",),
        ("168.63.129.16",), ("100.100.100.200",), ("127.0.0.1", "169.254.169.254"), ("0.0.0.0",), ("::a9fe:a9fe",),
        ("fe80::a9fe:a9fe%1",),
    ],
)  # fmt: skip
async def test_a_listed_origin_never_leads_to_a_metadata_service(
    addresses: tuple[str, ...], trust: ssl.SSLContext
) -> None:
    async with listening(OK) as listener:
        wire = Everywhere(listener.port)
        client = EgressClient(Dns(addresses), origins=["http://relay.internal:80"], tls=trust, wire=wire)
        assert (await client.post("http://relay.internal/", {}, b"")).error == "url_not_allowed"
        assert (wire.called, listener.connections) == ([], 0)


async def test_the_system_resolver_knows_this_machine() -> None:
    assert "127.0.0.1" in await system_resolver("localhost", 80)
    with pytest.raises((OSError, UnicodeError)):
        await system_resolver("a" * 64 + ".invalid", 80)
