"""A person with an account, and the sessions that person has."""

import unicodedata
from datetime import datetime
from typing import Literal

from pydantic import BaseModel


class User(BaseModel):
    """An account; `email_key` is what makes two spellings of an address one account.

    `epoch` counts the times when all its sessions ended: a login that started before one of them comes too late.
    """

    id: str
    email: str
    email_key: str
    name: str | None
    password_hash: str
    created_at: datetime
    epoch: int = 0
    last_login_at: datetime | None = None


class Session(BaseModel):
    """One sign-in; its access tokens count only while it is active and `ends_at` lies ahead."""

    id: str
    user_id: str
    state: Literal["active", "revoked_reuse"]
    gen: int
    rotated_at: datetime
    created_at: datetime
    last_seen_at: datetime
    ends_at: datetime
    absolute_at: datetime
    user_agent: str | None


def email_key(email: str) -> str:
    """One key for all spellings of an address that differ in case or character width."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", email).casefold())
