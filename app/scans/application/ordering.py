"""What hosts do: order a scan and follow it; and the upkeep that brings forgotten scans back."""

from collections.abc import Callable

from app.scans.contracts import ScanOrder, ScanState
from app.scans.domain.ports import Callbacks, ScanQueue, Scans
from app.scans.domain.scan import Scan
from core.clock import Clock
from core.ids import id_for
from core.sources import Sources

WOKEN_AT_ONCE = 200


class Ordering:
    """The ScanService of this process."""

    def __init__(
        self, scans: Scans, callbacks: Callbacks, sources: Sources, queue: ScanQueue, clock: Clock,
        request_id: Callable[[], str],
    ) -> None:  # fmt: skip
        self._scans, self._callbacks, self._sources, self._queue = scans, callbacks, sources, queue
        self._clock, self._request_id = clock, request_id

    async def order(self, order: ScanOrder, command_id: str | None, *, key_id: str = "") -> ScanState:
        """`key_id` of the token that ordered it. Raises CallbackNotRegistered or SourceNotAllowed."""
        for place, folder in enumerate(order.folders):
            self._sources.check(folder.source, order.user_id, pointer=f"/folders/{place}/source")
        callback_url = await self._callbacks.url_of(order)
        scan = await self._scans.add(
            Scan(
                id=id_for("scn", command_id),
                user_id=order.user_id,
                folders=order.folders,
                callback_url=callback_url,
                correlation_id=order.correlation_id,
                key_id=key_id,
                request_id=self._request_id(),
                created_at=self._clock(),
            )
        )
        self._queue.list(scan)
        return scan.state(await self._scans.delivered(scan))

    async def state(self, scan_id: str) -> ScanState:
        """Raises ScanNotFound."""
        scan = await self._scans.get(scan_id)
        return scan.state(await self._scans.delivered(scan))

    async def reconcile(self) -> None:
        """Wakes what is not over: lost messages, dead workers, batches that are due again."""
        for scan in await self._scans.wake_due(WOKEN_AT_ONCE):
            if scan.run.state == "queued":
                self._queue.list(scan)
            if scan.status == "RUNNING":
                self._queue.deliver(scan)
