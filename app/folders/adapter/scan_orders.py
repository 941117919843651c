"""The scan service, in this process or behind a URL: both say the same to the application."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote, urlsplit

import httpx
import structlog
from pydantic import BaseModel, ValidationError

from app.folders.domain.errors import ScanRefused
from app.folders.domain.sync import SyncErrorCode
from app.scans.contracts import ScanOrder, ScanService, ScanStatus
from core.clock import Clock
from core.errors import AppError, Unavailable
from core.security.signing import sign
from core.tracing import calling

log = structlog.get_logger("folders")

TOTAL_S, MAX_BODY = 5, 65_536
TRIED_AGAIN = frozenset({408, 409, 425, 429})  # beside 5xx


class LocalScanOrders:
    """ScanOrders in the same process."""

    def __init__(self, scans: Callable[[], ScanService]) -> None:
        """Asked for when there is something to order: scans know of us too."""
        self._scans = scans

    async def order(self, order: ScanOrder, command_id: str) -> str:
        try:
            return (await self._scans().order(order, command_id)).scan_id
        except AppError as error:
            raise _translated(error) from error

    async def status(self, scan_id: str) -> ScanStatus:
        try:
            return (await self._scans().state(scan_id)).status
        except AppError as error:
            raise _translated(error) from error


class _Answer(BaseModel):
    """What we read of `POST /scans` and `GET /scans/{scan_id}`; others may say more."""

    scan_id: str
    status: ScanStatus


class _Refusal(BaseModel):
    """Nothing of the other side's words is passed on, but a code that is ours too."""

    code: SyncErrorCode


class HttpScanOrders:
    """ScanOrders over HTTP: no redirect, no proxy, bounded time and size."""

    def __init__(
        self, url: str, tokens: Sequence[str], keys: Sequence[bytes], clock: Clock,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        """`tokens`: the current one, and the next while they are rotated; `keys` sign."""
        self._url, self._tokens, self._keys, self._clock = url, tokens[:2], keys, clock
        self._transport = transport

    async def order(self, order: ScanOrder, command_id: str) -> str:
        body = order.model_dump_json(exclude_none=True).encode()
        signed = sign(self._keys, command_id, int(self._clock().timestamp()), body)
        headers = {**signed, "Idempotency-Key": command_id, "Content-Type": "application/json"}
        return (await self._call("POST", "/scans", headers, body)).scan_id

    async def status(self, scan_id: str) -> ScanStatus:
        return (await self._call("GET", f"/scans/{quote(scan_id, safe='')}", {}, None)).status

    async def _call(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> _Answer:
        with calling(method, urlsplit(self._url).hostname or "") as call:
            ours = {**call.headers_for_ours, "Accept-Encoding": "identity", "User-Agent": "Dossier"}
            call.status, content = await self._answered(method, path, {**headers, **ours}, body)
        return _understood(call.status, content)

    async def _answered(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        status, content = 401, b""
        try:
            async with (
                asyncio.timeout(TOTAL_S),
                httpx.AsyncClient(trust_env=False, transport=self._transport, timeout=TOTAL_S) as client,
            ):
                for token in self._tokens:
                    everything = {**headers, "Private-Token": token}
                    status, content = await _exchange(
                        client.build_request(method, self._url + path, headers=everything, content=body), client
                    )
                    if status != 401:
                        break
                    log.warning("scans_token_refused")
        except (httpx.TransportError, TimeoutError) as cause:
            raise Unavailable from cause
        return status, content


async def _exchange(request: httpx.Request, client: httpx.AsyncClient) -> tuple[int, bytes]:
    answer = await client.send(request, stream=True)
    content = b""
    try:
        async for chunk in answer.aiter_raw():
            content += chunk
            if len(content) > MAX_BODY:
                raise ScanRefused("upstream_failed")
    finally:
        await answer.aclose()
    return answer.status_code, content


def _understood(status: int, content: bytes) -> _Answer:
    if status >= 500 or status in TRIED_AGAIN:
        raise Unavailable
    try:
        if status // 100 == 2:
            return _Answer.model_validate_json(content)
        log.error("scans_refused", status=status)
        raise ScanRefused(_Refusal.model_validate_json(content).code)
    except ValidationError as cause:
        raise ScanRefused("upstream_failed") from cause


def _translated(error: AppError) -> Exception:
    if isinstance(error, Unavailable):
        return error
    try:
        return ScanRefused(_Refusal.model_validate({"code": error.code}).code)
    except ValidationError:
        return ScanRefused("upstream_failed")
