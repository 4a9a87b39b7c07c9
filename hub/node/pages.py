"""SYNC: the caller's streams, or one stream's entries; complete or refused, never with a silent hole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from core.errors import BankhubError, NotFound
from hub.node.rooms import event_of
from hub.node.session import INBOX, Session
from hub.server.connection import Connection
from hub.streams.rules import unread
from hub.wire import codec, limits
from hub.wire.frames import Op, Sync

if TYPE_CHECKING:
    from hub.node.node import Node


class Reset(BankhubError):
    """What you have of this stream cannot be continued; start again from what `detail` says."""

    code = "reset"
    http_status = 409


class Pages:
    """Answers SYNC."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def answer(self, conn: Connection, session: Session, frame: Sync) -> None:
        """Sends one PAGE. Raises `Reset` and `NotFound`."""
        limit = min(frame.limit or limits.PAGE_ENTRIES, limits.PAGE_ENTRIES)
        after = frame.after_seq or 0
        if frame.stream == "streams":
            conn.push(await self._streams(session, frame.id, after, limit))
        else:
            await self._entries(conn, session, frame, after, limit)

    async def _streams(self, session: Session, frame_id: int, after: int, limit: int) -> tuple[Any, ...]:
        principal = session.principal
        marks = self._node.marks
        pending = {stream: marks.pending(stream, principal.person_id) for stream in session.floors}
        subscriptions = [  # read after the marks in memory: one of the two has each of them
            s
            for s in await self._node.store.subscriptions([principal.person_id])
            if s.enterprise_id == principal.enterprise_id and s.stream_id > after
        ]
        page = subscriptions[:limit]
        entries = []
        for sub in page:
            mark = pending.get(sub.stream_id)
            delivered, read, sent = sub.delivered, sub.read, sub.sent
            if mark is not None:
                delivered, read, sent = (
                    max(delivered, mark.delivered),
                    max(read, mark.read),
                    max(sent, mark.sent),
                )
            entries.append(
                {
                    "stream": INBOX if sub.kind == INBOX else str(sub.stream_id),
                    "id": str(sub.stream_id),
                    "kind": sub.kind,
                    "epoch": sub.epoch,
                    "head": sub.head,
                    "delivered": delivered,
                    "read": read,
                    "floor": sub.floor,
                    "unread": unread(head=sub.head, floor=sub.floor, read=read, sent=sent),
                }
            )
        done = len(page) == len(subscriptions)
        return (
            Op.PAGE,
            frame_id,
            "streams",
            0,
            len(subscriptions),
            entries,
            done,
            page[-1].stream_id if page else after,
        )

    async def _entries(self, conn: Connection, session: Session, frame: Sync, after: int, limit: int) -> None:
        stream_id = session.stream_id(frame.stream)
        assert stream_id is not None
        head = await self._node.store.stream(stream_id)
        floor = session.floors.get(stream_id)
        if head is None or floor is None:
            raise NotFound("no such conversation", detail={"stream": frame.stream})
        if after > head.head or 0 < after < floor:
            raise Reset(detail={"epoch": head.epoch, "head": head.head, "floor": floor})
        entries = await self._node.store.entries(stream_id, max(after, floor), limit)
        packed: list[bytes] = []
        size = 0
        last = max(after, floor)
        for entry in entries:
            each = event_of(entry, frame.stream).packed
            if packed and size + len(each) > limits.PAGE_BYTES:
                break
            packed.append(each)
            size += len(each)
            last = entry.seq
        if stream_id not in session.floors:  # removed while we read
            raise NotFound("no such conversation", detail={"stream": frame.stream})
        newest = max(head.head, last)
        fields: list[Any] = (
            [codec.unpack(each) for each in packed] if conn.text else [msgspec.Raw(each) for each in packed]
        )
        conn.push((Op.PAGE, frame.id, frame.stream, head.epoch, newest, fields, last >= newest, last))
