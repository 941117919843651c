"""The memory of repeatable requests: one row per Idempotency-Key, every step one update on the database's clock.

A row is held by the request that runs its command, as long as it renews the lease. `command_id` is what all runs of one
command have in common; what they create is named after it, so that a second run finds the work of the first.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Protocol

from pydantic import BaseModel
from pymongo import IndexModel

from core.mongo import NOW, Record, Row, change_one, later, translated

LEASE_S = 30
KEPT_S = 86_400


class Answer(BaseModel):
    """What is said again; `body` is encrypted."""

    status: int
    headers: dict[str, str]
    body: str


class Claim(BaseModel):
    """A row as its claimer finds it. The claimer holds it where `holder` is the claimer's own id."""

    id: str
    body_hash: str
    command_id: str
    holder: str
    locked_until: datetime
    response: Answer | None = None
    expires_at: datetime


class IdempotencyKeys(Protocol):
    """`holder` is an id that no other request uses; the first holder's is also the id of the command."""

    async def claim(self, key: str, hashes: Sequence[str], holder: str) -> Claim:
        """Takes a key that is free, or left behind over the same body (any of `hashes`, of which the first is kept)."""

    async def renew(self, key: str, holder: str) -> None: ...

    async def finish(self, key: str, command_id: str, response: Answer) -> None:
        """Keeps the answer; the first of several runs of one command counts."""

    async def forget(self, key: str, holder: str) -> None:
        """Frees the key, where nobody but the first holder ever had it."""

    async def release(self, key: str, holder: str) -> None:
        """Ends the lease: the next repeat takes over."""


class IdempotencyRecord(Claim, Record):
    """Each module binds a subclass of its own, so that the row lies in the module's database."""

    class Settings:
        name = "idempotency_keys"
        indexes: ClassVar = [
            # A key owns nothing, so MongoDB may delete it; a claim asks for expires_at itself.
            IndexModel([("expires_at", 1)], name="expiry", expireAfterSeconds=0)
        ]


class MongoIdempotencyKeys:
    """Keys in the collection `idempotency_keys` of one module."""

    def __init__(self, record: type[IdempotencyRecord], *, lease_s: float = LEASE_S, kept_s: float = KEPT_S) -> None:
        self._record, self._lease_s, self._kept_s = record, lease_s, kept_s

    async def claim(self, key: str, hashes: Sequence[str], holder: str) -> Claim:
        held = {"holder": holder, "locked_until": later(self._lease_s), "expires_at": later(self._kept_s)}
        fresh = {"_id": key, "body_hash": hashes[0], "command_id": holder, "response": None} | held
        taken_over = {"$mergeObjects": ["$$ROOT", held]}
        is_free = {"$not": [{"$gt": ["$expires_at", NOW]}]}  # also where there is no row yet
        is_left = {"$and": [
            {"$eq": ["$response", None]}, {"$lte": ["$locked_until", NOW]}, {"$in": ["$body_hash", list(hashes)]},
        ]}  # fmt: skip
        cases = [{"case": is_free, "then": fresh}, {"case": is_left, "then": taken_over}]
        update = [{"$replaceWith": {"$switch": {"branches": cases, "default": "$$ROOT"}}}]
        claim = await change_one(self._record.rows(), {"_id": key}, update, Claim, upsert=True)
        assert claim is not None, "it is made where there is none"
        return claim

    async def renew(self, key: str, holder: str) -> None:
        await self._change({"_id": key, "holder": holder}, {"locked_until": later(self._lease_s)})

    async def finish(self, key: str, command_id: str, response: Answer) -> None:
        kept = {"response": {"$literal": response.model_dump()}, "expires_at": later(self._kept_s)}
        await self._change({"_id": key, "command_id": command_id}, kept)

    async def forget(self, key: str, holder: str) -> None:
        with translated():
            await self._record.rows().delete_one({"_id": key, "holder": holder, "command_id": holder, "response": None})

    async def release(self, key: str, holder: str) -> None:
        await self._change({"_id": key, "holder": holder}, {"locked_until": NOW})

    async def _change(self, query: Row, update: Row) -> None:
        """Of a row without an answer: what is answered stays."""
        with translated():
            await self._record.rows().update_one({**query, "response": None}, [{"$set": update}])
