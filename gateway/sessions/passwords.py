"""Passwords by argon2id, in threads of their own: hashing is slow on purpose and never takes the loop's thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from core.errors import TooManyRequests
from core.settings import Settings

R = TypeVar("R")


class Passwords:
    """Hashes and verifies. At most ``password_waiting`` wait; more are told to come back, not queued for minutes."""

    def __init__(self, settings: Settings) -> None:
        self._hasher = PasswordHasher(
            time_cost=settings.password_time_cost, memory_cost=settings.password_memory_kib, parallelism=1
        )
        self._threads = ThreadPoolExecutor(settings.password_threads, "password")
        self._room = threading.BoundedSemaphore(settings.password_threads + settings.password_waiting)
        self._nobody = self._hasher.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """The PHC string to store. Raises `TooManyRequests` when too many wait."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether it is the password. Takes the same time where there is none: then against a hash of nobody's.

        Raises `TooManyRequests` when too many wait.
        """
        right = await self._run(lambda: self._matches(stored or self._nobody, password))
        return right and stored is not None

    def outdated(self, stored: str) -> bool:
        """Whether a hash was made with other costs than are set now."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], R]) -> R:
        if not self._room.acquire(blocking=False):
            raise TooManyRequests("too many logins at once", retry_ms=2000)
        try:
            running: Future[R] = self._threads.submit(work)
        except BaseException:
            self._room.release()
            raise
        # given back when the thread is done with it, not when the caller has gone away
        running.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(running)
