"""Accounts and sessions in MongoDB. Every time that decides something is the database's (`$$NOW`)."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pymongo import DESCENDING, IndexModel, ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError

from app.users.domain.errors import EmailTaken, UserNotFound
from app.users.domain.ports import SessionLife
from app.users.domain.user import Session, User
from core.idempotency import IdempotencyRecord
from core.mongo import NOW, Record, Row, in_transaction, later, to_model, translated

MAX_SESSIONS = 10  # of one person; a login ends the one that was not used for longest
SEEN_MS = 60_000  # `last_seen_at` moves at most this often
ALIVE: Row = {"state": "active", "$expr": {"$gt": ["$ends_at", NOW]}}


class UserRecord(User, Record):
    class Settings:
        name = "users"
        indexes: ClassVar = [
            IndexModel([("email_key", 1)], name="email_key", unique=True),  # login, and one account per address
        ]


class SessionRecord(Session, Record):
    class Settings:
        name = "sessions"
        indexes: ClassVar = [
            IndexModel([("user_id", 1), ("last_seen_at", DESCENDING)], name="user_sessions"),  # one person's list
            # A session owns nothing, so MongoDB may delete it; every filter asks for ends_at itself.
            IndexModel([("ends_at", 1)], name="expiry", expireAfterSeconds=0),
        ]


class UserKeyRecord(IdempotencyRecord):
    """Keys of registrations."""


RECORDS = (UserRecord, SessionRecord, UserKeyRecord)


class MongoUsers:
    """Users in the collection `users`."""

    async def add(self, user: User) -> User:
        try:
            with translated():
                await UserRecord(**user.model_dump()).insert()
        except DuplicateKeyError as cause:
            try:
                return await self.get(user.id)
            except UserNotFound:
                raise EmailTaken from cause
        return user

    async def get(self, user_id: str) -> User:
        with translated():
            user = await UserRecord.get(user_id)
        if user is None:
            raise UserNotFound
        return user

    async def find_by_email(self, key: str) -> User | None:
        with translated():
            return await UserRecord.find_one({"email_key": key})

    async def replace_hash(self, user_id: str, *, old: str, new: str) -> None:
        with translated():
            await UserRecord.find_one({"_id": user_id, "password_hash": old}).update({"$set": {"password_hash": new}})


class MongoSessions:
    """Sessions in the collection `sessions`; what ends all of them also moves the user's `epoch`."""

    async def start(
        self, session_id: str, user: User, user_agent: str | None, life: SessionLife
    ) -> Sequence[str] | None:
        async def work(transaction: AsyncClientSession) -> list[str] | None:
            # Meets logout-all and a change of password on the user's row: one of the two has to see the other.
            seen = {"$currentDate": {"last_login_at": True}}
            if not await _update_user(user.id, {"epoch": user.epoch}, seen, transaction):
                return None
            await _sessions().update_one(
                {"_id": session_id}, _first_generation(user.id, user_agent, life), upsert=True, session=transaction
            )
            others = {"user_id": user.id, "_id": {"$ne": session_id}, **ALIVE}
            rows = _sessions().find(others, {"_id": 1}, session=transaction).sort("last_seen_at", DESCENDING)
            evicted = [row["_id"] for row in await rows.skip(MAX_SESSIONS - 1).to_list()]
            if evicted:
                await _sessions().delete_many({"_id": {"$in": evicted}}, session=transaction)
            return evicted

        return await in_transaction(_sessions(), work)

    async def seconds_left(self, session_id: str, user_id: str) -> float | None:
        seen_before = {"$lt": ["$last_seen_at", {"$subtract": [NOW, SEEN_MS]}]}
        shown = {"left": {"$subtract": ["$ends_at", NOW]}, "is_stale": seen_before}
        alive = {"_id": session_id, "user_id": user_id, **ALIVE}
        with translated():
            row = await _sessions().find_one(alive, shown)
            if row is None:
                return None
            if row["is_stale"]:
                await _sessions().update_one(alive, [{"$set": {"last_seen_at": NOW}}])
        return float(row["left"]) / 1000

    async def rotate(self, session_id: str, user_id: str, generation: int, life: SessionLife) -> Session | None:
        with translated():
            row = await _sessions().find_one_and_update(
                {"_id": session_id, "user_id": user_id, **ALIVE},
                _rotation(generation, life),
                return_document=ReturnDocument.AFTER,
            )
        return None if row is None else to_model(Session, row)

    async def list(self, user_id: str) -> Sequence[Session]:
        with translated():
            rows = await _sessions().find({"user_id": user_id, **ALIVE}).sort("last_seen_at", DESCENDING).to_list()
        return [to_model(Session, row) for row in rows]

    async def end(self, session_id: str, user_id: str) -> bool:
        with translated():  # a tombstone stays: it recognises further replays
            gone = await _sessions().delete_one({"_id": session_id, "user_id": user_id, "state": "active"})
        return gone.deleted_count == 1

    async def end_all(self, user_id: str) -> Sequence[str]:
        async def work(transaction: AsyncClientSession) -> list[str]:
            await _update_user(user_id, {}, {"$inc": {"epoch": 1}}, transaction)
            return await _delete({"user_id": user_id}, transaction)

        return await in_transaction(_sessions(), work)

    async def change_password(self, user: User, new_hash: str, *, keep: str) -> Sequence[str] | None:
        async def work(transaction: AsyncClientSession) -> list[str] | None:
            change = {"$set": {"password_hash": new_hash}, "$inc": {"epoch": 1}}
            if not await _update_user(user.id, {"epoch": user.epoch}, change, transaction):
                return None
            return await _delete({"user_id": user.id, "_id": {"$ne": keep}}, transaction)

        return await in_transaction(_sessions(), work)


