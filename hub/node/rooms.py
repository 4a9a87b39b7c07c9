"""A room is a stream as this node follows it: the entries in order, and the local connections that get them.

Entries reach a node in any order and more than once: from its own commits, from the bus, from the database. `accept`
lets each through once and in order; what came too early waits in `early` until the hole is filled. So a room is a
replica of its stream that advances by `seq` alone, and who belongs to it changes at exactly the entry that says so.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from hub.streams.rules import MEMBERSHIP
from hub.streams.store import Entry
from hub.wire import codec, websocket

if TYPE_CHECKING:
    from hub.server.connection import Connection

RING_ENTRIES: Final = 128  # newest entries kept for those who come back; a few seconds of a busy room
RING_BYTES: Final = 64 * 1024
EARLY_MAX: Final = 1_024  # entries waiting for a hole; beyond it they are read again


class Membership(Struct, frozen=True):
    """Body of a membership entry."""

    added: list[str] = []
    removed: list[str] = []


class Event(Struct, frozen=True):
    """An entry ready to be delivered."""

    stream_id: int
    seq: int
    packed: bytes  # the entry's fields in msgpack, as in PAGE and behind ENTRY's op
    target: int = 0  # seq whose body this entry removes
    membership: Membership | None = None


_membership = msgspec.msgpack.Decoder(Membership)
_target = msgspec.msgpack.Decoder(dict)


def event_of(entry: Entry, name: str) -> Event:
    """An entry as it goes to connections and to the bus."""
    packed = codec.entry_packed(
        name, entry.seq, entry.entry_id, entry.sender_id, entry.kind, entry.time_ms, entry.body, entry.digest,
        entry.options,
    )  # fmt: skip
    membership = None
    target = 0
    if entry.kind == MEMBERSHIP and entry.sender_id == 0 and entry.body is not None:
        membership = _membership.decode(entry.body)
    elif entry.kind == "recall" and entry.body is not None:
        target = int(_target.decode(entry.body)["seq"])
    return Event(entry.stream_id, entry.seq, packed, target, membership)


class Room:
    """One stream on one node. What most rooms never need is made when it is needed."""

    __slots__ = (
        "conns", "early", "enterprise_id", "epoch", "filling", "head", "member_count", "members_version",
        "name", "out", "removals", "ring", "stream_id", "text_conns",
    )  # fmt: skip

    def __init__(
        self, stream_id: int, name: str, enterprise_id: int, *, head: int, epoch: int, members_version: int,
        member_count: int,
    ) -> None:  # fmt: skip
        self.stream_id, self.name, self.enterprise_id = stream_id, name, enterprise_id
        self.head, self.epoch = head, epoch
        self.members_version, self.member_count = members_version, member_count
        self.conns: dict[Connection, None] = {}  # a dict: its order is the order of joining, in every run
        self.text_conns: dict[Connection, None] | None = None
        self.ring: Ring | None = None
        self.early: dict[int, Event] | None = None
        self.out: list[tuple[int, bytes, bytes]] = []  # (seq, frame, packed) of this tick
        self.filling = False
        self.removals = 0  # how often bodies were removed: what was read before may not be kept after

    @property
    def size(self) -> int:
        """Local connections."""
        return len(self.conns) + len(self.text_conns or ())

    def add(self, conn: Connection) -> None:
        """Delivers from the next entry on to this connection."""
        if not conn.text:
            self.conns[conn] = None
        elif self.text_conns is None:
            self.text_conns = {conn: None}
        else:
            self.text_conns[conn] = None

    def remove(self, conn: Connection) -> None:
        """Delivers no more."""
        self.conns.pop(conn, None)
        if self.text_conns is not None:
            self.text_conns.pop(conn, None)

    def everyone(self) -> list[Connection]:
        """All local connections."""
        return [*self.conns, *(self.text_conns or ())]

    def accept(self, event: Event) -> list[Event]:
        """Takes an event from anywhere; returns those that are due now, in order."""
        if event.seq <= self.head:
            return []
        if event.seq > self.head + 1:
            if self.early is None:
                self.early = {}
            if len(self.early) < EARLY_MAX:
                self.early[event.seq] = event
            return []
        due = [event]
        if self.early:
            following = event.seq + 1
            while (next_event := self.early.pop(following, None)) is not None:
                due.append(next_event)
                following += 1
        self.head = due[-1].seq
        return due

    def hole(self) -> bool:
        """Whether something waits for an entry that has not come."""
        return bool(self.early)

    def keep(self, event: Event, frame: bytes) -> None:
        """Remembers a delivered entry's frame for those who come back soon."""
        if event.target:
            self.forget()
        if self.ring is None:
            self.ring = Ring()
        self.ring.push(event.seq, frame)

    def forget(self) -> None:
        """Drops what was kept: a body in it was removed, and perhaps edits of it; who needs it reads it again."""
        self.removals += 1
        self.ring = None

    def since(self, seq: int) -> list[bytes] | None:
        """Frames after `seq` up to the head, None when what is kept does not reach back so far."""
        if seq >= self.head:
            return []
        return None if self.ring is None else self.ring.between(seq, self.head)

    def refill(self, after: int, frames: dict[int, bytes]) -> None:
        """Keeps these frames too, as far as they continue what is there back to `after`."""
        known = frames if self.ring is None else frames | dict(self.ring.frames)
        first = self.head
        while first > after and first in known:
            first -= 1
        self.ring = Ring()
        for seq in range(first + 1, self.head + 1):
            self.ring.push(seq, known[seq])


class Ring:
    """The newest frames of a room, dense, bounded in number and bytes."""

    __slots__ = ("frames", "size_bytes")

    def __init__(self) -> None:
        self.frames: deque[tuple[int, bytes]] = deque()
        self.size_bytes = 0

    def push(self, seq: int, frame: bytes) -> None:
        """Adds the frame of the next seq and lets the oldest go."""
        self.frames.append((seq, frame))
        self.size_bytes += len(frame)
        while len(self.frames) > RING_ENTRIES or self.size_bytes > RING_BYTES:
            self.size_bytes -= len(self.frames.popleft()[1])

    def between(self, after: int, head: int) -> list[bytes] | None:
        """Frames behind `after` up to `head`; None if one of them is not here."""
        if not self.frames or self.frames[0][0] > after + 1 or self.frames[-1][0] != head:
            return None
        return [frame for seq, frame in self.frames if seq > after]


def entry_frame(packed: bytes) -> bytes:
    """The complete WebSocket frame that pushes an entry to msgpack clients."""
    return websocket.frame(codec.entry_push(packed))


def entry_frame_json(packed: bytes) -> bytes:
    """The same for JSON clients."""
    return websocket.frame(codec.json_message([7, 0, *codec.unpack(packed)]), websocket.TEXT)
