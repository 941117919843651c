"""In-memory twin of MongoIdempotencyKeys; held to it by tests/contracts/test_idempotency.py."""

from collections.abc import Sequence
from datetime import timedelta

from core.clock import Clock
from core.idempotency import KEPT_S, LEASE_S, Answer, Claim


class IdempotencyKeysTwin:
    """No await between reading and writing a row."""

    def __init__(self, clock: Clock, *, lease_s: float = LEASE_S, kept_s: float = KEPT_S) -> None:
        self._clock, self._lease, self._kept = clock, timedelta(seconds=lease_s), timedelta(seconds=kept_s)
        self.rows: dict[str, Claim] = {}

    async def claim(self, key: str, hashes: Sequence[str], holder: str) -> Claim:
        now, row = self._clock(), self.rows.get(key)
        held = {"holder": holder, "locked_until": now + self._lease, "expires_at": now + self._kept}
        if row is None or row.expires_at <= now:
            row = Claim.model_validate({"id": key, "body_hash": hashes[0], "command_id": holder, **held})
        elif row.response is None and row.locked_until <= now and row.body_hash in hashes:
            row = row.model_copy(update=held)
        self.rows[key] = row
        return row

    async def renew(self, key: str, holder: str) -> None:
        self._change(key, {"holder": holder}, {"locked_until": self._clock() + self._lease})

    async def finish(self, key: str, command_id: str, response: Answer) -> None:
        self._change(key, {"command_id": command_id}, {"response": response, "expires_at": self._clock() + self._kept})

    async def forget(self, key: str, holder: str) -> None:
        if self._matches(key, {"holder": holder, "command_id": holder}):
            del self.rows[key]

    async def release(self, key: str, holder: str) -> None:
        self._change(key, {"holder": holder}, {"locked_until": self._clock()})

    def _change(self, key: str, query: dict[str, str], update: dict[str, object]) -> None:
        if self._matches(key, query):
            self.rows[key] = self.rows[key].model_copy(update=update)

    def _matches(self, key: str, query: dict[str, str]) -> bool:
        row = self.rows.get(key)
        return bool(row and row.response is None and all(getattr(row, name) == want for name, want in query.items()))
