"""Who asks. The ingress has already verified it; endpoints only take it over."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Request


@dataclass(frozen=True)
class Principal:
    """A signed-in person or another service; `id` owns what it creates."""

    id: str
    kind: Literal["person", "service"] = "person"
    session_id: str = ""  # of a person


async def current_principal(request: Request) -> Principal:
    principal: Principal = request.scope["state"]["principal"]
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
