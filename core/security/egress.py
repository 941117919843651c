"""The one client for calls to a URL that came from outside: what it may reach is decided when it connects.

A check of the name alone is worthless, since DNS may answer otherwise the next time: the address that was checked is
the one that is called. httpcore follows no redirect, reads no proxy variable, unpacks nothing and keeps no cookie.
"""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import httpcore
from httpcore import AsyncNetworkBackend as Wire
from httpcore import AsyncNetworkStream as Stream

from core.errors import Invalid
from core.security.addresses import Url, has_public_name, listed_ok, parse_origin, parse_url, public
from core.tracing import calling

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]  # raises OSError or UnicodeError where there is no answer
EgressError = Literal[
    "dns", "connect", "tls", "timeout", "redirect", "http_status", "response_too_large", "url_not_allowed"
]

PORTS = frozenset({443, 8443})
MAX_BODY, MAX_ADDRESSES = 16_384, 3
RESOLVE_S, RESOLVE_AT_REGISTRATION_S = 3, 2
# Threads of its own, started when needed: names that hang must not hold up the other work of the process.
_RESOLVER_THREADS = ThreadPoolExecutor(8, thread_name_prefix="resolve")


class UrlNotAllowed(Invalid):
    title = "The URL must be https, on port 443 or 8443, and lead to a public address"


class DestinationRefused(Exception):
    """This call may not go where it leads now."""


class NameUnknown(httpcore.ConnectError):
    """DNS has no answer, or none in time."""


@dataclass(frozen=True)
class EgressAnswer:
    """How one attempt ended; `error` is None after 2xx. The body is for programs: never shown, logged or kept."""

    status: int | None
    error: EgressError | None
    duration_ms: int = 0
    body: bytes = field(default=b"", repr=False)
    retry_after_s: int | None = None  # what the other side asked for


async def system_resolver(host: str, port: int) -> list[str]:
    """The addresses that the system's resolver knows."""
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_RESOLVER_THREADS, ask)
    return [str(address[0]) for *_, address in found]