def _sessions() -> AsyncCollection[Row]:
    return SessionRecord.rows()


async def _update_user(user_id: str, where: Row, change: Row, transaction: AsyncClientSession) -> bool:
    users = UserRecord.rows()
    return (await users.update_one({"_id": user_id, **where}, change, session=transaction)).matched_count == 1


async def _delete(where: Row, transaction: AsyncClientSession) -> list[str]:
    ids = [row["_id"] for row in await _sessions().find(where, {"_id": 1}, session=transaction).to_list()]
    await _sessions().delete_many({"_id": {"$in": ids}}, session=transaction)
    return ids


def _first_generation(user_id: str, user_agent: str | None, life: SessionLife) -> list[Row]:
    return [
        {
            "$set": {
                "user_id": user_id, "state": "active", "gen": 1,
                "rotated_at": NOW, "created_at": NOW, "last_seen_at": NOW,
                "ends_at": later(min(life.idle_s, life.absolute_s)),
                "absolute_at": later(life.absolute_s),
                "user_agent": {"$literal": user_agent},
            }
        }
    ]  # fmt: skip


def _rotation(got: int, life: SessionLife) -> list[Row]:
    """One step that decides among: the current generation, its repeat within the grace, reuse, one never given out."""
    wins = {"$eq": ["$gen", got]}
    in_grace = {"$lt": [NOW, {"$add": ["$rotated_at", life.grace_s * 1000]}]}
    again = {"$and": [{"$eq": ["$gen", got + 1]}, in_grace]}
    reuse = {"$and": [{"$gt": ["$gen", got]}, {"$not": [again]}]}
    idle_end = later(life.idle_s)

    def if_wins(value: Any, field: str) -> Row:
        return {"$cond": [wins, value, field]}

    ends = [{"case": wins, "then": {"$min": [idle_end, "$absolute_at"]}}, {"case": reuse, "then": idle_end}]
    return [
        {
            "$set": {
                "gen": if_wins(got + 1, "$gen"),
                "rotated_at": if_wins(NOW, "$rotated_at"),
                "last_seen_at": if_wins(NOW, "$last_seen_at"),
                "state": {"$cond": [reuse, "revoked_reuse", "$state"]},
                "ends_at": {"$switch": {"branches": ends, "default": "$ends_at"}},
            }
        }
    ]
