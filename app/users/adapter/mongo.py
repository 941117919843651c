"""Accounts and sessions in MongoDB. Every time that decides something is the database's (`$$NOW`)."""

from typing import Any, ClassVar

from pymongo import DESCENDING, IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from app.users.domain.errors import EmailTaken, UserNotFound
from app.users.domain.ports import SessionLife
from app.users.domain.user import Session, User
from core.idempotency import IdempotencyRecord
from core.mongo import Record, Row, translated


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
    """Sessions in the collection `sessions`."""

    async def start(self, session_id: str, user_id: str, user_agent: str | None, life: SessionLife) -> None:
        with translated():
            await SessionRecord.get_pymongo_collection().update_one(
                {"_id": session_id},
                [
                    {
                        "$set": {
                            "user_id": user_id, "state": "active", "gen": 1,
                            "rotated_at": "$$NOW", "created_at": "$$NOW", "last_seen_at": "$$NOW",
                            "ends_at": {"$add": ["$$NOW", min(life.idle_s, life.absolute_s) * 1000]},
                            "absolute_at": {"$add": ["$$NOW", life.absolute_s * 1000]},
                            "user_agent": {"$literal": user_agent},
                        }
                    }
                ],
                upsert=True,
            )  # fmt: skip

    async def is_alive(self, session_id: str, user_id: str) -> bool:
        with translated():
            row = await SessionRecord.get_pymongo_collection().find_one(_alive(session_id, user_id), {"_id": 1})
        return row is not None

    async def rotate(self, session_id: str, user_id: str, generation: int, life: SessionLife) -> Session | None:
        with translated():
            row = await SessionRecord.get_pymongo_collection().find_one_and_update(
                _alive(session_id, user_id), _rotation(generation, life), return_document=ReturnDocument.AFTER
            )
        return None if row is None else Session.model_validate({**row, "id": row["_id"]})


def _alive(session_id: str, user_id: str) -> Row:
    return {"_id": session_id, "user_id": user_id, "state": "active", "$expr": {"$gt": ["$ends_at", "$$NOW"]}}


def _rotation(got: int, life: SessionLife) -> list[Row]:
    """One step that decides among: the current generation, its repeat within the grace, reuse, one never given out."""
    wins = {"$eq": ["$gen", got]}
    in_grace = {"$lt": ["$$NOW", {"$add": ["$rotated_at", life.grace_s * 1000]}]}
    again = {"$and": [{"$eq": ["$gen", got + 1]}, in_grace]}
    reuse = {"$and": [{"$gt": ["$gen", got]}, {"$not": [again]}]}
    later = {"$add": ["$$NOW", life.idle_s * 1000]}

    def if_wins(value: Any, field: str) -> Row:
        return {"$cond": [wins, value, field]}

    ends = [{"case": wins, "then": {"$min": [later, "$absolute_at"]}}, {"case": reuse, "then": later}]
    return [
        {
            "$set": {
                "gen": if_wins(got + 1, "$gen"),
                "rotated_at": if_wins("$$NOW", "$rotated_at"),
                "last_seen_at": if_wins("$$NOW", "$last_seen_at"),
                "state": {"$cond": [reuse, "revoked_reuse", "$state"]},
                "ends_at": {"$switch": {"branches": ends, "default": "$ends_at"}},
            }
        }
    ]
