"""A person at the API, for tests of every tier."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import httpx

from core.security.signing import new_secret

PASSWORD = "correct horse battery"
API_KEY = "key-of-a-service-in-tests"
PRIVATE_TOKEN = "the-host-" * 3
SIGNING_SECRET = new_secret(bytes(range(32)))


@dataclass
class Person:
    http: httpx.AsyncClient
    email: str
    user_id: str
    tokens: dict[str, Any]

    @classmethod
    async def registered(cls, http: httpx.AsyncClient, email: str) -> "Person":
        answer = await http.post("/auth/register", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        login = await http.post("/auth/login", json={"email": email, "password": PASSWORD})
        assert login.status_code == 200, login.text
        return cls(http, email, answer.json()["user_id"], login.json())

    @property
    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = self.auth | options.pop("headers", {})
        return await self.http.request(method, path, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.call("GET", path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self.call("POST", path, **options)

    async def upload(self, content: bytes, filename: str = "a.pdf", **fields: str) -> httpx.Response:
        return await self.post("/documents/upload", files={"file": (filename, content)}, data=fields)

    async def uploaded(self, content: bytes, filename: str = "a.pdf", **fields: str) -> dict[str, Any]:
        answer = await self.upload(content, filename, **fields)
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def ended(self, document_id: str, within_s: float = 30) -> dict[str, Any]:
        """The status once processing is over."""
        deadline = time.monotonic() + within_s
        while True:
            status: dict[str, Any] = (await self.get(f"/documents/{document_id}/status")).json()
            if status["status"] in {"COMPLETED", "FAILED"}:
                return status
            assert time.monotonic() < deadline, status
            await asyncio.sleep(0.1)


@dataclass
class Service:
    """Another service, with its key."""

    http: httpx.AsyncClient
    key: str = API_KEY

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"X-API-Key": self.key} | options.pop("headers", {})
        return await self.http.request(method, path, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.call("GET", path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self.call("POST", path, **options)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of a refusal, checked for what every one of them must have."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    return body
