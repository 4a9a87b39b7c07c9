"""A TCP relay between a client and an engine, for tests that need the network to misbehave."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit, urlunsplit


@dataclass
class Wire:
    """Relays to one address; can refuse, cut, go silent, and cut at a word that the client says."""

    host: str
    port: int
    cut: bool = False
    silent: bool = False
    deaf: bool = False  # nothing more comes back on the connections that subscribed
    cut_after: bytes | None = None  # once: let these bytes through to the engine, then cut before its answer
    subscribers: set[asyncio.StreamWriter] = field(default_factory=set)
    connections: set[asyncio.StreamWriter] = field(default_factory=set)
    pumps: set[asyncio.Task[None]] = field(default_factory=set)
    server: asyncio.Server | None = None

    @classmethod
    async def before(cls, url: str) -> tuple[Self, str]:
        """An open wire to the engine of `url`, and the address of its near end."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        wire = cls(parts.hostname, parts.port)
        port = await wire.open()
        secret = parts.netloc.rpartition("@")[0]
        return wire, urlunsplit(parts._replace(netloc=f"{secret}@127.0.0.1:{port}"))

    async def open(self) -> int:
        """Listen; the port."""
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """End everything."""
        assert self.server is not None
        self.server.close()
        self.set_cut(True)
        await asyncio.gather(*self.pumps, return_exceptions=True)

    def set_cut(self, cut: bool) -> None:
        """Cut all connections and refuse new ones; or accept again."""
        self.cut = cut
        if cut:
            for writer in self.connections:
                writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
        self.connections |= {writer, far_writer}
        self.pumps |= {
            asyncio.ensure_future(self._pump(reader, far_writer, writer)),
            asyncio.ensure_future(self._pump(far_reader, writer, None)),
        }

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, near: asyncio.StreamWriter | None
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if near is not None and b"SUBSCRIBE" in data:
                    self.subscribers.add(near)
                if not self.silent and not (self.deaf and target in self.subscribers):
                    target.write(data)
                if near is not None and self.cut_after is not None and self.cut_after in data:
                    self.cut_after = None
                    await target.drain()
                    near.transport.abort()
        self.connections.discard(target)
        target.close()
