"""Registration, who somebody is, and another password."""

import unicodedata

import structlog

from app.users.domain.errors import CredentialsInvalid, RegistrationClosed
from app.users.domain.ports import PasswordHashing, SessionCache, Sessions, SignInLimits, Users
from app.users.domain.user import User, email_key
from core.clock import Clock
from core.errors import Invalid
from core.ids import id_for

log = structlog.get_logger("security")


class Accounts:
    def __init__(
        self,
        users: Users,
        sessions: Sessions,
        cache: SessionCache,
        passwords: PasswordHashing,
        clock: Clock,
        limits: SignInLimits,
        *,
        open_to_all: bool,
        password_min_length: int,
    ) -> None:
        self._users, self._sessions, self._cache = users, sessions, cache
        self._passwords, self._clock, self._limits = passwords, clock, limits
        self._open, self._min_length = open_to_all, password_min_length

    async def register(
        self, *, email: str, password: str, name: str | None, network: str, command_id: str | None = None
    ) -> User:
        """Raises RegistrationClosed, TooMany, EmailTaken, or Invalid for a password that will not do."""
        if not self._open:
            raise RegistrationClosed
        await self._check(password, "/password")
        await self._limits.admit_registration(network)
        user = User(
            id=id_for("usr", command_id),
            email=email,
            email_key=email_key(email),
            name=name,
            password_hash=await self._passwords.hash(password),
            created_at=self._clock(),
        )
        return await self._users.add(user)

    async def get(self, user_id: str) -> User:
        return await self._users.get(user_id)

    async def change_password(self, user_id: str, session_id: str, *, current: str, new: str, network: str) -> None:
        """Ends all other sessions. Raises TooMany, CredentialsInvalid, or Invalid for a password that will not do."""
        await self._check(new, "/new_password")
        user = await self._users.get(user_id)
        await self._limits.admit(user.email_key, network)  # or a stolen token could guess without end
        if not await self._passwords.verify(user.password_hash, current):
            log.warning("security", name="password_change_failed", principal=user_id)
            raise CredentialsInvalid
        ended = await self._sessions.change_password(user, await self._passwords.hash(new), keep=session_id)
        if ended is None:  # meanwhile it was changed elsewhere, or every session was ended
            raise CredentialsInvalid
        await self._cache.end(*ended)
        await self._limits.succeeded(user.email_key, network)
        log.info("security", name="password_changed", principal=user_id)

    async def _check(self, password: str, pointer: str) -> None:
        """Long enough, and not what everybody tries first; nothing about its composition."""
        if len(unicodedata.normalize("NFC", password)) < self._min_length:
            raise Invalid("The password is too short.", pointer=pointer, rule="string_too_short")
        if await self._passwords.is_common(password):
            raise Invalid("The password is one that many people use.", pointer=pointer, rule="password_too_common")
