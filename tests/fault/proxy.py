"""What stands between clients and workers in a fault run: it cuts in the middle of frames, and it stops carrying."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

CHUNK = 16 * 1024
BUFFER = 32 * 1024  # of sockets towards workers: a stalled client must be felt by the hub, not hidden by us


class Pair:
    """One client's connection with its other half."""

    def __init__(self, client: asyncio.StreamWriter, worker: asyncio.StreamWriter) -> None:
        self.client, self.worker = client, worker
        self.flows = asyncio.Event()
        self.flows.set()
        self.doomed: int | None = None  # so many bytes more, then the end

    def abort(self) -> None:
        for writer in (self.client, self.worker):
            writer.transport.abort()


class Proxy:
    """Listens on a port of its own; every connection goes to one of the workers that are there."""

    def __init__(self, chance: random.Random, ports: Callable[[], Sequence[int]]) -> None:
        self._chance, self._ports = chance, ports
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.pairs: set[Pair] = set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for pair in list(self.pairs):
            pair.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self, share: float) -> int:
        """Ends a share of the connections in the middle of what they carry next; how many."""
        hit = [pair for pair in self.pairs if self._chance.random() < share]
        for pair in hit:
            pair.doomed = self._chance.randint(0, 60)
        return len(hit)

    def stall(self, share: float, for_s: float) -> int:
        """A share of the clients read nothing for a while; how many."""
        hit = [pair for pair in self.pairs if self._chance.random() < share]
        for pair in hit:
            pair.flows.clear()
            asyncio.get_running_loop().call_later(for_s, pair.flows.set)
        return len(hit)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        upstream = await self._connect()
        if upstream is None:
            writer.transport.abort()
            return
        pair = Pair(writer, upstream[1])
        self.pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(pair, reader, upstream[1], down=False))
                group.create_task(self._carry(pair, upstream[0], writer, down=True))
        except* OSError:
            pass
        finally:
            self.pairs.discard(pair)
            pair.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        ports = list(self._ports())
        self._chance.shuffle(ports)
        for port in ports:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            sock.setblocking(False)
            try:
                await asyncio.wait_for(
                    asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port)), 1.0
                )
                return await asyncio.open_connection(sock=sock, limit=CHUNK)
            except (OSError, TimeoutError):
                sock.close()
        return None

    async def _carry(
        self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, down: bool
    ) -> None:
        while True:
            if down:
                await pair.flows.wait()
            data = await reader.read(CHUNK)
            if pair.doomed is not None and (down or not data):
                writer.write(data[: pair.doomed])
                with suppress(ConnectionError):
                    await writer.drain()
                raise ConnectionResetError
            if not data:
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
