"""A client for the simulation: speaks the wire by docs/protocol.md (R1 to R6) over a bare `asyncio.Protocol`.

It shares nothing with the hub but the document. It writes what it said and got into the history that
`tests/fault/checker.py` judges, and notes itself what only a connection can show: a silent hole (an entry pushed
without the one before it and without a GAP), one seq that is two things, marks that move back, a refusal that nothing
explains.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgpack

from tests.fault.history import History, Operation
from tests.sim.adapter import Simulation

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: bankhub.v1.msgpack\r\n\r\n"
)
PAGE = 20  # small, so that there are several
TURN_S = 0.3
SILENCE_S = 1.5  # a hub that says nothing for so long is gone


class Wire(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, owner: Device) -> None:
        self.owner = owner
        self.data = b""
        self.open = self.gone = self.ready = False
        self.expected: dict[str, int] = {}  # stream -> the seq that has to come next on this connection
        self.marks: dict[tuple[str, str], tuple[int, int]] = {}
        self.asked: dict[
            int, tuple[str, str]
        ] = {}  # frame id -> what it was: ("send", key) or ("sync", stream)
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(HANDSHAKE)

    def ask(self, op: int, *fields: Any, what: tuple[str, str] = ("", "")) -> None:
        """One frame in one message."""
        self._number += 1
        self.asked[self._number] = what
        self.send(op, self._number, *fields)

    def send(self, *frame: Any) -> None:
        if not self.gone:
            self.transport.write(_message(list(frame)))

    def data_received(self, data: bytes) -> None:
        if self.gone:
            return
        self.owner.heard_s = self.owner.sim.loop.time()
        self.data += data
        if not self.open:
            head, end, rest = self.data.partition(b"\r\n\r\n")
            if not end:
                return
            self.data, self.open = rest, True
            if b" 101 " not in head[:16]:
                self.cut()
                return
            self.owner.hello(self)
        while (frames := self._next()) is not None:
            for frame in frames:
                if not self.gone:
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

    def cut(self, *, after: bytes = b"") -> None:
        """The connection breaks, perhaps in the middle of a frame."""
        if not self.gone:
            if after:
                self.transport.write(after)
            self.gone = True
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True


def _message(frame: list[Any]) -> bytes:
    payload: bytes = msgpack.packb([frame])
    size = len(payload)
    head = bytes((0x82, 0x80 | size)) if size < 126 else b"\x82\xfe" + size.to_bytes(2, "big")
    return head + bytes(4) + payload


@dataclass
class Said:
    """What waits for its answer."""

    operation: Operation
    frame: list[Any]
    tries: int = 0


@dataclass
class Device:
    """A member's program on one device. It reconnects for as long as the simulation lasts."""

    sim: Simulation
    history: History
    name: str
    person: int
    nodes: list[str]
    steady: frozenset[str]  # streams that this person never leaves: there nothing may be refused
    places: dict[str, int] = field(
        default_factory=dict
    )  # stream -> everything up to this seq was handed over
    high: dict[str, int] = field(default_factory=dict)  # the same, and not forgotten with the place
    known: dict[tuple[str, int], tuple[Any, ...]] = field(default_factory=dict)
    mine: list[tuple[str, int]] = field(default_factory=list)  # entries of this person, to recall
    pending: dict[str, Said] = field(default_factory=dict)
    answers: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    refused_files: list[tuple[int, str]] = field(default_factory=list)  # and why
    violations: list[str] = field(default_factory=list)
    wire: Wire | None = None
    heard_s: float = 0.0
    connections: int = 0
    _again: dict[str, None] = field(default_factory=dict)  # SYNCs that were refused for the moment
    _told: dict[str, int] = field(default_factory=dict)
    _number: int = 0

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
                self.wire, self.heard_s, self._told = wire, loop.time(), {}
                self.connections += 1
                while not wire.gone and loop.time() - self.heard_s < SILENCE_S:
                    await asyncio.sleep(TURN_S)
                    if wire.ready:
                        self._turn(wire)
                wire.cut()
            except (OSError, TimeoutError):
                pass
            await asyncio.sleep(chance.uniform(0.01, 0.3))

    def hello(self, wire: Wire) -> None:
        resume = dict(self.places)
        wire.expected = {stream: seq + 1 for stream, seq in resume.items() if seq}
        wire.ask(1, f"{self.person}:1", self.name, None, resume)

    def _turn(self, wire: Wire) -> None:
        """Once in a while: alive? What was not answered is said again, what was got is acknowledged."""
        wire.ask(19, 0)
        for key in list(self.pending):
            self._send(wire, key)
        again, self._again = self._again, {}
        for stream in again:
            self._sync(wire, stream)
        moved = {s: seq for s, seq in self.places.items() if seq > self._told.get(s, 0)}
        if moved:
            self._told |= moved
            wire.ask(self.sim.chance.choice((8, 9)), [[s, seq] for s, seq in moved.items()])

    def say(self, stream: str, *, key: str | None = None, recall: bool = False, file_id: int = 0) -> str:
        """Says something new (with a file, if one is given), or takes back something old; returns the key."""
        self._number += 1
        key = key or f"{self.name}-{self._number}"
        targets = [seq for s, seq in self.mine if s == stream]
        if recall and targets:
            seq = self.sim.chance.choice(targets)
            frame: list[Any] = [10, stream, seq, key, "recall", None]
            body: Any = {"seq": seq, "value": None}
        elif file_id:
            body = {"file_id": str(file_id)}
            frame = [5, stream, key, "file", body, None]
        else:
            body = f"{self.name} says {self._number}" + "." * self.sim.chance.choice((0, 0, 0, 300))
            frame = [5, stream, key, "text", body, None]
        self.pending[key] = Said(self.history.invoke(self.name, str(self.person), stream, key, body), frame)
        if self.wire is not None and self.wire.ready:
            self._send(self.wire, key)
        return key

    def repeat(self, other: Device, key: str) -> None:
        """Says what another device of this person is saying, at the same time, with the same key."""
        said = other.pending.get(key)
        if said is not None:
            o = said.operation
            operation = self.history.invoke(self.name, o.person, o.stream, key, o.body)
            self.pending[key] = Said(operation, said.frame)
            if self.wire is not None and self.wire.ready:
                self._send(self.wire, key)

    def _send(self, wire: Wire, key: str) -> None:
        said = self.pending[key]
        said.tries += 1
        wire.ask(said.frame[0], *said.frame[1:], what=("send", key))

    def cut(self) -> None:
        """The network takes the connection away."""
        if self.wire is not None and not self.wire.gone:
            half = _message([5, 9, "100", f"{self.name}-half", "text", "never finished", None])
            self.wire.cut(after=half[: self.sim.chance.randrange(len(half))])

    def stop_reading(self, for_s: float) -> None:
        """The program is busy."""
        wire = self.wire
        if wire is not None and not wire.gone:
            wire.transport.pause_reading()
            self.sim.loop.call_later(for_s, wire.transport.resume_reading)

    # --- frames ---------------------------------------------------------------------------------------------------

    def on_frame(self, wire: Wire, frame: list[Any]) -> None:
        op = frame[0]
        if op == 2:
            wire.ready = True
            self._sync(wire, "streams")
            for key in list(self.pending):
                self._send(wire, key)
        elif op == 4 and frame[2] == "streams":
            self._streams(wire, frame[5])
        elif op == 4:
            self._page(wire, frame)
        elif op == 6:
            self._answered(frame)
        elif op == 7 and frame[2] != "inbox":
            self._pushed(wire, frame)
        elif op == 11:
            self._marks(wire, frame)
        elif op == 12:
            self._gap(wire, *frame[2:6])
        elif op == 19 and frame[1] == 0:
            wire.send(19, 0, 0)
        elif op == 21:
            self._refused(wire, frame)
        elif op == 22:
            wire.cut()

    def _sync(self, wire: Wire, stream: str) -> None:
        if stream == "streams":
            wire.ask(3, stream, 0, 200, what=("sync", stream))
        elif stream in self.places:
            wire.ask(3, stream, self.places[stream], PAGE, what=("sync", stream))

    def _streams(self, wire: Wire, streams: list[dict[str, Any]]) -> None:
        for stream in streams:
            name, floor = stream["stream"], stream["floor"]
            if name == "inbox":
                continue
            self._place(name, floor)
            if self.places[name] < stream["head"]:
                self._sync(wire, name)

    def _place(self, stream: str, behind: int) -> None:
        """The stream is ours, and begins behind a seq."""
        self.places[stream] = max(behind, self.places.get(stream, 0), self.high.get(stream, 0))

    def _page(self, wire: Wire, frame: list[Any]) -> None:
        stream, entries, done = frame[2], frame[5], frame[6]
        if stream not in self.places:
            return
        if entries and not self.places[stream]:
            self.places[stream] = entries[0][1] - 1  # R3: `after` 0 is from the floor on
        for entry in entries:
            if stream not in self.places:  # taken out by an entry of this page
                return
            if not self._take(entry):
                self.violations.append(f"{self.name}: a page of {stream} has a hole before {entry[1]}")
        if not done:
            self._sync(wire, stream)

    def _pushed(self, wire: Wire, frame: list[Any]) -> None:
        entry = frame[2:]
        stream, seq, kind, body = entry[0], entry[1], entry[4], entry[6]
        expected = wire.expected.get(stream)
        if expected is not None and seq > expected:
            self.violations.append(
                f"{self.name} got {seq} of {stream} where {expected} had to come: a silent hole"
            )
        wire.expected[stream] = max(seq + 1, expected or 0)
        if stream not in self.places:
            self._place(stream, seq - 1 if kind == "membership" and str(self.person) in body["added"] else 0)
            self._sync(wire, "streams")
        if not self._take(entry):
            self._sync(wire, stream)
        if kind == "membership" and str(self.person) in body["removed"]:
            self._left(wire, stream)

    @staticmethod
    def _left(wire: Wire, stream: str) -> None:
        wire.expected.pop(stream, None)
        wire.marks = {of: marks for of, marks in wire.marks.items() if of[0] != stream}

    def _gap(self, wire: Wire, stream: str, first: int, last: int, why: str) -> None:
        if stream == "inbox":
            return
        if why == "forbidden":
            self._left(wire, stream)
            self.places.pop(stream, None)
            if stream in self.steady:
                self.violations.append(f"{self.name} was told that {stream} is not theirs")
            return
        if why == "reset":
            self.violations.append(f"{self.name} was told to begin {stream} again")
            return
        expected = wire.expected.get(stream)
        if why == "joined":
            self._place(stream, first - 1)
        elif why == "floor":
            self._place(stream, last)
        elif expected is not None and first > expected:
            self.violations.append(
                f"{self.name}: the gap {first}-{last} of {stream} begins behind {expected}"
            )
        wire.expected[stream] = max(last + 1, expected or 0)
        self._sync(wire, stream)

    def _take(self, entry: list[Any]) -> bool:
        """Hands an entry over if it is the next one; False if the one before it is missing."""
        stream, seq, entry_id, sender, kind, _, body, digest, _ = entry
        identity = (*entry[:6], digest)
        known = self.known.setdefault((stream, seq), identity)
        if known != identity:
            self.violations.append(f"{self.name}: {seq} of {stream} was two things")
        place = self.places[stream]
        if seq != place + 1:
            return bool(seq <= place)
        self.places[stream] = self.high[stream] = seq
        self.history.delivered(self.name, str(self.person), stream, seq, entry_id, sender, kind, body, digest)
        if sender == str(self.person) and kind in ("text", "file"):
            self.mine.append((stream, seq))
        if kind == "membership" and str(self.person) in body["removed"]:
            del self.places[stream]
        return True

    def _answered(self, frame: list[Any]) -> None:
        stream, key, seq, entry_id = frame[2:6]
        answer = (stream, seq, entry_id)
        if self.answers.setdefault(key, answer) != answer:
            self.violations.append(f"key {key} was answered {self.answers[key]} and then {answer}")
        said = self.pending.pop(key, None)
        if said is not None:
            self.history.ok(said.operation, seq, entry_id)

    def _marks(self, wire: Wire, frame: list[Any]) -> None:
        for user, delivered, read in frame[3]:
            before = wire.marks.get((frame[2], user), (0, 0))
            if delivered < before[0] or read < before[1] or read > delivered:
                self.violations.append(
                    f"{self.name}: marks of {user} in {frame[2]} went from {before} to {delivered, read}"
                )
            wire.marks[frame[2], user] = (delivered, read)

    def _refused(self, wire: Wire, frame: list[Any]) -> None:
        code, temporary, detail = frame[2], frame[4], frame[6]
        what, which = wire.asked.get(frame[1], ("", ""))
        if temporary or not what:
            if what == "sync":
                self._again[which] = None
            elif not what:
                self.violations.append(f"{self.name} was refused {code} for nothing it asked")
            return
        stream = which
        if what == "send":
            said = self.pending.pop(which, None)
            if said is None:
                return
            stream = said.operation.stream
            if said.tries == 1:
                self.history.fail(said.operation, code)
            else:
                self.history.unknown(said.operation)
            if detail and "file" in detail:
                self.refused_files.append((int(detail["file"]), code))
                return
        elif code == "reset" and self.places.get(stream, 0) <= detail["head"]:
            if stream in self.places:
                self._place(stream, detail["floor"])
                self._sync(wire, stream)
            return
        elif code == "not_found":
            self.places.pop(stream, None)
            self._again["streams"] = None
        else:
            self.violations.append(f"{self.name} was refused {code} for SYNC {stream}")
        if stream in self.steady:
            self.violations.append(f"{self.name} was refused {code} for {what} {which}")
