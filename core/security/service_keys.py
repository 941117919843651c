"""Keys of other services: `X-API-Key` and `Private-Token`. Only digests are kept."""

import hmac
from collections.abc import Iterable
from hashlib import sha256

from core import metrics
from core.errors import Unauthenticated
from core.http.principal import Principal

Headers = Iterable[tuple[bytes, bytes]]
MAX_BYTES = 512


class KeyRefused(Unauthenticated):
    """A service did not say who it is; `header` is where it should have."""

    def __init__(self, header: str) -> None:
        self.challenge = f'{header} realm="dossier"'
        super().__init__()


class ApiKeyMissing(KeyRefused):
    title = "This call needs a key"


class ApiKeyInvalid(KeyRefused):
    title = "The key is not known here"


class ServiceKeys:
    """The keys that one header may carry. The caller is the service, not its key: rotation orphans nothing."""

    def __init__(self, header: str, keys: Iterable[str], service: str, *, alone: bool = False) -> None:
        """`alone`: refused beside an Authorization header."""
        self.header, self._name, self._alone = header, header.lower().encode(), alone
        self._digests = [sha256(key.encode()).digest() for key in keys]
        self._principal = Principal(f"service:{service}", "service")

    def __call__(self, headers: Headers) -> Principal:
        """Raises ApiKeyMissing or ApiKeyInvalid."""
        headers = list(headers)
        given = [value for name, value in headers if name == self._name]
        if not given:
            raise ApiKeyMissing(self.header)
        if len(given) > 1 or len(given[0]) > MAX_BYTES or (self._alone and _has_authorization(headers)):
            raise ApiKeyInvalid(self.header)
        digest, known = sha256(given[0]).digest(), False
        for each in self._digests:  # all of them, no early exit
            known |= hmac.compare_digest(digest, each)
        if not known:
            raise ApiKeyInvalid(self.header)
        metrics.service_key_requests.labels(key_id(given[0])).inc()
        return self._principal


def key_id(key: bytes) -> str:
    """What a key is called where it must not be shown: too little of its digest to guess it from."""
    return sha256(key).hexdigest()[:8]


def _has_authorization(headers: Headers) -> bool:
    return any(name == b"authorization" for name, _ in headers)
