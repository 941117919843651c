"""In-memory twins of what remembers sessions; held to the real ones by tests/contracts."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from app.users.adapter.mongo import MAX_SESSIONS, UserRecord
from app.users.domain.ports import ENDED, SessionLife
from app.users.domain.user import Session, User
from core.clock import Clock


class SessionsTwin:
    """Users are wherever UserRecord is bound to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.rows: dict[str, Session] = {}

    async def start(
        self, session_id: str, user: User, user_agent: str | None, life: SessionLife
    ) -> Sequence[str] | None:
        now = self._clock()
        if not await self._update_user(user.id, {"epoch": user.epoch}, {"$set": {"last_login_at": now}}):
            return None
        evicted = [session.id for session in (await self.list(user.id))[MAX_SESSIONS - 1 :]]
        self._delete(evicted)
        self.rows[session_id] = Session(
            id=session_id, user_id=user.id, state="active", gen=1, rotated_at=now, created_at=now, last_seen_at=now,
            ends_at=now + timedelta(seconds=min(life.idle_s, life.absolute_s)),
            absolute_at=now + timedelta(seconds=life.absolute_s), user_agent=user_agent,
        )  # fmt: skip
        return evicted

    async def seconds_left(self, session_id: str, user_id: str) -> float | None:
        session, now = self._alive(session_id, user_id), self._clock()
        if session is None:
            return None
        if session.last_seen_at < now - timedelta(seconds=60):
            self.rows[session_id] = session.model_copy(update={"last_seen_at": now})
        return (session.ends_at - now).total_seconds()

    async def rotate(self, session_id: str, user_id: str, generation: int, life: SessionLife) -> Session | None:
        session, now = self._alive(session_id, user_id), self._clock()
        if session is None:
            return None
        later = now + timedelta(seconds=life.idle_s)
        in_grace = now < session.rotated_at + timedelta(seconds=life.grace_s)
        changes: dict[str, Any] = {}
        if session.gen == generation:
            ends_at = min(later, session.absolute_at)
            changes = {"gen": generation + 1, "rotated_at": now, "last_seen_at": now, "ends_at": ends_at}
        elif session.gen > generation and not (session.gen == generation + 1 and in_grace):
            changes = {"state": "revoked_reuse", "ends_at": later}
        self.rows[session_id] = session.model_copy(update=changes)
        return self.rows[session_id]

    async def list(self, user_id: str) -> Sequence[Session]:
        found = [session for session in self.rows.values() if self._alive(session.id, user_id)]
        return sorted(found, key=lambda session: session.last_seen_at, reverse=True)

    async def end(self, session_id: str, user_id: str) -> bool:
        session = self.rows.get(session_id)
        found = session is not None and session.user_id == user_id and session.state == "active"
        if found:
            self._delete([session_id])
        return found

    async def end_all(self, user_id: str) -> Sequence[str]:
        await self._update_user(user_id, {}, {"$inc": {"epoch": 1}})
        return self._delete([session.id for session in self.rows.values() if session.user_id == user_id])

    async def change_password(self, user: User, new_hash: str, *, keep: str) -> Sequence[str] | None:
        change = {"$set": {"password_hash": new_hash}, "$inc": {"epoch": 1}}
        if not await self._update_user(user.id, {"epoch": user.epoch}, change):
            return None
        return self._delete([each.id for each in self.rows.values() if each.user_id == user.id and each.id != keep])

    async def _update_user(self, user_id: str, where: dict[str, Any], change: dict[str, Any]) -> bool:
        users = UserRecord.get_pymongo_collection()
        return (await users.update_one({"_id": user_id, **where}, change)).matched_count == 1

    def _delete(self, ids: Sequence[str]) -> Sequence[str]:
        for session_id in ids:
            del self.rows[session_id]
        return ids

    def _alive(self, session_id: str, user_id: str) -> Session | None:
        session = self.rows.get(session_id)
        good = session and session.user_id == user_id and session.state == "active" and session.ends_at > self._clock()
        return session if good else None


class SessionCacheTwin:
    """Forgets nothing by itself."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    async def find(self, session_id: str) -> str | None:
        return self.entries.get(session_id)

    async def keep(self, session_id: str, user_id: str, seconds: float) -> None:
        self.entries.setdefault(session_id, user_id)

    async def end(self, *session_ids: str) -> None:
        self.entries.update(dict.fromkeys(session_ids, ENDED))
