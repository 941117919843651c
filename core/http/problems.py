"""Errors as application/problem+json (RFC 9457), from one table: category → status."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from core import errors
from core.errors import AppError
from core.tracing import current_request_id

STATUS: Mapping[type[AppError], int] = {
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.Conflict: 409,
    errors.Malformed: 400,
    errors.Invalid: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.PreconditionFailed: 412,
    errors.PreconditionRequired: 428,
    errors.TooLarge: 413,
    errors.TooLong: 414,
    errors.HeadersTooLarge: 431,
    errors.Unsupported: 415,
    errors.RangeUnsatisfiable: 416,
    errors.TimedOut: 408,
    errors.TooMany: 429,
    errors.UpstreamFailed: 502,
    errors.Unavailable: 503,
}

# Our words for pydantic's findings: its own messages may quote what was sent.
MESSAGES = {
    "missing": "This field is required.",
    "extra_forbidden": "This field is not known.",
    "string_too_short": "The text is too short.",
    "string_too_long": "The text is too long.",
    "string_pattern_mismatch": "The text does not have the expected form.",
    "literal_error": "The value is not one of those allowed.",
    "enum": "The value is not one of those allowed.",
    "too_long": "There are too many items.",
    "greater_than_equal": "The number is too small.",
    "less_than_equal": "The number is too large.",
}
PROBLEM_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
MAX_ERRORS = 50
_SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class FieldProblem(BaseModel):
    """One reason for a 422 or a `processing_failed`."""

    pointer: str = Field(description="JSON pointer of the offending value", examples=["/email"])
    code: str = Field(examples=["missing"])
    message: str


class Problem(BaseModel):
    """The body of every error."""

    type: str = Field(examples=["about:blank"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable, for programs", examples=["not_found"])
    request_id: str
    errors: list[FieldProblem] | None = Field(default=None, description="What was wrong, and where")


def problem_response(error: BaseException) -> Response:
    """The answer to any exception; what is not an AppError is an `internal_error` without details."""
    if isinstance(error, RequestValidationError):
        return _render(422, "validation_failed", errors.Invalid.title, errors=_field_problems(error.errors()))
    if isinstance(error, HTTPException):
        return problem_response(_from_starlette(error))
    if not isinstance(error, AppError):
        return _render(500, "internal_error", "Internal error", "The request failed; its id leads to the cause.")
    fields = None
    if isinstance(error, errors.Invalid) or error.rule is not None:
        fields = [FieldProblem(pointer=error.pointer or "", code=error.rule or error.code, message=error.detail)]
    return _render(status_of(error), error.code, error.title, error.detail, fields, _headers(error))


def status_of(error: AppError) -> int:
    return next(STATUS[category] for category in type(error).__mro__ if category in STATUS)


def responses(*raised: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: the problems it answers with, so that OpenAPI tells the truth."""
    by_status: dict[int, list[str]] = {}
    for error in raised:
        category = next(parent for parent in error.__mro__ if parent in STATUS)
        by_status.setdefault(STATUS[category], []).append(f"`{error.code}`")
    return {
        status: {"description": ", ".join(codes), "content": PROBLEM_CONTENT} for status, codes in by_status.items()
    }


def _render(
    status: int,
    code: str,
    title: str,
    detail: str | None = None,
    errors: Sequence[FieldProblem] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body: dict[str, Any] = {
        "type": "about:blank", "title": title, "status": status, "detail": detail or title,
        "code": code, "request_id": current_request_id(),
    }  # fmt: skip
    if errors is not None:
        body["errors"] = [problem.model_dump() for problem in errors]
    return Response(orjson.dumps(body), status, headers, media_type="application/problem+json")


def _headers(error: AppError) -> dict[str, str]:
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, errors.MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, errors.RangeUnsatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = error.challenge
    return headers


def _from_starlette(error: HTTPException) -> AppError:
    if error.status_code == 404:
        return errors.NotFound()
    if error.status_code == 405:
        return errors.MethodNotAllowed(tuple((error.headers or {}).get("Allow", "").split(", ")))
    return errors.Malformed()


def _field_problems(found: Sequence[Any]) -> list[FieldProblem]:
    return [
        FieldProblem(
            pointer=_pointer(problem["loc"], problem["type"]),
            code=problem["type"],
            message=MESSAGES.get(problem["type"], "The value is not acceptable."),
        )
        for problem in found[:MAX_ERRORS]
    ]


def _pointer(location: tuple[str | int, ...], kind: str) -> str:
    """`("body", "a", 0)` → `/a/0`; a name that is itself submitted text appears only when it is harmless."""
    parts = [str(part) for part in location[1:]]
    if kind == "extra_forbidden" and parts and not _SAFE_NAME.fullmatch(parts[-1]):
        parts.pop()
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in parts)
