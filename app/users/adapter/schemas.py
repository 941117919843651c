"""JSON of accounts and tokens."""

from datetime import datetime
from typing import Annotated, Literal

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from core.http.routes import Body


def _email(value: str) -> str:
    try:
        return validate_email(value.strip(), check_deliverability=False).normalized
    except EmailNotValidError:
        raise PydanticCustomError("email", "not an e-mail address") from None


Email = Annotated[str, Field(max_length=254, examples=["ada@example.com"]), AfterValidator(_email)]


class Registration(Body):
    email: Email
    password: str = Field(min_length=1, max_length=1024, description="At least PASSWORD_MIN_LENGTH characters")
    name: str | None = Field(default=None, min_length=1, max_length=200)


class Login(Body):
    email: str = Field(min_length=1, max_length=254)
    password: str = Field(min_length=1, max_length=1024)


class LoginForm(Body):
    """The form that Swagger's Authorize button sends."""

    username: str = Field(min_length=1, max_length=254)
    password: str = Field(min_length=1, max_length=1024)


class Refresh(Body):
    refresh_token: str = Field(min_length=1, max_length=4096)


class PasswordChange(Body):
    current_password: str = Field(min_length=1, max_length=1024)
    new_password: str = Field(min_length=1, max_length=1024, description="At least PASSWORD_MIN_LENGTH characters")


class UserRead(BaseModel):
    user_id: str = Field(examples=["usr_01kd4v8w3zj5n9q2r7t6x1y0ab"])
    email: str
    name: str | None
    created_at: datetime


class SessionRead(BaseModel):
    session_id: str = Field(examples=["ses_01kd4v8w3zj5n9q2r7t6x1y0ab"])
    created_at: datetime
    last_seen_at: datetime = Field(description="To the minute")
    user_agent: str | None
    current: bool = Field(description="Whether this request belongs to it")


class TokensRead(BaseModel):
    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 – a name, no secret
    expires_in: int = Field(description="Life of the access token, seconds")
    refresh_expires_in: int = Field(description="Life of the refresh token, seconds")
