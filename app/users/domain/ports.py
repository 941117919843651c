"""What the users module needs from the world."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

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
    async def start(
        self, session_id: str, user: User, user_agent: str | None, life: SessionLife
    ) -> Sequence[str] | None:
        """Ids of the sessions that made room for it; None, and no session, where the epoch is no longer the user's."""

    async def seconds_left(self, session_id: str, user_id: str) -> float | None:
        """How long it lives unless it is used again; None where it is not alive. Once a minute this counts as seen."""

    async def rotate(self, session_id: str, user_id: str, generation: int, life: SessionLife) -> Session | None:
        """Compare-and-set on the generation. The session as it is afterwards; None where it is not alive.

        Exactly one of concurrent callers moves it on, the others get the same successor within the grace;
        an older generation ends the session.
        """

    async def list(self, user_id: str) -> Sequence[Session]:
        """Those alive, last used first."""

    async def end(self, session_id: str, user_id: str) -> bool:
        """False where there is none."""

    async def end_all(self, user_id: str) -> Sequence[str]:
        """Their ids. A login or refresh at the same time does not survive it."""

    async def change_password(self, user: User, new_hash: str, *, keep: str) -> Sequence[str] | None:
        """Ends all sessions but one in the same step; their ids, or None where the epoch is no longer the user's."""


class SessionCache(Protocol):
    """Remembers for a minute which sessions are alive and which have ended; never raises, and may forget anything."""

    async def find(self, session_id: str) -> str | None:
        """The user's id, `ENDED`, or None."""

    async def keep(self, session_id: str, user_id: str, seconds: float) -> None:
        """Never where something is known already: it may be the end of the session."""

    async def end(self, *session_ids: str) -> None: ...


ENDED: Literal["ended"] = "ended"


class PasswordHashing(Protocol):
    async def hash(self, password: str) -> str: ...

    async def verify(self, hashed: str | None, password: str) -> bool: ...

    def needs_rehash(self, hashed: str) -> bool: ...

    async def is_common(self, password: str) -> bool:
        """Whether everybody would try it."""


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


class SignInLimits(Protocol):
    """How often somebody may try. `account` is an e-mail key, known or not; `network` is where they come from."""

    async def admit(self, account: str, network: str) -> None:
        """Raises TooMany."""

    async def succeeded(self, account: str, network: str) -> None: ...

    async def admit_registration(self, network: str) -> None:
        """Raises TooMany."""
