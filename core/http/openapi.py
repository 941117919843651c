"""FastAPI as we use it: it describes the API, with our ways to sign in and our form of every error."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp, Receive, Scope, Send

from core.http.problems import PROBLEM_CONTENT, Problem

SECURITY_SCHEMES = {
    "bearer": {"type": "oauth2", "flows": {"password": {"tokenUrl": "/auth/login", "scopes": {}}}},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "private_token": {"type": "apiKey", "in": "header", "name": "Private-Token"},
}
ANY_OTHER = {"description": "Any other problem: `code` says which", "content": PROBLEM_CONTENT}


class Api(FastAPI):
    """FastAPI that tells the truth about errors, and leaves requests to our middleware."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Ours alone: it answers every error, limits every body and traces every request."""
        stack: ASGIApp = self.router
        for cls, args, kwargs in reversed(self.user_middleware):
            stack = cls(stack, *args, **kwargs)
        return stack

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schema = get_openapi(title=self.title, version=self.version, summary=self.summary, routes=self.routes)
            components = schema.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            for theirs in ("HTTPValidationError", "ValidationError"):
                schemas.pop(theirs, None)
            ours = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= ours.pop("$defs", {}) | {"Problem": ours}
            components["securitySchemes"] = SECURITY_SCHEMES
            for item in schema["paths"].values():
                for operation in item.values():
                    _with_problems(operation["responses"])
            self.openapi_schema = schema
        return self.openapi_schema


def _with_problems(responses: dict[str, Any]) -> None:
    if "HTTPValidationError" in str(responses.get("422")):
        responses["422"] = {"description": "`validation_failed`", "content": PROBLEM_CONTENT}
    responses["default"] = ANY_OTHER
