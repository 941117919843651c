"""Endpoints: where somebody is signed in, and the end of that."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from app.users.adapter.schemas import SessionRead
from app.users.application.own_sessions import OwnSessions
from app.users.domain.errors import SessionNotFound
from app.users.domain.user import Session
from core.errors import CursorInvalid, Invalid, Unauthenticated
from core.http.pagination import CurrentCursors, CursorText, Limit, ListRead, list_page, position_of
from core.http.principal import CurrentPrincipal
from core.http.problems import responses
from core.http.routes import PeopleRoute, PublicRoute
from core.http.wired import wired

people = APIRouter(prefix="/auth", tags=["auth"], route_class=PeopleRoute)
leaving = APIRouter(prefix="/auth", tags=["auth"], route_class=PublicRoute)


Sessions = Annotated[OwnSessions, wired("users.own_sessions")]


# Public for the ingress, which lets no ended session through. A token it needs all the same, as OpenAPI says.
@leaving.post(
    "/logout", status_code=204, responses=responses(Unauthenticated), openapi_extra={"security": [{"bearer": []}]}
)
async def logout(request: Request, sessions: Sessions) -> None:
    """End this session. A token that has expired, or whose session has ended, will do: the answer is the same."""
    authentication = request.app.state.container.users.authenticate()
    claims = authentication.claims(request.scope["headers"], expired_ok=True)
    await sessions.leave(claims.session_id, claims.user_id)


@people.post("/logout-all", status_code=204, responses=responses(Unauthenticated))
async def logout_all(principal: CurrentPrincipal, sessions: Sessions) -> None:
    """End every session of yours, this one included."""
    await sessions.end_all(principal.id)


@people.get(
    "/sessions", response_model=ListRead[SessionRead], responses=responses(Unauthenticated, CursorInvalid, Invalid)
)
async def list_sessions(
    request: Request, response: Response, principal: CurrentPrincipal, sessions: Sessions, cursors: CurrentCursors,
    limit: Limit = 50, cursor: CursorText = None,
) -> ListRead[SessionRead]:  # fmt: skip
    """Where you are signed in, newest first; ten at most."""

    def read(session: Session) -> SessionRead:
        return SessionRead(
            session_id=session.id,
            created_at=session.created_at,
            last_seen_at=session.last_seen_at,
            user_agent=session.user_agent,
            current=session.id == principal.session_id,
        )

    page = await sessions.list(principal.id, position_of(request, cursors, cursor, {}), limit)
    return list_page(request, response, cursors, page, read, {}, limit)


@people.delete("/sessions/{session_id}", status_code=204, responses=responses(Unauthenticated, SessionNotFound))
async def end_session(session_id: str, principal: CurrentPrincipal, sessions: Sessions) -> None:
    """End one of your sessions."""
    await sessions.end(session_id, principal.id)
