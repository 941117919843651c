"""The route classes of the API: each says who may call it, and reads JSON strictly."""

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict

from core.config import Settings
from core.errors import Unsupported
from core.strict_json import read_json


class Body(BaseModel):
    """Base of request bodies: no unknown field, no silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StrictRequest(Request):
    """Reads a JSON body once, by our rules."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = read_json(await self.body())
        return self._json


class StrictRoute(APIRoute):
    """A route with its credentials (none = public, any one of several), and a body limit if it has its own."""

    credentials: ClassVar[tuple[str, ...]]
    takes_files: ClassVar[bool] = False  # bodies that take their time: only their slowest rate is limited

    @classmethod
    def body_limit(cls, settings: Settings) -> int | None:
        """Bytes; None for what is usual for the method."""
        return None

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        security: list[dict[str, list[str]]] = [{credential: []} for credential in self.credentials]
        options["openapi_extra"] = {"security": security, **(options.get("openapi_extra") or {})}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        reads_json = self.body_field is not None

        async def strict(request: Request) -> Response:
            strict_request = StrictRequest(request.scope, request.receive)
            if reads_json:
                raw = await strict_request.body()
                if raw:
                    _demand_json(strict_request)
                    await strict_request.json()  # here: FastAPI turns every error of its own reading into a 400
            return await handle(strict_request)

        return strict


class PublicRoute(StrictRoute):
    """Anyone may call it."""

    credentials = ()


class PeopleRoute(StrictRoute):
    """A signed-in person; the principal is in `request.state.principal`."""

    credentials = ("bearer",)


class ApiKeyRoute(StrictRoute):
    """Another service, by `X-API-Key`."""

    credentials = ("api_key",)


class PrivateTokenRoute(StrictRoute):
    """A host application or a scan service, by `Private-Token`."""

    credentials = ("private_token",)


class PeopleOrServicesRoute(StrictRoute):
    """A signed-in person, or another service by `X-API-Key`."""

    credentials = ("bearer", "api_key")


def _demand_json(request: Request) -> None:
    media_type, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    charset = parameters.strip().removeprefix("charset=").strip('"')
    if media_type.strip() != "application/json" or charset not in {"", "utf-8"}:
        raise Unsupported("The body must be application/json in UTF-8.")
