"""A person's sessions after the login: asked for at every request, listed, ended."""

import time
from collections.abc import Callable

import structlog

from app.users.domain.errors import SessionNotFound
from app.users.domain.ports import ENDED, SessionCache, Sessions
from app.users.domain.user import Session
from core.paging import Page, Position

log = structlog.get_logger("security")

# The end of a session stays in the cache for 60 s. What was read longer ago than this might come after that.
FILL_S = 20


class OwnSessions:
    """Every end goes to the database first and to the cache then: what the cache forgets, the database knows."""

    def __init__(
        self, sessions: Sessions, cache: SessionCache, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._sessions, self._cache, self._monotonic = sessions, cache, monotonic

    async def is_alive(self, session_id: str, user_id: str) -> bool:
        known = await self._cache.find(session_id)
        if known in {user_id, ENDED}:
            return known == user_id
        asked = self._monotonic()
        left = await self._sessions.seconds_left(session_id, user_id)
        if left is None:
            return False
        if self._monotonic() - asked < FILL_S:
            await self._cache.keep(session_id, user_id, left)
        return True

    async def list(self, user_id: str, after: Position | None, limit: int) -> Page[Session]:
        """There are ten at most, so pages are cut here."""
        places = {Position(each.created_at, each.id): each for each in await self._sessions.list(user_id)}
        left = sorted((place for place in places if after is None or place < after), reverse=True)
        return Page([places[place] for place in left[:limit]], left[limit - 1] if len(left) > limit else None)

    async def leave(self, session_id: str, user_id: str) -> None:
        """Ends a session, or makes sure that it has ended."""
        await self._sessions.end(session_id, user_id)
        await self._cache.end(session_id)
        log.info("security", name="logout", principal=user_id)

    async def end(self, session_id: str, user_id: str) -> None:
        """Raises SessionNotFound."""
        if not await self._sessions.end(session_id, user_id):
            raise SessionNotFound
        await self._cache.end(session_id)
        log.info("security", name="session_ended", principal=user_id)

    async def end_all(self, user_id: str) -> None:
        await self._cache.end(*await self._sessions.end_all(user_id))
        log.info("security", name="logout_all", principal=user_id)
