"""Connections of asyncpg's pool, passed from hand to hand.

asyncpg's pool opens, guards and replaces connections; but to take one from it and give it back costs two time-outs and
a task, as much as the statement in between. So a connection that comes back whole goes to whoever waits, or stays here
for the next; one that does not goes back to asyncpg's pool, which knows how to end or to mend it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

IDLE_S: Final = 300.0  # a connection that nobody needed for so long is given back, and closed there


class Hands:
    """At most `size` connections of `pool`; who finds none waits `timeout_s`, first come, first served."""

    def __init__(self, pool: Any, size: int, timeout_s: float) -> None:
        self._pool, self._size, self._timeout_s = pool, size, timeout_s
        self._idle: list[tuple[Any, float]] = []  # the one used last is used next
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._out = 0  # taken from asyncpg's pool and not given back
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self) -> Any:
        """A connection. Raises `TimeoutError`, and what asyncpg raises when a new one cannot be opened."""
        while self._idle:
            connection, _ = self._idle.pop()
            if not gone(connection):
                return connection
            await self._let_go(connection)
        if self._out < self._size or self._closed:
            self._out += 1
            try:
                return await self._pool.acquire(timeout=self._timeout_s)
            except BaseException:
                self._out -= 1
                self._next()
                raise
        return await self._wait()

    def give(self, connection: Any) -> None:
        """Give back a connection that is whole: no transaction, no statement under way."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(connection)
                return
        loop = asyncio.get_running_loop()
        self._idle.append((connection, loop.time()))
        if self._closed or self._idle[0][1] < loop.time() - IDLE_S:
            oldest, _ = self._idle.pop(0)
            task = loop.create_task(self._let_go(oldest), name="core.db.let_go")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def give_broken(self, connection: Any) -> None:
        """Give back a connection of which nobody knows what state it is in."""
        await self._let_go(connection)
        self._next()

    async def close(self) -> None:
        """Give all back that nobody uses; what comes later is given back as it comes."""
        self._closed = True
        while self._idle:
            await self._let_go(self._idle.pop()[0])

    async def _wait(self) -> Any:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(waiting)
        timer = loop.call_later(self._timeout_s, _expire, waiting)
        try:
            connection = await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                if waiting.result() is None:
                    self._next()
                else:
                    self.give(waiting.result())
            raise
        finally:
            timer.cancel()
        return connection if connection is not None else await self.take()

    async def _let_go(self, connection: Any) -> None:
        self._out -= 1
        await self._pool.release(connection)

    def _next(self) -> None:
        """There is room for a new connection: whoever waits first opens it."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return


def _expire(waiting: asyncio.Future[Any]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())


def gone(connection: Any) -> bool:
    """Whether a connection is closed; the pool's proxy of one that has broken refuses even to say so."""
    try:
        return bool(connection.is_closed())
    except Exception:  # asyncpg.InterfaceError
        return True
