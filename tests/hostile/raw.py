"""A client that does not keep to any rule: bytes on a socket, WebSocket frames with every bit of one's choice."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack

from tests.hub.harness import ENTERPRISE, World

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
HEADERS = {
    "Host": "hub",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "bankhub.v1.msgpack",
}


def frame(
    payload: bytes, opcode: int = BINARY, *, fin: bool = True, rsv: int = 0, mask: bool = True, size: int | None = None,
    form: int | None = None,
) -> bytes:  # fmt: skip
    """A client's frame. `size` lies about the length; `form` 126 or 127 forces that form of it."""
    said = len(payload) if size is None else size
    if form is None:
        form = said if said < 126 else 126 if said < 65536 else 127
    head = bytes([(fin << 7) | (rsv << 4) | opcode, (mask << 7) | form])
    head += said.to_bytes(2, "big") if form == 126 else said.to_bytes(8, "big") if form == 127 else b""
    if not mask:
        return head + payload
    key = b"\x37\xfa\x21\x3d"  # as in RFC 6455; always the same, so that tests keep their names
    return head + key + bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))


def packed(*frames: Any, **options: Any) -> bytes:
    """Hub frames in one MessagePack message."""
    return frame(msgpack.packb(list(frames)), **options)


class Raw:
    """One socket."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, text: bool = False
    ) -> None:
        self.reader, self.writer, self.text = reader, writer, text
        self.frames: list[list[Any]] = []  # of the hub
        self.pongs: list[bytes] = []

    def write(self, data: bytes) -> None:
        with suppress(ConnectionError):
            self.writer.write(data)

    async def handshake(
        self, path: str = "/", method: str = "GET", version: str = "1.1", **headers: str | None
    ) -> int:
        """The HTTP status. Header names with underscores; None leaves one out."""
        given: dict[str, str | None] = {**HEADERS}
        for name, value in headers.items():
            known = next(
                (k for k in given if k.lower() == name.replace("_", "-").lower()), name.replace("_", "-")
            )
            given[known] = value
        lines = [f"{method} {path} HTTP/{version}", *(f"{k}: {v}" for k, v in given.items() if v is not None)]
        self.write("\r\n".join([*lines, "", ""]).encode())
        return await self.status()

    async def status(self, within_s: float = 10) -> int:
        """The status of the answer to whatever was written; 0 when the socket ends without one."""
        async with asyncio.timeout(within_s):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return 0
        return int(head.split()[1])

    async def hello(self, person: int, device: str = "raw") -> list[Any]:
        """HELLO, and WELCOME."""
        hello = [1, 1, f"{person}:{ENTERPRISE}", device, None, None]
        self.write(frame(json.dumps([hello]).encode(), TEXT) if self.text else packed(hello))
        return await self.until(2)

    async def until(self, op: int, frame_id: int | None = None, within_s: float = 10) -> list[Any]:
        """The next hub frame with this op (and id)."""
        async with asyncio.timeout(within_s):
            while True:
                for number, got in enumerate(self.frames):
                    if got[0] == op and frame_id in (None, got[1]):
                        return self.frames.pop(number)
                opcode, payload = await self._read()
                assert opcode != CLOSE, f"closed with {payload!r} before {op}"

    async def closed(self, within_s: float = 10) -> int:
        """The close code; 0 when the socket ended without a close frame."""
        async with asyncio.timeout(within_s):
            while True:
                try:
                    opcode, payload = await self._read()
                except (asyncio.IncompleteReadError, ConnectionError):
                    return 0
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big")

    @property
    def bye(self) -> int:
        """The code of BYE, if one came."""
        return next((got[2] for got in self.frames if got[0] == 22), 0)

    async def _read(self) -> tuple[int, bytes]:
        head = await self.reader.readexactly(2)
        assert not head[0] & 0x70, "the hub sets no reserved bits"
        assert not head[1] & 0x80, "the hub does not mask"
        size = head[1] & 0x7F
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8), "big")
        payload = await self.reader.readexactly(size)
        opcode = head[0] & 0xF
        if opcode == BINARY:
            self.frames += msgpack.unpackb(payload)
        elif opcode == TEXT:
            self.frames += json.loads(payload)
        elif opcode == PONG:
            self.pongs.append(payload)
        return opcode, payload

    def abort(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def socket_to(world: World, node: str = "a") -> AsyncIterator[Raw]:
    """A socket without a word said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.ports[node])
    raw = Raw(reader, writer)
    try:
        yield raw
    finally:
        raw.abort()


@asynccontextmanager
async def session(world: World, person: int, *, text: bool = False) -> AsyncIterator[Raw]:
    """A socket on which WELCOME has come."""
    async with socket_to(world) as raw:
        raw.text = text
        protocol = "bankhub.v1.json" if text else "bankhub.v1.msgpack"
        assert await raw.handshake(Sec_WebSocket_Protocol=protocol) == 101
        await raw.hello(person)
        yield raw


def rss_bytes() -> int:
    """This process's memory: the hub and the tests live in it together."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def named(value: object) -> str:
    """A short name of a test's parameter."""
    return f"{value[:12].hex()}-{len(value)}" if isinstance(value, bytes) else str(value)[:40]
