"""Who asks. The ingress has already verified it; endpoints only take it over."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request


@dataclass(frozen=True)
class Principal:
    """A signed-in person; `id` owns what it creates."""

    id: str
    session_id: str


async def current_principal(request: Request) -> Principal:
    principal: Principal = request.scope["state"]["principal"]
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
