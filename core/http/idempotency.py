"""`Idempotency-Key`: a request that is sent again gets the first answer again, never a second effect.

An endpoint says what makes two requests the same and what there is to do: `return await once(body, create)`. The second
is given the id of the command (None without the header), and names after it what it creates (`core.ids.id_for`).
"""

import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from core.errors import AppError, Conflict, Invalid, Malformed, Unavailable
from core.idempotency import LEASE_S, Answer, IdempotencyKeys
from core.ids import new_id
from core.renewing import renewed
from core.security.secret_box import SecretBox

M = TypeVar("M", bound=BaseModel)

NAME = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

_HEADER = Header(
    alias=NAME,
    min_length=1,
    max_length=255,
    pattern=r"^[\x21-\x7e]*$",
    description="Up to 255 visible ASCII characters of your own, such as a UUID. The same request with the same key "
    f"within 24 hours gets the first answer again, with `{REPLAYED}: true`.",
)


class IdempotencyMismatch(Invalid):
    title = "This key was used for another request"


class IdempotencyInProgress(Conflict):
    title = "The first request with this key is still being worked on"
    retry_after = 1


REFUSALS = (IdempotencyMismatch, IdempotencyInProgress)  # for `responses(...)` of a route


class Idempotency:
    """What all requests of a module share: where keys lie, and the secrets of what is kept (the first writes)."""

    def __init__(self, keys: IdempotencyKeys, secrets: Sequence[bytes], *, renew_every_s: float = LEASE_S / 3) -> None:
        self.keys, self._secrets, self.renew_every_s = keys, tuple(secrets), renew_every_s
        self._box = SecretBox([hmac.digest(secret, b"answers", "sha256") for secret in secrets])

    def fingerprints(self, parts: object) -> list[str]:
        """Under every secret. An HMAC: the hash of a body with a password in it would invite guessing."""
        message = json.dumps(parts, sort_keys=True).encode()
        return [hmac.digest(secret, message, "sha256").hex() for secret in self._secrets]

    def sealed(self, answer: Answer, key: str) -> Answer:
        """As it is kept: an answer may hold a secret that is shown once, or a link that works for anybody."""
        return answer.model_copy(update={"body": self._box.seal(answer.body.encode(), key)})

    def opened(self, answer: Answer, key: str) -> Answer:
        return answer.model_copy(update={"body": self._box.open(answer.body, key).decode()})


class Once:
    """One request, with its key if it has one."""

    def __init__(
        self, request: Request, response: Response, key: str | None, shared: Callable[[], Idempotency]
    ) -> None:
        self._request, self._response, self.key, self._shared = request, response, key, shared

    async def __call__(self, content: object, act: Callable[[str | None], Awaitable[M]]) -> M | Response:
        """Acts and answers, or answers as the first time. Raises IdempotencyMismatch or IdempotencyInProgress."""
        if self.key is None:
            return await act(None)
        shared, method, state = self._shared(), self._request.method, self._request.scope["state"]
        principal = getattr(state.get("principal"), "id", None)  # a public route: all who call it share their keys
        row = sha256(json.dumps([principal, method, state["route"], self.key]).encode()).hexdigest()
        content = content.model_dump() if isinstance(content, BaseModel) else content
        hashes = shared.fingerprints([method, state["path"], content])
        me = new_id("cmd")

        claim = await shared.keys.claim(row, hashes, me)
        if claim.body_hash not in hashes:
            raise IdempotencyMismatch(pointer=f"/{NAME}")
        if claim.response is not None:
            return _rendered(shared.opened(claim.response, row), replayed=True)
        if claim.holder != me:
            raise IdempotencyInProgress
        try:
            async with renewed(shared.renew_every_s, lambda: shared.keys.renew(row, me)):
                body = await act(claim.command_id)
        except Exception as error:
            first = claim.command_id == me
            with suppress(Unavailable):  # the lease ends by itself
                await (shared.keys.forget if first and _without_effect(error) else shared.keys.release)(row, me)
            raise
        answer = self._answer(body)
        with suppress(Unavailable):  # it is done all the same; a repeat will find what is there
            await shared.keys.finish(row, claim.command_id, shared.sealed(answer, row))
        return _rendered(answer)

    def _answer(self, body: BaseModel) -> Answer:
        status = self._response.status_code or self._request.scope["route"].status_code or 200
        return Answer(status=status, headers=dict(self._response.headers), body=body.model_dump_json())


def once_in(module: str) -> Any:
    """The dependency of a module's endpoints: `once: Annotated[Once, once_in("folders")]`."""

    async def once(request: Request, response: Response, key: Annotated[str | None, _HEADER] = None) -> Once:
        if key is not None and len(request.headers.getlist(NAME)) > 1:
            raise Malformed(f"{NAME} may stand once.")
        return Once(request, response, key, getattr(request.app.state.container, module).idempotency)

    return Depends(once)


def _without_effect(error: Exception) -> bool:
    """A refusal. After anything else nobody knows how far it got."""
    return error.is_refusal if isinstance(error, Unavailable) else isinstance(error, AppError)


def _rendered(answer: Answer, *, replayed: bool = False) -> Response:
    headers = answer.headers | ({REPLAYED: "true"} if replayed else {})
    return Response(answer.body, answer.status, headers, media_type="application/json")
