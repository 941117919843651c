"""Passwords: argon2id in threads, behind one limiter per process; and the list of those that everybody tries."""

import asyncio
import runpy
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from core.errors import Overloaded
from core.ids import random_token

T = TypeVar("T")

WAITING = 50  # hashes that may queue before a caller is told to come back

# OWASP's parameters for argon2id: 19 MiB, two passes, one lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


class Passwords:
    """Hashes and verifies; an unknown account costs the same as a known one."""

    def __init__(self, concurrency: int, min_length: int) -> None:
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="password")
        self._concurrency, self._pending = concurrency, 0
        self._min_length = min_length
        self._common: frozenset[str] | None = None
        self._dummy = _hash(random_token())

    async def hash(self, password: str) -> str:
        return await self._run(_hash, password)

    async def verify(self, hashed: str | None, password: str) -> bool:
        """False too where `hashed` is None, after the time that a real one takes."""
        return await self._run(_verify, hashed or self._dummy, password) and hashed is not None

    async def is_common(self, password: str) -> bool:
        return await self._run(self._is_common, password)

    def needs_rehash(self, hashed: str) -> bool:
        return _HASHER.check_needs_rehash(hashed)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _is_common(self, password: str) -> bool:
        if self._common is None:  # read at the first registration: many processes never see one
            self._common = _common_passwords(self._min_length)
        return _normalised(password).lower() in self._common

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


def _common_passwords(min_length: int) -> frozenset[str]:
    """From the lists of zxcvbn, without the package around them, which would stay in memory."""
    package = find_spec("zxcvbn")
    assert package is not None, "zxcvbn is a requirement"
    assert package.origin is not None
    lists = runpy.run_path(str(Path(package.origin).with_name("frequency_lists.py")))["FREQUENCY_LISTS"]
    return frozenset(word for word in lists["passwords"] if len(word) >= min_length)


def _normalised(password: str) -> str:
    # NFC and NFD of one text are one password; nothing else is changed.
    return unicodedata.normalize("NFC", password)
