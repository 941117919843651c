"""How often somebody may try to sign in, or register. Every charge is made before a password is hashed.

Guesses at one account are few from one network; from all unknown networks together they are few too. Networks from
which the owner signed in lately do not share that last bucket, so strangers cannot lock anybody out.
"""

from collections.abc import Iterator
from ipaddress import IPv6Network, ip_network

from core.errors import TooMany
from core.security.ratelimit import Limiter, Rate

PAIR = Rate.every(60, burst=5)
PAIR_LONG = Rate.every(900, burst=20)  # after 20 failures the pair goes on at this rate
NETWORK = Rate.per_minute(20, burst=30)
WIDE = Rate.per_minute(200, burst=300)
ACCOUNT = Rate.every(120, burst=20)
REGISTER = Rate.per_minute(1, burst=10)
WIDE_PREFIX = 48

Charge = tuple[str, Rate]


class BucketSignInLimits:
    """SignInLimits by buckets; `factor` widens those of networks where everybody has the same address."""

    def __init__(self, limiter: Limiter, *, is_on: bool, factor: int = 1) -> None:
        self._limiter, self._is_on, self._factor = limiter, is_on, factor

    async def admit(self, account: str, network: str) -> None:
        if not self._is_on:
            return
        charges = [*self._pair(account, network), *self._networks(network)]
        if not await self._limiter.knows(*self._known(account, network)):
            charges.append(self._account(account))
        for index, (key, rate) in enumerate(charges):
            wait_s = await self._limiter.take(key, rate)
            if wait_s:
                for charged in charges[:index]:  # a refused attempt costs nothing, so Retry-After stays true
                    await self._limiter.give_back(*charged)
                raise TooMany(wait_s)

    async def succeeded(self, account: str, network: str) -> None:
        if not self._is_on:
            return
        for key, _ in self._pair(account, network):
            await self._limiter.clear(key)
        # One back, not all: a login of one's own does not wash away guesses at others.
        for charge in self._networks(network):
            await self._limiter.give_back(*charge)
        known = self._known(account, network)
        if not await self._limiter.knows(*known):
            await self._limiter.give_back(*self._account(account))
        await self._limiter.learn(*known)

    async def admit_registration(self, network: str) -> None:
        if self._is_on:
            wait_s = await self._limiter.take(self._limiter.key("register", network), REGISTER.wider(self._factor))
            if wait_s:
                raise TooMany(wait_s)

    def _pair(self, account: str, network: str) -> Iterator[Charge]:
        yield self._limiter.key("pair", account, network), PAIR
        yield self._limiter.key("pair-long", account, network), PAIR_LONG

    def _networks(self, network: str) -> Iterator[Charge]:
        yield self._limiter.key("network", network), NETWORK.wider(self._factor)
        parsed = ip_network(network)
        if isinstance(parsed, IPv6Network):
            wide = str(parsed.supernet(new_prefix=WIDE_PREFIX))
            yield self._limiter.key("wide", wide), WIDE.wider(self._factor)

    def _account(self, account: str) -> Charge:
        return self._limiter.key("account", account), ACCOUNT

    def _known(self, account: str, network: str) -> tuple[str, str]:
        return self._limiter.key("known", account), self._limiter.hidden(network)
