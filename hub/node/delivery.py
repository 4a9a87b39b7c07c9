"""From committed entries to sockets: each entry encoded once, one join per room, one write per connection per tick."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from hub.node.rooms import Event, Room, entry_frame, entry_frame_json

if TYPE_CHECKING:
    from hub.server.connection import Connection


class Delivery:
    """The node's way out. `flush()` ends a tick."""

    def __init__(
        self, on_membership: Callable[[Room, Event], None], schedule: Callable[[Callable[[], None]], object]
    ) -> None:
        self._on_membership = on_membership
        self._schedule = schedule
        self._rooms: list[Room] = []  # with something in `out`
        self._conns: list[Connection] = []  # with something in `out`
        self._scheduled = False
        self.delivered = 0  # entries handed to connections, for metrics

    def dirty(self, conn: Connection) -> None:
        """A connection has something to write; it goes out at the end of this turn of the loop."""
        self._conns.append(conn)
        if not self._scheduled:
            self._scheduled = True
            self._schedule(self.flush)

    def accept(self, room: Room, event: Event) -> None:
        """Gives an event to its room and queues what is due."""
        due = room.accept(event)
        if not due:
            return
        if not room.out:
            self._rooms.append(room)
            if not self._scheduled:
                self._scheduled = True
                self._schedule(self.flush)
        for each in due:
            frame = entry_frame(each.packed)
            room.out.append((each.seq, frame, each.packed))
            room.keep(each, frame)
            if each.membership is not None:
                self._flush_room(room)  # those who leave get this entry and none after it
                self._on_membership(room, each)

    def flush(self) -> None:
        """One join per room, one write per connection."""
        self._scheduled = False
        rooms, self._rooms = self._rooms, []
        for room in rooms:
            self._flush_room(room)
        conns, self._conns = self._conns, []
        for conn in conns:
            conn.flush()

    def _flush_room(self, room: Room) -> None:
        out = room.out
        if not out:
            return
        room.out = []
        first, last = out[0][0], out[-1][0]
        if room.conns:
            joined = out[0][1] if len(out) == 1 else b"".join([frame for _, frame, _ in out])
            self._send(room, room.conns, joined, first, last)
        if room.text_conns:
            joined = b"".join([entry_frame_json(packed) for _, _, packed in out])
            self._send(room, room.text_conns, joined, first, last)
        self.delivered += len(out) * room.size

    def _send(self, room: Room, conns: Iterable[Connection], data: bytes, first: int, last: int) -> None:
        """The innermost loop of the hub; `Connection.send` stands here inlined."""
        dirty = self._conns
        name = room.name
        inbox = name == "inbox"
        for conn in conns:
            if conn.slow and not inbox:
                conn.collapse(name, first, last)
                continue
            out = conn.out
            if out is None:
                conn.out = data
                dirty.append(conn)
            elif isinstance(out, list):
                out.append(data)
            else:
                conn.out = [out, data]
