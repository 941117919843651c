"""The product catalogue in another process, by its HTTP contract. Whatever it does, a call ends within two seconds."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import httpx
import structlog
from pydantic import BaseModel, ValidationError

from app.inventory.adapter.breaker import Breaker, BreakerOpen
from app.inventory.domain.errors import CatalogRefused, CatalogUnavailable
from app.products.contracts import ProductView
from core import metrics
from core.tracing import calling

M = TypeVar("M", bound=BaseModel)

log = structlog.get_logger("inventory")

CONNECT_S, READ_S, POOL_S = 0.3, 1.0, 0.2
CALL_S, QUICK_S = 2.0, 0.3
RETRIES, BUDGET, BUDGET_MAX = 2, 0.1, 10.0  # so much of a retry is earned by each call
PAUSE_S = (0.05, 0.4)
MAX_BYTES, PAGE = 262_144, 10  # a page of the longest products fits
MISSING_S, MOST_MISSING = 30, 10_000
HEARTBEAT_S = 2
MAX_VERSION = 2**63 - 1
AGAIN = frozenset({502, 503, 504})


class _Failed(Exception):
    """No answer, or a server's error; `again`: a repeat may help."""

    def __init__(self, again: bool = True) -> None:
        self.again = again


class _Slow(Exception):
    """429: it lives and wants us to wait."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class _Refused(Exception):
    """An answer that is no answer."""


class _Listing(BaseModel):
    items: list[ProductView]
    next_cursor: str | None


class _Problem(BaseModel):
    code: str


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    retry_after: str


class HttpProductCatalog:
    """ProductCatalog over `GET /products`."""

    refresh_after_s = 10.0

    def __init__(
        self,
        url: str,
        keys: Sequence[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`keys`: the current one and, while rotating, the next."""
        self._keys, self._clock = list(keys), clock
        self._client = httpx.AsyncClient(
            base_url=url,
            transport=transport,
            trust_env=False,
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S, pool=POOL_S),
            limits=httpx.Limits(max_connections=50, max_keepalive_connections=20),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "Dossier"},
        )
        self._breaker = Breaker(clock, _Failed)
        self._flights: dict[tuple[str, int | None], asyncio.Task[ProductView | None]] = {}
        self._missing: dict[str, float] = {}
        self._budget, self._has_failed = BUDGET_MAX, False

    @property
    def is_down(self) -> bool:
        return self._has_failed or self._breaker.is_open

    async def get(
        self, product_id: str, *, known: ProductView | None = None, quick: bool = False
    ) -> ProductView | None:
        if self._clock() < self._missing.get(product_id, 0):
            return None
        flight = self._flights.get(key := (product_id, known.version if known else None))
        if flight is None:  # all who ask at the same time share one call
            flight = self._flights[key] = asyncio.create_task(self._get(product_id, known, quick))
            flight.add_done_callback(lambda done: self._landed(key, done))
        try:
            async with asyncio.timeout(QUICK_S if quick else None):
                return await asyncio.shield(flight)
        except TimeoutError as cause:
            raise CatalogUnavailable from cause

    async def walk(self) -> AsyncIterator[ProductView]:
        cursor: str | None = None
        while True:
            params = {"limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
            answer = await self._call("/products", params=params)
            if answer.status != 200:
                self._refuse(answer.status)
            page = self._read(_Listing, answer.body)
            for view in page.items:
                yield self._checked(view)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def listen(self) -> None:
        while True:
            with suppress(CatalogUnavailable):
                await self.ping()
            await asyncio.sleep(HEARTBEAT_S)

    async def ping(self) -> None:
        """Raises CatalogUnavailable."""
        try:
            async with asyncio.timeout(CONNECT_S + READ_S):
                answer = await self._exchange("/health", {}, {})
        except (httpx.HTTPError, TimeoutError, _Refused) as cause:
            self._heard("no heartbeat")
            raise CatalogUnavailable from cause
        self._heard(None if answer.status == 200 else "no heartbeat")
        if answer.status != 200:
            raise CatalogUnavailable

    async def close(self) -> None:
        for flight in (flights := list(self._flights.values())):
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._client.aclose()

    async def _get(self, product_id: str, known: ProductView | None, quick: bool) -> ProductView | None:
        headers = {"If-None-Match": f'"v{known.version}"'} if known else {}
        answer = await self._call(f"/products/{product_id}", headers=headers, quick=quick)
        if answer.status == 304 and known is not None:
            return known
        if answer.status == 404 and self._read(_Problem, answer.body).code == "product_not_found":
            if len(self._missing) >= MOST_MISSING:
                del self._missing[next(iter(self._missing))]
            self._missing[product_id] = self._clock() + MISSING_S
            return None
        if answer.status != 200:
            self._refuse(answer.status)
        view = self._checked(self._read(ProductView, answer.body))
        if view.product_id != product_id:
            self._refuse(answer.status)
        return view

    async def _call(
        self, path: str, *, headers: dict[str, str] | None = None, params: dict[str, str] | None = None,
        quick: bool = False,
    ) -> _Answer:  # fmt: skip
        """An answer below 500, with what retries are worth. Raises CatalogUnavailable or CatalogRefused."""
        loop, self._budget = asyncio.get_running_loop(), min(self._budget + BUDGET, BUDGET_MAX)
        end, retries = loop.time() + (QUICK_S if quick else CALL_S), 0 if quick else RETRIES
        while True:
            try:
                answer = await self._attempt(path, headers or {}, params or {}, end)
                self._heard(None)
                return answer
            except _Refused as cause:
                self._heard("refused")
                raise CatalogRefused from cause
            except (_Failed, _Slow, BreakerOpen) as failure:
                pause_s = _pause_after(failure)
                if pause_s is None or not retries or self._budget < 1 or loop.time() + pause_s >= end:
                    self._heard(type(failure.__cause__ or failure).__name__)
                    raise CatalogUnavailable from failure
            retries, self._budget = retries - 1, self._budget - 1
            await asyncio.sleep(pause_s)

    async def _attempt(self, path: str, headers: dict[str, str], params: dict[str, str], end: float) -> _Answer:
        with self._breaker.guarding():
            try:
                async with asyncio.timeout_at(end):  # an answer that drips defeats the client's own limits
                    answer = await self._exchange(path, headers, params)
            except (httpx.HTTPError, TimeoutError) as cause:
                raise _Failed from cause
            if answer.status >= 500:
                raise _Failed(answer.status in AGAIN)
        if answer.status == 429:
            raise _Slow(float(answer.retry_after) if answer.retry_after.isdecimal() else CALL_S)
        return answer

    async def _exchange(self, path: str, headers: dict[str, str], params: dict[str, str]) -> _Answer:
        answer = await self._send(path, {**headers, "X-API-Key": self._keys[0]}, params)
        if answer.status == 401 and len(self._keys) > 1:
            answer = await self._send(path, {**headers, "X-API-Key": self._keys[1]}, params)
            if answer.status != 401:
                self._keys.reverse()
                metrics.catalog_key_switches.inc()
                log.warning("catalog_key_switched", setting="PRODUCTS_API_KEY")
        return answer

    async def _send(self, path: str, headers: dict[str, str], params: dict[str, str]) -> _Answer:
        with calling("GET", self._client.base_url.host) as call:
            answer = await self._received(path, {**headers, **call.headers_for_ours}, params)
            call.status = answer.status
            return answer

    async def _received(self, path: str, headers: dict[str, str], params: dict[str, str]) -> _Answer:
        async with self._client.stream("GET", path, headers=headers, params=params) as response:
            status, given = response.status_code, response.headers
            if status in {200, 404}:
                media_type = given.get("content-type", "").partition(";")[0].strip().lower()
                if media_type not in {"application/json", "application/problem+json"} or "content-encoding" in given:
                    raise _Refused
                body = b""
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise _Refused
                return _Answer(status, body, "")
            return _Answer(status, b"", given.get("retry-after", ""))

    def _read(self, model: type[M], body: bytes) -> M:
        try:
            return model.model_validate_json(body)
        except ValidationError:
            self._refuse(200)

    def _checked(self, view: ProductView) -> ProductView:
        if not 0 < view.version <= MAX_VERSION:
            self._refuse(200)
        return view

    def _refuse(self, status: int) -> NoReturn:
        self._heard(f"refused: {status}")
        raise CatalogRefused

    def _heard(self, failure: str | None) -> None:
        if failure and not self._has_failed:
            log.error("catalog_down", reason=failure)
        elif self._has_failed and not failure:
            log.info("catalog_up")
        self._has_failed = failure is not None

    def _landed(self, key: tuple[str, int | None], flight: "asyncio.Task[ProductView | None]") -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # whoever asked may be gone


def _pause_after(failure: Exception) -> float | None:
    """Seconds before a repeat; None where it would not help."""
    if isinstance(failure, _Slow):
        return failure.seconds
    if isinstance(failure, _Failed) and failure.again:
        return random.uniform(*PAUSE_S)  # noqa: S311 – spreads load
    return None
