"""Stands between two that speak HTTP and cuts their connections after so many bytes, whichever way they go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

CHUNK = 64 << 10


class Cutter:
    """Listens on a port of its own; every connection goes on to the port that `to` says, None: nowhere."""

    def __init__(self, to: Callable[[], int | None]) -> None:
        self._to = to
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._left: int | None = None  # bytes until everything that is open is cut
        self._cut = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.cuts = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cut_after(self, size_bytes: int, within_s: float) -> bool:
        """Let so many bytes more pass, then cut everything; False where they did not come in time."""
        self._left = size_bytes
        self._cut.clear()
        try:
            async with asyncio.timeout(within_s):
                await self._cut.wait()
            return True
        except TimeoutError:
            self._left = None
            return False

    def _count(self, size_bytes: int) -> None:
        if self._left is None:
            return
        self._left -= size_bytes
        if self._left <= 0:
            self._left = None
            self.cuts += 1
            for writer in list(self._open):
                writer.transport.abort()
            self._cut.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to() or 1, limit=CHUNK)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, back}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, back))
                group.create_task(self._carry(there, writer))
        except* OSError:
            pass
        finally:
            self._open -= {writer, back}
            for one in (writer, back):
                one.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            self._count(len(data))
            writer.write(data)
            await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()
