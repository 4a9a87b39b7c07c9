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
    """One stream on one node."""

    __slots__ = (
        "bytes", "conns", "early", "enterprise_id", "epoch", "filling", "head", "member_count", "members_version",
        "name", "out", "removals", "ring", "stream_id", "text_conns",
    )  # fmt: skip

    def __init__(
        self, stream_id: int, name: str, enterprise_id: int, *, head: int, epoch: int, members_version: int,
        member_count: int,
    ) -> None:  # fmt: skip
        self.stream_id, self.name, self.enterprise_id = stream_id, name, enterprise_id
        self.head, self.epoch = head, epoch
        self.members_version, self.member_count = members_version, member_count
        self.conns: set[Connection] = set()
        self.text_conns: set[Connection] = set()
        self.ring: deque[tuple[int, bytes]] = deque()  # (seq, ENTRY frame), dense, ending at head
        self.bytes = 0
        self.early: dict[int, Event] = {}
        self.out: list[tuple[int, bytes, bytes]] = []  # (seq, frame, packed) of this tick
        self.filling = False
        self.removals = 0  # how often bodies were removed: what was read before may not be kept after

    @property
    def size(self) -> int:
        """Local connections."""
        return len(self.conns) + len(self.text_conns)

    def add(self, conn: Connection) -> None:
        """Delivers from the next entry on to this connection."""
        (self.text_conns if conn.text else self.conns).add(conn)

    def remove(self, conn: Connection) -> None:
        """Delivers no more."""
        self.conns.discard(conn)
        self.text_conns.discard(conn)

    def everyone(self) -> list[Connection]:
        """All local connections."""
        return [*self.conns, *self.text_conns]

    def accept(self, event: Event) -> list[Event]:
        """Takes an event from anywhere; returns those that are due now, in order."""
        if event.seq <= self.head:
            return []
        if event.seq > self.head + 1:
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
        self.ring.append((event.seq, frame))
        self.bytes += len(frame)
        while len(self.ring) > RING_ENTRIES or self.bytes > RING_BYTES:
            self.bytes -= len(self.ring.popleft()[1])

    def forget(self) -> None:
        """Drops what was kept: a body in it was removed, and perhaps edits of it; who needs it reads it again."""
        self.removals += 1
        self.ring.clear()
        self.bytes = 0

    def since(self, seq: int) -> list[bytes] | None:
        """Frames after `seq` up to the head, None when the ring does not reach back so far."""
        if seq >= self.head:
            return []
        if not self.ring or self.ring[0][0] > seq + 1 or self.ring[-1][0] != self.head:
            return None
        return [frame for at, frame in self.ring if at > seq]


def entry_frame(packed: bytes) -> bytes:
    """The complete WebSocket frame that pushes an entry to msgpack clients."""
    return websocket.frame(codec.entry_push(packed))


def entry_frame_json(packed: bytes) -> bytes:
    """The same for JSON clients."""
    return websocket.frame(codec.json_message([7, 0, *codec.unpack(packed)]), websocket.TEXT)
