"""From an Authorization header to a principal."""

from collections.abc import Iterable

from app.users.application.sign_in import SignIn
from core.http.principal import Principal
from core.security.tokens import TokenCodec, TokenInvalid, TokenMissing, TokenRevoked


class BearerAuthentication:
    """Verifies the token, then asks whether its session is still alive."""

    def __init__(self, codec: TokenCodec, sign_in: SignIn) -> None:
        self._codec, self._sign_in = codec, sign_in

    async def __call__(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal:
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) > 1:
            raise TokenInvalid
        scheme, _, token = (given[0] if given else b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            raise TokenMissing
        claims = self._codec.verify_access(token)
        if not await self._sign_in.is_signed_in(claims.session_id, claims.user_id):
            raise TokenRevoked
        return Principal(claims.user_id, claims.session_id)