class PinnedBackend(Wire):
    """Connects to addresses that were checked, never to a name."""

    def __init__(
        self, resolve: Resolve, ports: Collection[int], listed: Collection[tuple[str, int]], wire: Wire | None = None
    ) -> None:
        """`listed`: host and port that may be private; `wire`: what really connects."""
        self._resolve, self._ports, self._listed = resolve, ports, listed
        self._wire, self.connected = wire or httpcore.AnyIOBackend(), False

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: object = None, socket_options: Any = ()
    ) -> Stream:
        listed = (host, port) in self._listed
        if not listed and port not in self._ports:
            raise DestinationRefused
        allowed = listed_ok if listed else public
        try:
            addresses = await _addresses(self._resolve, host, port, RESOLVE_S)
        except (OSError, UnicodeError) as cause:
            raise NameUnknown from cause
        if not _all(allowed, addresses):  # one bad answer refuses all
            raise DestinationRefused
        stream = await self._first_connected(addresses[:MAX_ADDRESSES], port, timeout, None, socket_options)
        peer = stream.get_extra_info("server_addr")  # None: it has hung up already
        if peer is None or not _all(allowed, [peer[0]]):
            await stream.aclose()
            raise httpcore.ConnectError if peer is None else DestinationRefused
        self.connected = True
        return stream  # TLS still checks the name

    async def connect_unix_socket(self, *args: object, **kwargs: object) -> Stream:
        raise DestinationRefused

    async def _first_connected(self, addresses: Sequence[str], *args: Any) -> Stream:
        failure: Exception = httpcore.ConnectError()
        for address in addresses:
            try:
                return await self._wire.connect_tcp(address, *args)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class EgressClient:
    """Checks URLs when they are registered and calls them later, both times by the same rules."""

    def __init__(
        self, resolve: Resolve, *, origins: Iterable[str] = (), ports: Collection[int] = PORTS, total_s: float = 15,
        tls: ssl.SSLContext | None = None, wire: Wire | None = None,
    ) -> None:  # fmt: skip
        """`origins`: exact `scheme://host:port` that the operator listed; only they may be private or plain http."""
        self._resolve, self._ports, self._total_s, self._wire = resolve, ports, total_s, wire
        self._origins = {parse_origin(text)[:3] for text in origins}
        self._tls = tls or httpcore.default_ssl_context()  # once: reading all the roots takes a while

    async def check_url(self, text: str, *, pointer: str = "/url") -> str:
        """The normalised form, the one to keep. Raises UrlNotAllowed; a name that DNS does not know is accepted."""
        try:
            url, listed = self._parsed(text)
            addresses = await _addresses(self._resolve, url.host, url.port, RESOLVE_AT_REGISTRATION_S)
        except DestinationRefused:
            raise UrlNotAllowed(pointer=pointer) from None
        except (OSError, UnicodeError):
            return str(url)  # the check that counts comes when it connects
        if addresses and not _all(listed_ok if listed else public, addresses):
            raise UrlNotAllowed(pointer=pointer)
        return str(url)

    async def post(self, text: str, headers: Mapping[str, str], body: bytes) -> EgressAnswer:
        """One attempt, over within the total time whatever the other side does, and never an exception for it."""
        started, backend = time.monotonic(), None
        try:
            url, listed = self._parsed(text)
            # The same host and port under another scheme is not listed: hence a backend for each attempt.
            backend = PinnedBackend(self._resolve, self._ports, [(url.host, url.port)] if listed else (), self._wire)
            with calling("POST", url.host) as call:
                async with asyncio.timeout(self._total_s):
                    answer = await self._exchange(url, _headers(url, headers, call.headers), body, backend)
                call.status = answer.status
        except _EXPECTED as failure:
            answer = EgressAnswer(None, _named(failure, backend is not None and backend.connected))
        return replace(answer, duration_ms=round((time.monotonic() - started) * 1000))

    def _parsed(self, text: str) -> tuple[Url, bool]:
        """The URL, and whether its origin is listed. Raises DestinationRefused."""
        try:
            url = parse_url(text)
        except ValueError:
            raise DestinationRefused from None
        listed = url[:3] in self._origins
        if not listed and not (url.scheme == "https" and url.port in self._ports and has_public_name(url)):
            raise DestinationRefused
        return url, listed

    async def _exchange(
        self, url: Url, headers: list[tuple[bytes, bytes]], body: bytes, backend: PinnedBackend
    ) -> EgressAnswer:
        address = httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
        share = {"timeout": {"connect": self._total_s / (MAX_ADDRESSES + 1)}}  # a dead address leaves time for others
        async with (
            httpcore.AsyncConnectionPool(self._tls, max_keepalive_connections=0, network_backend=backend) as pool,
            pool.stream("POST", address, headers=headers, content=body, extensions=share) as response,
        ):
            if response.status // 100 != 2:
                error: EgressError = "redirect" if response.status // 100 == 3 else "http_status"
                return EgressAnswer(response.status, error, retry_after_s=_retry_after(response.headers))
            content = b""
            async for chunk in response.aiter_stream():
                content += chunk
                if len(content) > MAX_BODY:
                    return EgressAnswer(response.status, "response_too_large", body=content[:MAX_BODY])
            return EgressAnswer(response.status, None, body=content)


_NAMES: dict[type[Exception], EgressError] = {  # in this order
    DestinationRefused: "url_not_allowed", NameUnknown: "dns", TimeoutError: "timeout",
    httpcore.TimeoutException: "timeout", ssl.SSLError: "tls",
}  # fmt: skip
_EXPECTED: tuple[type[Exception], ...] = (*_NAMES, OSError, httpcore.NetworkError, httpcore.RemoteProtocolError)


def _named(failure: Exception, connected: bool) -> EgressError:
    for kind, name in _NAMES.items():
        if isinstance(failure, kind):
            return name
    return "tls" if connected and isinstance(failure, httpcore.ConnectError) else "connect"


def _headers(url: Url, given: Mapping[str, str], traced: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The caller's; ours cannot be replaced."""
    ours = {"host": url.authority, "user-agent": "Dossier", "accept-encoding": "identity", "connection": "close"}
    lowered = {name.lower(): value for name, value in given.items()}
    return [(name.encode(), value.encode()) for name, value in {**lowered, **ours, **traced}.items()]


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    found = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
    return int(found) if re.fullmatch(rb"[0-9]{1,9}", found) else None


async def _addresses(resolve: Resolve, host: str, port: int, within_s: float) -> list[str]:
    async with asyncio.timeout(within_s):
        return list(dict.fromkeys(await resolve(host, port)))


def _all(allowed: Callable[[str], bool], addresses: Sequence[str]) -> bool:
    """Whether there are addresses and each is allowed; what is no address is not."""
    try:
        return bool(addresses) and all(map(allowed, addresses))
    except ValueError:
        return False
