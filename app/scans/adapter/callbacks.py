"""The hosts that scans report to: by URL, or the receiver in this process."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from app.scans.contracts import CallbackReceiver, ScanOrder
from app.scans.domain.errors import CallbackNotRegistered
from app.scans.domain.ports import Outcome
from app.scans.domain.scan import Batch, Scan
from core.clock import Clock
from core.errors import AppError
from core.security.addresses import Url, parse_url
from core.security.egress import EgressClient, UrlNotAllowed
from core.security.service_keys import key_id
from core.security.signing import sign

log = structlog.get_logger("scans")

DEFAULT = "default"
RECEIVER_S = 15  # as long as a call has


class RegisteredCallbacks:
    """Messages go where the operator said, signed, with a token that the host knows."""

    def __init__(
        self, registered: Mapping[str, str], egress: EgressClient, receiver: CallbackReceiver | None,
        signing_keys: Sequence[bytes], tokens: Sequence[str], clock: Clock,
    ) -> None:  # fmt: skip
        """`receiver` is meant by `default` where none of this name is registered."""
        self._registered = {name: parse_url(url) for name, url in registered.items()}
        self._egress, self._receiver, self._keys, self._clock = egress, receiver, tuple(signing_keys), clock
        self._tokens = {key_id(token.encode()): token for token in reversed(tokens)}  # the first one comes last

    async def url_of(self, order: ScanOrder) -> str | None:
        """Raises CallbackNotRegistered."""
        if order.callback_url is not None:
            return await self._checked(self._under_a_registered(order.callback_url), "/callback_url")
        url = self._registered.get(order.callback)
        if url is not None:
            return await self._checked(url, "/callback")
        if order.callback == DEFAULT and self._receiver is not None:
            return None
        raise CallbackNotRegistered(pointer="/callback")

    async def send(self, scan: Scan, batch: Batch) -> Outcome:
        headers = {
            "content-type": "application/json",
            # The one with which the scan was ordered, unless it was withdrawn meanwhile.
            "private-token": self._tokens.get(scan.key_id) or [*self._tokens.values()][-1],
            **sign(self._keys, batch.id, int(self._clock().timestamp()), batch.body),
        }
        if scan.callback_url is None:
            return await self._hand_over(headers, batch.body)
        answer = await self._egress.post(scan.callback_url, headers, batch.body)
        return Outcome(answer.error, answer.retry_after_s or 0)

    async def _hand_over(self, headers: Mapping[str, str], body: bytes) -> Outcome:
        if self._receiver is None:  # ordered by a process that had folders
            return Outcome("callback_not_registered")
        try:
            async with asyncio.timeout(RECEIVER_S):
                await self._receiver.receive([(name.encode(), value.encode()) for name, value in headers.items()], body)
        except AppError as refusal:
            return Outcome(refusal.code)
        except Exception:
            log.exception("scan_receiver_failed")
            return Outcome("internal_error")
        return Outcome()

    def _under_a_registered(self, text: str) -> Url:
        """The URL, if its origin and path are those of a registered one, or its path goes on from there."""
        try:
            url = parse_url(text)
        except ValueError:
            raise CallbackNotRegistered(pointer="/callback_url") from None
        path = url.target.partition("?")[0]
        for known in self._registered.values():
            base = known.target.rstrip("/")
            if url[:3] == known[:3] and (path == known.target or path.startswith(f"{base}/")):
                return url
        raise CallbackNotRegistered(pointer="/callback_url")

    async def _checked(self, url: Url, pointer: str) -> str:
        try:
            return await self._egress.check_url(str(url))
        except UrlNotAllowed:
            raise CallbackNotRegistered(pointer=pointer) from None


def origins(registered: Mapping[str, str]) -> list[str]:
    """Scheme, host and port of each: the operator named them, so they may be private."""
    urls = [parse_url(url) for url in registered.values()]
    return [f"{url.scheme}://{f'[{url.host}]' if ':' in url.host else url.host}:{url.port}" for url in urls]
