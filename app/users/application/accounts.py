"""Registration, and who somebody is."""

from app.users.domain.errors import RegistrationClosed
from app.users.domain.ports import PasswordHashing, Users
from app.users.domain.user import User, email_key
from core.clock import Clock
from core.ids import id_for


class Accounts:
    def __init__(self, users: Users, passwords: PasswordHashing, clock: Clock, *, open_to_all: bool) -> None:
        self._users, self._passwords, self._clock, self._open = users, passwords, clock, open_to_all

    async def register(self, *, email: str, password: str, name: str | None, command_id: str | None = None) -> User:
        """Raises RegistrationClosed or EmailTaken."""
        if not self._open:
            raise RegistrationClosed
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
