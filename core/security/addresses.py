"""URLs and addresses of strangers, as text: what is a URL at all, its one normalised form, which address is public."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import unquote

MAX_URL = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}
LOCAL_NAMES = (".localhost", ".local", ".internal", ".home.arpa", ".svc", ".cluster.local", ".onion")

Address = IPv4Address | IPv6Address
# They lead inside, although `is_global` is true for them in one of the Python versions we run on.
DENIED = [ip_network(text) for text in (
    "168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10", "64:ff9b::/96", "64:ff9b:1::/48",
    "2001::/32", "2002::/16", "::/96", "fec0::/10", "5f00::/16", "3fff::/20", "100::/64", "fc00::/7", "fe80::/10",
)]  # fmt: skip
# Not even for an origin that the operator listed: metadata services of the clouds, and what is no host at all.
NEVER = [ip_network(text) for text in (
    "0.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "224.0.0.0/3",
    "::/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32", "fd20:ce::/32",
)]  # fmt: skip
# The last 32 bits of these may be an IPv4 address: NAT64 (two prefixes), IPv4-compatible.
TRANSLATED = [ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")]

# The only parser, stricter than the RFC: what it does not take, nobody else can read in another way.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!-\"$->@-\[\]-~]*)?(?P<query>\?[!-\"$-\[\]-~]*)?",
    re.IGNORECASE | re.ASCII,
)
# The last label starts with a letter: resolvers read 127.1, 0x7f.1 and 017700000001 as addresses.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PUBLIC_NAME = re.compile(rf"(?:{_LABEL}\.)+(?=[a-z]){_LABEL}")


class Url(NamedTuple):
    """A URL in its one form; `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_url(text: str) -> Url:
    """The parts of an http(s) URL. Raises ValueError, also for user info, fragments, backslashes and dot segments."""
    match = _URL.fullmatch(text) if len(text) <= MAX_URL else None
    if match is None or {".", ".."} & set(re.split(r"[/\\]", unquote(match["path"] or ""))):
        raise ValueError("not a URL of visible ASCII without user, fragment, backslash and dot segments")
    scheme, host, path = match["scheme"].lower(), match["host"].lower(), match["path"] or "/"
    host = str(IPv6Address(host[1:-1])) if host.startswith("[") else host.removesuffix(".")
    url = Url(scheme, host, int(match["port"] or DEFAULT_PORTS[scheme]), path + (match["query"] or ""))
    if not host or len(host) > 253 or "" in host.split(".") or not 0 < url.port < 65536 or len(str(url)) > MAX_URL:
        raise ValueError("no host or port that can exist")
    return url


def parse_origin(text: str) -> Url:
    """An exact `scheme://host:port`. Raises ValueError, also for addresses that are never called."""
    url = parse_url(text)
    if url.target != "/" or not text.endswith(f":{url.port}"):
        raise ValueError("not exactly scheme://host:port")
    if (":" in url.host or re.fullmatch(r"[0-9.]+", url.host)) and not listed_ok(url.host):
        raise ValueError("an address that is never called")
    return url


def has_public_name(url: Url) -> bool:
    """Whether the host is a DNS name as on the internet: a dot, no address in any notation, no local suffix."""
    return _PUBLIC_NAME.fullmatch(url.host) is not None and not url.host.endswith(LOCAL_NAMES)


def public(text: str) -> bool:
    """Whether an address is one of the internet's. Raises ValueError for what is no address."""
    address = _unwrapped(text)
    special = address.is_multicast or address.is_reserved or address.is_unspecified
    return address.is_global and not special and not _within(address, DENIED)


def listed_ok(text: str) -> bool:
    """Whether a name that the operator listed may lead to this address. Raises ValueError for what is no address."""
    return not any(_within(address, NEVER) for address in _carried(_unwrapped(text)))


def _unwrapped(text: str) -> Address:
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _carried(address: Address) -> Iterable[Address]:
    """The address, and the IPv4 addresses that a translator on the way would make of it."""
    yield address
    if isinstance(address, IPv6Address):
        yield from (inner for inner in (address.sixtofour, *(address.teredo or ())) if inner is not None)
        if _within(address, TRANSLATED) and not address.is_loopback:
            yield IPv4Address(int(address) & 0xFFFFFFFF)


def _within(address: Address, networks: Iterable[object]) -> bool:
    return any(address in network for network in networks)  # type: ignore[operator]
