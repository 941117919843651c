"""Passwords: argon2id in threads, behind one limiter per process."""

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from core.errors import Overloaded

T = TypeVar("T")

WAITING = 50  # hashes that may queue before a caller is told to come back

# OWASP's parameters for argon2id: 19 MiB, two passes, one lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


class Passwords:
    """Hashes and verifies; an unknown account costs the same as a known one."""

    def __init__(self, concurrency: int) -> None:
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="password")
        self._concurrency, self._pending = concurrency, 0
        self._dummy: str | None = None

    async def hash(self, password: str) -> str:
        return await self._run(_hash, password)

    async def verify(self, hashed: str | None, password: str) -> bool:
        """False too where `hashed` is None, after the time that a real one takes."""
        if self._dummy is None:
            self._dummy = await self.hash("no such password")
        return await self._run(_verify, hashed or self._dummy, password) and hashed is not None

    def needs_rehash(self, hashed: str) -> bool:
        return _HASHER.check_needs_rehash(hashed)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[..., T], *args: str) -> T:
        if self._pending >= self._concurrency + WAITING:
            raise Overloaded
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        finally:
            self._pending -= 1


def _hash(password: str) -> str:
    return _HASHER.hash(_normalised(password))


def _verify(hashed: str, password: str) -> bool:
    try:
        return _HASHER.verify(hashed, _normalised(password))
    except (VerificationError, InvalidHashError):
        return False


def _normalised(password: str) -> str:
    # NFC and NFD of one text are one password; nothing else is changed.
    return unicodedata.normalize("NFC", password)
