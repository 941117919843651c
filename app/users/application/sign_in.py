"""Signing in, and staying signed in: access tokens live minutes, the session decides."""

import math
from dataclasses import dataclass

import structlog

from app.users.domain.errors import CredentialsInvalid, RefreshInvalid
from app.users.domain.ports import PasswordHashing, SessionCache, SessionLife, Sessions, SignInLimits, Tokens, Users
from app.users.domain.user import email_key
from core.clock import Clock
from core.errors import Unauthenticated
from core.ids import new_id

log = structlog.get_logger("security")


@dataclass(frozen=True)
class IssuedTokens:
    """A pair of tokens; lives in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    refresh_expires_in: int


class SignIn:
    def __init__(
        self,
        users: Users,
        sessions: Sessions,
        cache: SessionCache,
        passwords: PasswordHashing,
        tokens: Tokens,
        clock: Clock,
        life: SessionLife,
        limits: SignInLimits,
    ) -> None:
        self._users, self._sessions, self._cache, self._passwords = users, sessions, cache, passwords
        self._tokens, self._clock, self._life, self._limits = tokens, clock, life, limits

    async def login(self, *, email: str, password: str, user_agent: str | None, network: str) -> IssuedTokens:
        """Raises TooMany; or CredentialsInvalid, after the same time for known and unknown accounts."""
        key = email_key(email)
        await self._limits.admit(key, network)
        for _ in range(2):  # once more where the password changed, or all sessions ended, while we were hashing
            issued = await self._login(key, password, user_agent)
            if issued:
                await self._limits.succeeded(key, network)
                return issued
        raise CredentialsInvalid

    async def _login(self, key: str, password: str, user_agent: str | None) -> IssuedTokens | None:
        user = await self._users.find_by_email(key)
        good = await self._passwords.verify(user.password_hash if user else None, password)
        if user is None or not good:
            log.warning("security", name="login_failed")
            raise CredentialsInvalid
        if self._passwords.needs_rehash(user.password_hash):
            renewed = await self._passwords.hash(password)
            await self._users.replace_hash(user.id, old=user.password_hash, new=renewed)
        session_id = new_id("ses")
        evicted = await self._sessions.start(session_id, user, user_agent, self._life)
        if evicted is None:
            return None
        await self._cache.end(*evicted)
        log.info("security", name="login", principal=user.id)
        return self._issue(user.id, session_id, 1, min(self._life.idle_s, self._life.absolute_s))

    async def refresh(self, refresh_token: str) -> IssuedTokens:
        """The successor pair. Raises RefreshInvalid, whatever the reason."""
        try:
            claims = self._tokens.verify_refresh(refresh_token)
        except Unauthenticated as cause:
            raise RefreshInvalid from cause
        session = await self._sessions.rotate(claims.session_id, claims.user_id, claims.generation, self._life)
        if session is None:
            raise RefreshInvalid
        if session.state == "revoked_reuse":
            await self._cache.end(session.id)
            log.warning("security", name="refresh_reuse", principal=claims.user_id)
            raise RefreshInvalid
        if session.gen != claims.generation + 1:  # a generation we never gave out: restored from a backup
            raise RefreshInvalid
        left = math.floor((session.ends_at - self._clock()).total_seconds())
        return self._issue(session.user_id, session.id, session.gen, max(left, 1))

    def _issue(self, user_id: str, session_id: str, generation: int, refresh_ttl: int) -> IssuedTokens:
        return IssuedTokens(
            access_token=self._tokens.mint_access(user_id, session_id),
            refresh_token=self._tokens.mint_refresh(user_id, session_id, generation, refresh_ttl),
            expires_in=self._tokens.access_ttl,
            refresh_expires_in=refresh_ttl,
        )
