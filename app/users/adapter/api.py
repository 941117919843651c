"""Endpoints: register, sign in, refresh, me, another password."""

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from app.users.adapter.schemas import (
    Login,
    LoginForm,
    PasswordChange,
    Refresh,
    Registration,
    TokensRead,
    UserRead,
)
from app.users.application.accounts import Accounts
from app.users.application.sign_in import IssuedTokens, SignIn
from app.users.domain.errors import CredentialsInvalid, EmailTaken, RefreshInvalid, RegistrationClosed
from app.users.domain.user import User
from core.config import Settings
from core.errors import Invalid, Malformed, TooMany, Unauthenticated, Unsupported
from core.http.conditional import answer_with_etag, etag_of
from core.http.idempotency import REFUSALS, Once, once_in
from core.http.principal import CurrentPrincipal
from core.http.problems import responses
from core.http.routes import PeopleRoute, PublicRoute, StrictRoute
from core.http.wired import wired
from core.strict_json import read_json

T = TypeVar("T", bound=BaseModel)

AUTH_BODY_BYTES = 32_768


class SmallBodies(StrictRoute):
    """Whoever it is, there is little to say."""

    @classmethod
    def body_limit(cls, settings: Settings) -> int:
        return AUTH_BODY_BYTES


class AuthRoute(SmallBodies, PublicRoute):
    """Public."""


class AccountRoute(SmallBodies, PeopleRoute):
    """For a signed-in person."""


public = APIRouter(prefix="/auth", tags=["auth"], route_class=AuthRoute)
people = APIRouter(prefix="/users", tags=["users"], route_class=AccountRoute)


CurrentAccounts = Annotated[Accounts, wired("users.accounts")]
CurrentSignIn = Annotated[SignIn, wired("users.sign_in")]


@public.post(
    "/register", status_code=201, response_model=UserRead,
    responses=responses(EmailTaken, RegistrationClosed, TooMany, Invalid, Malformed, *REFUSALS),
)  # fmt: skip
async def register(
    request: Request,
    body: Registration,
    accounts: CurrentAccounts,
    once: Annotated[Once, once_in("users")],
) -> UserRead | Response:
    """Create an account. Addresses that differ only in case or character width are one account.

    A password has no rules but two: long enough, and none of those that many people use.
    """

    async def create(command_id: str | None) -> UserRead:
        account = await accounts.register(
            email=body.email,
            password=body.password,
            name=body.name,
            network=request.scope["state"]["network"],
            command_id=command_id,
        )
        return _read(account)

    return await once(body, create)


_LOGIN_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": Login.model_json_schema()},
            "application/x-www-form-urlencoded": {"schema": LoginForm.model_json_schema()},
        },
    }
}


@public.post(
    "/login", response_model=TokensRead, openapi_extra=_LOGIN_BODY,
    responses=responses(CredentialsInvalid, TooMany, Invalid, Malformed, Unsupported),
)  # fmt: skip
async def login(request: Request, sign_in: CurrentSignIn) -> TokensRead:
    """Sign in with JSON `{email, password}` or, as Swagger's Authorize does, a form `username=&password=`."""
    body = await _credentials(request)
    issued = await sign_in.login(
        email=body.email,
        password=body.password,
        user_agent=(request.headers.get("user-agent") or "")[:200] or None,
        network=request.scope["state"]["network"],
    )
    return _tokens(issued)


@public.post("/refresh", response_model=TokensRead, responses=responses(RefreshInvalid, Invalid, Malformed))
async def refresh(body: Refresh, sign_in: CurrentSignIn) -> TokensRead:
    """Exchange a refresh token for a new pair. A refresh token works once; using an old one ends the session."""
    return _tokens(await sign_in.refresh(body.refresh_token))


@people.get("/me", response_model=UserRead, responses=responses(Unauthenticated))
async def me(
    request: Request,
    response: Response,
    principal: CurrentPrincipal,
    accounts: CurrentAccounts,
) -> Any:
    """Who you are."""
    body = _read(await accounts.get(principal.id))
    return answer_with_etag(request, response, etag_of(body), body)


@people.post(
    "/me/password",
    status_code=204,
    responses=responses(CredentialsInvalid, Unauthenticated, TooMany, Invalid, Malformed),
)
async def change_password(
    request: Request,
    body: PasswordChange,
    principal: CurrentPrincipal,
    accounts: CurrentAccounts,
) -> None:
    """Change your password. Every other session of yours ends; this one goes on."""
    await accounts.change_password(
        principal.id,
        principal.session_id,
        current=body.current_password,
        new=body.new_password,
        network=request.scope["state"]["network"],
    )


async def _credentials(request: Request) -> Login:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/x-www-form-urlencoded":
        form = await request.form(max_fields=10)
        fields = {name: str(form[name]) for name in ("username", "password") if name in form}
        sent = _validated(LoginForm, fields)
        return Login(email=sent.username, password=sent.password)
    if media_type != "application/json":
        raise Unsupported("Send application/json or application/x-www-form-urlencoded.")
    return _validated(Login, read_json(await request.body()))


def _validated(model: type[T], value: object) -> T:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors()]) from None


def _read(user: User) -> UserRead:
    return UserRead(user_id=user.id, email=user.email, name=user.name, created_at=user.created_at)


def _tokens(issued: IssuedTokens) -> TokensRead:
    return TokensRead(
        access_token=issued.access_token,
        refresh_token=issued.refresh_token,
        expires_in=issued.expires_in,
        refresh_expires_in=issued.refresh_expires_in,
    )
