"""Where a request comes from. Only proxies that the operator named are believed about others."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.types import Scope

Address = IPv4Address | IPv6Address
NOWHERE = IPv4Address("0.0.0.0")  # noqa: S104 – a Unix socket's peer has no address; nothing is bound to it


class ClientAddress:
    """The peer's address, or behind trusted proxies the right-most forwarded one that is not theirs."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = [ip_network(text) for text in trusted_proxies]

    def of(self, scope: Scope) -> Address:
        peer = _parsed(scope["client"][0]) if scope.get("client") else None
        client = peer or NOWHERE
        if not self._trusts(client):
            return client
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        for text in reversed(",".join(values).split(",")):
            address = _parsed(text.strip())
            if address is None:
                break  # what stands left of nonsense is worth no more
            client = address
            if not self._trusts(client):
                break
        return client

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


@lru_cache(4096)
def network_of(address: Address) -> str:
    """What counts as one client: an IPv4 address, or the /64 that an IPv6 host chooses from as it likes."""
    return str(ip_network((address, 64 if address.version == 6 else 32), strict=False))


@lru_cache(4096)
def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
