"""What the users module needs from the world."""

from dataclasses import dataclass
from typing import Protocol

from app.users.domain.user import Session, User


@dataclass(frozen=True)
class SessionLife:
    """Seconds: idle and absolute life of a session, and how long an old refresh token still gets its successor."""

    idle_s: int
    absolute_s: int
    grace_s: int


class Users(Protocol):
    async def add(self, user: User) -> User:
        """The stored one, which another run of the same command may have made. Raises EmailTaken."""

    async def get(self, user_id: str) -> User:
        """Raises UserNotFound."""

    async def find_by_email(self, key: str) -> User | None: ...

    async def replace_hash(self, user_id: str, *, old: str, new: str) -> None:
        """Only where the stored hash is still `old`."""


class Sessions(Protocol):
    async def start(self, session_id: str, user_id: str, user_agent: str | None, life: SessionLife) -> None: ...

    async def is_alive(self, session_id: str, user_id: str) -> bool: ...

    async def rotate(self, session_id: str, user_id: str, generation: int, life: SessionLife) -> Session | None:
        """Compare-and-set on the generation. The session as it is afterwards; None where it is not alive.

        Exactly one of concurrent callers moves it on, the others get the same successor within the grace;
        an older generation ends the session.
        """


class PasswordHashing(Protocol):
    async def hash(self, password: str) -> str: ...

    async def verify(self, hashed: str | None, password: str) -> bool: ...

    def needs_rehash(self, hashed: str) -> bool: ...


class RefreshClaims(Protocol):
    """What a verified refresh token says."""

    @property
    def user_id(self) -> str: ...

    @property
    def session_id(self) -> str: ...

    @property
    def generation(self) -> int: ...


class Tokens(Protocol):
    @property
    def access_ttl(self) -> int: ...

    def verify_refresh(self, token: str) -> RefreshClaims:
        """Raises an Unauthenticated."""

    def mint_access(self, user_id: str, session_id: str) -> str: ...

    def mint_refresh(self, user_id: str, session_id: str, generation: int, ttl: int) -> str: ...
