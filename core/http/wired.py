"""What the container makes, as a dependency: `Service = Annotated[FolderService, wired("folders.service")]`."""

from operator import attrgetter
from typing import Any

from fastapi import Depends, Request


def wired(provider: str) -> Any:
    """`module.provider` of the container that the app runs with."""

    found = attrgetter(provider)

    async def made(request: Request) -> Any:
        return found(request.app.state.container)()

    return Depends(made)
