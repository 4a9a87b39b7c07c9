"""Delivered and read watermarks: taken in memory, written in batches, told to the room once a second.

A watermark never moves back; the database takes the greater one, so a lost or repeated flush does no harm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from hub.node.rooms import Room
from hub.streams.store import Mark
from hub.wire import limits
from hub.wire.frames import Op

if TYPE_CHECKING:
    from hub.node.node import Node

log = structlog.get_logger(__name__)

SAVE_S: Final = 0.25  # marks at most so old are lost by a crash; the client's next mark makes up for it
TELL_S: Final = 1.0
SAVE_MAX: Final = 2_000  # rows of one transaction


class Marks:
    """The watermarks of a node's sessions on their way to the database and to the rooms."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._pending: dict[tuple[int, int], Mark] = {}
        self._saving: dict[tuple[int, int], Mark] = {}
        self._told: dict[
            int, dict[int, tuple[int, int]]
        ] = {}  # stream -> person -> what others have been told
        self._due: dict[int, set[int]] = {}  # stream -> persons whose marks are to be told
        self._ahead: dict[
            int, dict[int, tuple[int, int]]
        ] = {}  # stream -> person -> marks beyond our room's head

    def pending(self, stream_id: int, person_id: int) -> Mark | None:
        """Watermarks that a reader of the database cannot see yet."""
        key = (stream_id, person_id)
        newer, older = self._pending.get(key), self._saving.get(key)
        if newer is None or older is None:
            return newer or older
        return Mark(
            stream_id,
            person_id,
            delivered=max(newer.delivered, older.delivered),
            read=max(newer.read, older.read),
            sent=max(newer.sent, older.sent),
        )

    def move(self, room: Room, person_id: int, seq: int, *, read: bool) -> None:
        """A session delivered or read up to `seq`. Reading implies delivery.

        A client may have read an entry from the database that our room does not have yet, and will not say so again:
        the mark counts up to the room's head now, and beyond it once the room has caught up.
        """
        if seq > room.head:
            ahead = self._ahead.setdefault(room.stream_id, {})
            delivered, read_up_to = ahead.get(person_id, (0, 0))
            ahead[person_id] = (max(delivered, seq), max(read_up_to, seq if read else 0))
            seq = room.head
        known = self._told.get(room.stream_id, {}).get(person_id, (0, 0))
        if seq <= (known[1] if read else known[0]):
            return
        mark = self._mark(room.stream_id, person_id)
        now_ms = self._node.clock.now_ms()
        if seq > mark.delivered:
            mark.delivered, mark.delivered_ms = seq, now_ms
        if read and seq > mark.read:
            mark.read, mark.read_ms = seq, now_ms
        self.learn(room.stream_id, person_id, mark.delivered, mark.read)

    def sent(self, stream_id: int, person_id: int, seq: int) -> None:
        """A person's own entry counts as read by them."""
        mark = self._mark(stream_id, person_id)
        mark.sent = max(mark.sent, seq)

    def _mark(self, stream_id: int, person_id: int) -> Mark:
        mark = self._pending.get((stream_id, person_id))
        if mark is None:
            mark = self._pending[stream_id, person_id] = Mark(stream_id, person_id)
        return mark

    def learn(self, stream_id: int, person_id: int, delivered: int, read: int) -> None:
        """A watermark of here or of another node; it is told to the room's sessions within a second."""
        told = self._told.setdefault(stream_id, {})
        known = told.get(person_id, (0, 0))
        moved = (max(known[0], delivered), max(known[1], read))
        if moved != known:
            told[person_id] = moved
            self._due.setdefault(stream_id, set()).add(person_id)

    def forget(self, stream_id: int) -> None:
        """The room is gone from this node."""
        self._told.pop(stream_id, None)
        self._due.pop(stream_id, None)
        self._ahead.pop(stream_id, None)

    async def save(self) -> None:
        """Writes what is pending and passes it on to the other nodes."""
        while self._pending:
            keys = list(self._pending)[:SAVE_MAX]
            self._saving = {key: self._pending.pop(key) for key in keys}
            batch = list(self._saving.values())
            try:
                await self._node.store.save_marks(batch)
            except Exception as error:
                log.warning("hub.marks_not_saved", marks=len(batch), error=type(error).__name__)
                for mark in batch:
                    self._restore(mark)
                return
            finally:
                self._saving = {}
            self._node.cluster.marks(
                [(m.stream_id, m.person_id, m.delivered, m.read) for m in batch if m.delivered or m.read]
            )

    def _restore(self, mark: Mark) -> None:
        newer = self._pending.setdefault((mark.stream_id, mark.person_id), mark)
        if newer is mark:
            return
        if mark.delivered > newer.delivered:
            newer.delivered, newer.delivered_ms = mark.delivered, mark.delivered_ms
        if mark.read > newer.read:
            newer.read, newer.read_ms = mark.read, mark.read_ms
        newer.sent = max(newer.sent, mark.sent)

    def tell(self) -> None:
        """MARKS to every session of the rooms where something moved."""
        self._catch_up()
        due, self._due = self._due, {}
        for stream_id, persons in due.items():
            room = self._node.rooms.get(stream_id)
            if room is None or room.member_count > limits.MARKS_MEMBERS or room.name == "inbox":
                continue
            told = self._told[stream_id]
            frame = (Op.MARKS, 0, room.name, [[str(p), *told[p]] for p in sorted(persons)])
            for conn in room.everyone():
                if not conn.slow:
                    conn.push(frame)

    def _catch_up(self) -> None:
        """Marks that were ahead of their rooms, as far as the rooms have come by now."""
        waiting, self._ahead = self._ahead, {}
        for stream_id, persons in waiting.items():
            room = self._node.rooms.get(stream_id)
            if room is not None:
                for person_id, (delivered, read_up_to) in persons.items():
                    self.move(room, person_id, delivered, read=False)
                    self.move(room, person_id, read_up_to, read=True)
