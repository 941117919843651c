"""Calls that survive what a network does: repeated with the same key, signed in again when the token is old."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

TRIES, LONGEST_PAUSE_S = 8, 30.0
COME_AGAIN = {408, 425, 429, 500, 502, 503, 504}
TIMEOUT = httpx.Timeout(10, read=120, write=120)


class DossierError(Exception):
    """The server refused; `code` is that of its problem document."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        self.status, self.code, self.detail = status, code, detail
        super().__init__(f"{code}: {detail}")


class NotSignedIn(DossierError):
    """There is no session, or it is over."""

    def __init__(self) -> None:
        super().__init__(401, "not_signed_in", "Sign in first: dossier login")


@dataclass(frozen=True)
class Tokens:
    """What a session is; `save` is called with each new one."""

    server: str
    access_token: str
    refresh_token: str


class Connection:
    """One server, one session."""

    def __init__(
        self,
        server: str,
        tokens: Tokens | None = None,
        save: Callable[[Tokens], None] = lambda _: None,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server, self._tokens, self._save, self._sleep = server.rstrip("/"), tokens, save, sleep
        self.http = httpx.Client(timeout=TIMEOUT, transport=transport, follow_redirects=False)

    def sign_in(self, path: str, body: dict[str, str]) -> Tokens:
        answer = self.repeated(lambda: self.http.post(self.server + path, json=body))
        found = answer.json()
        self._tokens = Tokens(self.server, found["access_token"], found["refresh_token"])
        self._save(self._tokens)
        return self._tokens

    def call(self, method: str, path: str, *, key: str | None = None, **options: Any) -> Any:
        """The answer's JSON. A POST is repeated under one key, so it takes effect once. Raises DossierError."""
        key, send = key or uuid.uuid4().hex, options.pop("send", self.http.request)
        for is_last in (False, True):
            if self._tokens is None:
                raise NotSignedIn
            headers = {"Authorization": f"Bearer {self._tokens.access_token}"}
            if method == "POST":
                headers["Idempotency-Key"] = key
            try:
                answer = self.repeated(partial(send, method, self.server + path, headers=headers, **options))
            except DossierError as error:
                if is_last or error.code not in {"token_expired", "token_invalid", "token_revoked"}:
                    raise
                self._refresh()
                continue
            return answer.json() if answer.content else None
        raise NotSignedIn

    def repeated(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Sends until there is a definite answer, or patience ends. Raises DossierError."""
        failure: Exception = DossierError(0, "unreachable", "The server does not answer.")
        for attempt in range(TRIES):
            pause_s = min(LONGEST_PAUSE_S, 0.5 * 2**attempt)
            try:
                answer = send()
            except httpx.TransportError as error:
                failure = DossierError(0, "unreachable", str(error) or type(error).__name__)
            else:
                if answer.is_success:
                    return answer
                failure = _problem(answer)
                if answer.status_code not in COME_AGAIN and failure.code != "idempotency_in_progress":
                    raise failure
                pause_s = float(answer.headers.get("Retry-After", pause_s))
            if attempt < TRIES - 1:
                self._sleep(min(pause_s, LONGEST_PAUSE_S))
        raise failure

    def _refresh(self) -> None:
        assert self._tokens is not None, "a token was refused"
        try:
            self.sign_in("/auth/refresh", {"refresh_token": self._tokens.refresh_token})
        except DossierError as error:
            if error.status == 401:
                raise NotSignedIn from error
            raise


def _problem(answer: httpx.Response) -> DossierError:
    try:
        body = answer.json()
        return DossierError(answer.status_code, body["code"], body["detail"])
    except (ValueError, KeyError, TypeError):  # not ours: storage, or a proxy
        return DossierError(answer.status_code, f"http_{answer.status_code}", answer.reason_phrase)
