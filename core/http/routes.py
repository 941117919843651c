"""The route classes of the API: each says who may call it."""

from collections.abc import Callable
from typing import Any, ClassVar

from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict

from core.config import Settings


class Body(BaseModel):
    """Base of request bodies: no unknown field, no silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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
