"""Every error a caller may see: a category says how it is treated, the class name is its code.

AppError
├── NotFound          the thing is not there, or belongs to somebody else (both look the same)
├── Conflict          it is there, but its state forbids this now
├── Malformed         the request cannot be read
├── Invalid           readable, but not acceptable
├── Unauthenticated   who is asking?
├── Forbidden         known, but not allowed
├── PreconditionFailed · PreconditionRequired   If-Match does not match, or is not there
├── TooLarge · TooLong · HeadersTooLarge · Unsupported · RangeUnsatisfiable · TimedOut · TooMany
├── UpstreamFailed    a service we depend on answers, but not usefully
└── Unavailable       something we depend on is away; a repeat may succeed
    └── Overloaded    a place of our own is full

Categories carry no HTTP number: `core/http/problems.py` maps them to one.
"""

import re
from typing import ClassVar

_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")


class AppError(Exception):
    """A fact that a caller is told; `code` is the class name in snake_case."""

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    retry_after: int | None = None  # seconds
    pointer: str | None = None
    rule: str | None = None  # what exactly, where the code does not say it

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or self.title
        super().__init__(self.detail)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "code" not in vars(cls):
            cls.code = _WORD_START.sub("_", cls.__name__).lower()
        if "title" not in vars(cls):
            cls.title = cls.code.replace("_", " ").capitalize()


class NotFound(AppError): ...


class MethodNotAllowed(AppError):
    def __init__(self, allowed: tuple[str, ...]) -> None:
        self.allowed = allowed
        super().__init__()


class Conflict(AppError): ...


class Malformed(AppError):
    code = "malformed_request"
    title = "The request cannot be read"


class CursorInvalid(Malformed):
    title = "The cursor does not belong to this list"


class Invalid(AppError):
    code = "validation_failed"
    title = "The request is not acceptable"

    def __init__(self, detail: str | None = None, *, pointer: str | None = None, rule: str | None = None) -> None:
        """`pointer`: JSON pointer of the offending value; `rule`: what it breaks."""
        self.pointer, self.rule = pointer, rule
        super().__init__(detail)


class Unauthenticated(AppError):
    challenge = 'Bearer realm="dossier"'  # WWW-Authenticate: how to do it right


class Forbidden(AppError): ...


class PreconditionFailed(AppError):
    title = "The resource has changed since it was read"


class PreconditionRequired(AppError):
    title = "Say in If-Match which version you have read"


class TooLarge(AppError):
    code = "body_too_large"
    title = "The body is larger than allowed"


class TooLong(AppError):
    code = "uri_too_long"


class HeadersTooLarge(AppError): ...


class Unsupported(AppError):
    code = "unsupported_media_type"


class RangeUnsatisfiable(AppError):
    code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__("No part of the requested range exists.")


class TimedOut(AppError):
    code = "request_timeout"
    title = "The request did not arrive in time"


class TooMany(AppError):
    code = "rate_limited"
    title = "Too many requests"

    def __init__(self, retry_after: int) -> None:
        """After so many seconds it would be granted."""
        super().__init__()
        self.retry_after = retry_after


class UpstreamFailed(AppError):
    title = "A service this one depends on gave no usable answer"


class Unavailable(AppError):
    code = "dependency_unavailable"
    title = "A service this one depends on cannot be reached"
    retry_after = 5
    is_refusal: ClassVar[bool] = False  # nothing was done; otherwise nobody knows how far it got


class Overloaded(Unavailable):
    title = "This service is busy"
    retry_after = 1
    is_refusal = True
