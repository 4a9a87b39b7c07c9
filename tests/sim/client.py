"""A client for the simulation: speaks the wire by docs/protocol.md over a bare `asyncio.Protocol`.

It keeps its history, follows the protocol's advice (retry by key, resume, SYNC after a GAP) and notes what
the server may never do: leave
a silent hole on a connection, or say another thing for an entry than before.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack

from tests.sim.adapter import Simulation

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: bankhub.v1.msgpack\r\n\r\n"
)


class Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self, owner: Person) -> None:
        self.owner = owner
        self.data = b""
        self.open = False
        self.gone = False
        self.ready = False
        self.expected: dict[str, int] = {}  # stream -> the seq that has to come next on this connection

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(HANDSHAKE)

    def send(self, *frame: Any) -> None:
        payload = msgpack.packb([list(frame)])
        size = len(payload)
        head = bytes((0x82, 0x80 | size)) if size < 126 else b"\x82\xfe" + size.to_bytes(2, "big")
        if not self.gone:
            self.transport.write(head + bytes(4) + payload)

    def data_received(self, data: bytes) -> None:
        self.owner.heard_s = self.owner.sim.loop.time()
        self.data += data
        if not self.open:
            head, end, rest = self.data.partition(b"\r\n\r\n")
            if not end:
                return
            self.data, self.open = rest, True
            if b" 101 " not in head[:16]:
                self.transport.abort()
                return
            self.owner.hello(self)
        while (frames := self._next()) is not None:
            for frame in frames:
                self.owner.on_frame(self, frame)

    def _next(self) -> list[list[Any]] | None:
        data = self.data
        if len(data) < 2:
            return None
        size, head = data[1], 2
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[2:10], "big"), 10
        if len(data) < head + size:
            return None
        payload, self.data = data[head : head + size], data[head + size :]
        if data[0] != 0x82:
            return []
        frames: list[list[Any]] = msgpack.unpackb(payload)
        return frames

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.owner.lost(self)


class Person:
    """A member on one device, who reconnects for as long as the simulation lasts."""

    def __init__(self, sim: Simulation, person: int, streams: list[str], nodes: list[str]) -> None:
        self.sim, self.person, self.streams, self.nodes = sim, person, streams, nodes
        self.entries: dict[str, list[tuple[Any, ...]]] = {stream: [] for stream in streams}
        self.pending: dict[str, tuple[str, str]] = {}  # key -> (stream, text), said and not answered
        self.sent: dict[str, tuple[str, int, str]] = {}  # key -> (stream, seq, entry id), answered
        self.said: dict[str, tuple[str, str]] = {}
        self.violations: list[str] = []
        self.wire: Wire | None = None
        self.heard_s = 0.0
        self._number = 0

    # --- life -----------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Connects, and connects again."""
        loop, chance = self.sim.loop, self.sim.chance
        while True:
            try:
                async with asyncio.timeout(1.0):
                    _, wire = await loop.create_connection(
                        lambda: Wire(self), chance.choice(self.nodes), 9000
                    )
                self.wire = None if wire.gone else wire
                self.heard_s = loop.time()
                while not wire.gone and loop.time() - self.heard_s < 1.5:
                    await asyncio.sleep(0.3)
                    if wire.ready:
                        wire.send(19, 1, 0)
                        self._retry()
                wire.gone = True
                wire.transport.abort()
            except (OSError, TimeoutError):
                pass
            await asyncio.sleep(chance.uniform(0.01, 0.3))

    def hello(self, wire: Wire) -> None:
        resume = {stream: len(entries) for stream, entries in self.entries.items() if entries}
        wire.expected = {stream: seq + 1 for stream, seq in resume.items()}
        wire.send(1, 1, f"{self.person}:1", f"device-{self.person}", None, resume)

    def lost(self, wire: Wire) -> None:
        if self.wire is wire:
            self.wire = None

    def say(self, stream: str) -> None:
        """Says something new."""
        self._number += 1
        key = f"{self.person}-{self._number}"
        self.said[key] = self.pending[key] = (stream, f"{self.person} says {self._number}")
        if self.wire is not None and self.wire.ready:
            self.wire.send(5, 2, stream, key, "text", self.said[key][1], None)

    def _retry(self) -> None:
        if self.wire is not None and self.wire.ready:
            for key, (stream, text) in list(self.pending.items()):
                self.wire.send(5, 2, stream, key, "text", text, None)

    def cut(self) -> None:
        """The network takes the connection away."""
        if self.wire is not None and not self.wire.gone:
            self.wire.gone = True
            self.wire.transport.abort()

    # --- frames ---------------------------------------------------------------------------------------------------

    def on_frame(self, wire: Wire, frame: list[Any]) -> None:
        op = frame[0]
        if wire.gone:
            return
        if op == 2:
            wire.ready = True
            for stream in self.streams:
                wire.send(3, 3, stream, len(self.entries[stream]), 200)
            self._retry()
        elif op == 4 and frame[2] in self.entries:
            for entry in frame[5]:
                self._take(tuple(entry))
            if not frame[6]:
                wire.send(3, 3, frame[2], frame[7], 200)
        elif op == 6:
            self._answered(frame)
        elif op == 7:
            self._pushed(wire, frame)
        elif op == 12:
            self._gap(wire, frame)
        elif op == 19 and frame[1] == 0:
            wire.send(19, 0, 0)
        elif op == 21 and frame[2] not in (
            "unavailable",
            "deadline_exceeded",
            "too_many_requests",
            "internal",
        ):
            self.violations.append(f"{self.person} was refused: {frame[2]}")

    def _answered(self, frame: list[Any]) -> None:
        _, _, stream, key, seq, entry_id, _, _, _ = frame
        before = self.sent.get(key)
        if before is not None and before != (stream, seq, entry_id):
            self.violations.append(f"key {key} was answered {before} and then {(stream, seq, entry_id)}")
        self.sent[key] = (stream, seq, entry_id)
        self.pending.pop(key, None)

    def _pushed(self, wire: Wire, frame: list[Any]) -> None:
        stream, seq = frame[2], frame[3]
        if stream not in self.entries:
            return
        expected = wire.expected.get(stream)
        if expected is not None and seq > expected:
            self.violations.append(
                f"{self.person} got {seq} of {stream} where {expected} had to come: a silent hole"
            )
        wire.expected[stream] = max(seq + 1, expected or 0)
        self._take(tuple(frame[2:]))
        if seq > len(self.entries[stream]):
            wire.send(3, 3, stream, len(self.entries[stream]), 200)

    def _gap(self, wire: Wire, frame: list[Any]) -> None:
        stream, first, last, why = frame[2:6]
        if why in ("reset", "forbidden"):
            self.violations.append(f"{self.person} was told {why} for {stream}")
            return
        expected = wire.expected.get(stream)
        if expected is not None and first > expected:
            self.violations.append(f"the gap {first}-{last} of {stream} begins behind {expected}")
        wire.expected[stream] = max(last + 1, expected or 0)
        wire.send(3, 3, stream, len(self.entries[stream]), 200)

    def _take(self, entry: tuple[Any, ...]) -> None:
        stream, seq = entry[0], entry[1]
        mine = self.entries[stream]
        if seq == len(mine) + 1:
            mine.append(entry)
        elif seq <= len(mine) and mine[seq - 1][:8] != entry[:8]:
            self.violations.append(f"entry {seq} of {stream} was two things")
