"""From an Authorization header to a principal."""

from collections.abc import Iterable

from app.users.application.own_sessions import OwnSessions
from core.http.principal import Principal
from core.security.tokens import AccessClaims, TokenCodec, TokenInvalid, TokenMissing, TokenRevoked


class BearerAuthentication:
    """What a token says, and whether its session still lives."""

    def __init__(self, codec: TokenCodec, sessions: OwnSessions) -> None:
        self._codec, self._sessions = codec, sessions

    def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal:
        claims = self.claims(headers)
        return Principal(claims.user_id, session_id=claims.session_id)

    async def confirm(self, principal: Principal) -> None:
        """Raises TokenRevoked."""
        if not await self._sessions.is_alive(principal.session_id, principal.id):
            raise TokenRevoked

    def claims(self, headers: Iterable[tuple[bytes, bytes]], *, expired_ok: bool = False) -> AccessClaims:
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) > 1:
            raise TokenInvalid
        scheme, _, token = (given[0] if given else b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            raise TokenMissing
        return self._codec.verify_access(token, expired_ok=expired_ok)
