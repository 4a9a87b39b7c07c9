"""What other packages may use of the hub: streams inside their own transactions, and the ends of sessions.

The functions work in the caller's transaction: a conversation, its members and the entry that says so are committed
together or not at all. Nodes are woken after the commit; if that is lost they find out by themselves within 2 seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from core.actions import Command, Context, Id, Value
from core.errors import NotFound
from hub.node.ports import Gate, StreamPolicy
from hub.streams import store
from hub.streams.rules import MEMBERSHIP, chain_digest, content_digest, unread
from hub.streams.store import Entry, SqlCommitTx
from hub.wire.close import Bye
from hub.wire.codec import pack, unpack

__all__ = [
    "CONVERSATION", "SYSTEM", "Bye", "CloseSessions", "Entry", "Gate", "StreamPolicy", "StreamState", "append",
    "change_members", "open_stream", "stream_states", "unpack",
]  # fmt: skip

CONVERSATION: Final = "conversation"
SYSTEM: Final = 0  # sender of entries that no person wrote


class StreamState(Value):
    """A stream as one of its subscribers sees it."""

    stream_id: Id
    head: int
    floor: int
    delivered: int
    read: int
    unread: int


class CloseSessions(Command[None], action="hub.sessions.close"):
    """Ends sessions on every node: a person's in one enterprise, or just one session."""

    person_id: Id
    enterprise_id: Id
    session_id: Id | None = None
    code: int
    reason: str


async def open_stream(ctx: Context, stream_id: int, enterprise_id: int, kind: str = CONVERSATION) -> None:
    """A new, empty stream without subscribers."""
    await store.insert_stream(ctx.tx, stream_id, enterprise_id, kind, epoch=ctx.clock.now_ms())


async def append(
    ctx: Context,
    stream_id: int,
    kind: str,
    body: dict[str, Any],
    *,
    key: str | None = None,
    sender_id: int = SYSTEM,
) -> Entry:
    """Appends an entry in the caller's transaction; the stream stays locked until it ends.

    `key` makes it unique for ever (per sender). Raises `NotFound`; `UniqueViolation` for a used key.
    """
    return await _append(ctx, stream_id, kind, body, key=key, sender_id=sender_id, added=())


async def change_members(
    ctx: Context, stream_id: int, *, added: Sequence[int] = (), removed: Sequence[int] = (), by: int = SYSTEM,
    history: bool = False,
) -> tuple[list[int], list[int]]:  # fmt: skip
    """Subscribes and unsubscribes persons; one membership entry says who really came and went (none if nobody did).

    With `history` those who come may read what was said before. Raises `NotFound`.
    """
    tx = SqlCommitTx(ctx.tx)
    head = (await tx.lock([stream_id])).get(stream_id)
    if head is None:
        raise NotFound("no such conversation")
    joined, left = await store.change_members(
        ctx.tx,
        head,
        added=added,
        removed=removed,
        floor=0 if history else head.head,
        now_ms=ctx.clock.now_ms(),
    )
    if joined or left:
        body = {"added": [str(p) for p in joined], "removed": [str(p) for p in left], "by": str(by)}
        await _append(ctx, stream_id, MEMBERSHIP, body, key=None, sender_id=SYSTEM, added=joined)
    return joined, left


async def _append(
    ctx: Context,
    stream_id: int,
    kind: str,
    body: dict[str, Any],
    *,
    key: str | None,
    sender_id: int,
    added: Sequence[int],
) -> Entry:
    tx = SqlCommitTx(ctx.tx)
    head = (await tx.lock([stream_id])).get(stream_id)
    if head is None:
        raise NotFound("no such stream")
    packed = pack(body)
    content = content_digest(kind, packed, None)
    entry_id, now_ms = ctx.ids.next(), ctx.clock.now_ms()
    entry = Entry(
        stream_id=stream_id, seq=head.head + 1, entry_id=entry_id, sender_id=sender_id, kind=kind, time_ms=now_ms,
        body=packed, options=None, content=content,
        digest=chain_digest(head.digest, stream_id, head.head + 1, entry_id, sender_id, now_ms, content),
        enterprise_id=head.enterprise_id, key=key or f"entry-{entry_id}",
    )  # fmt: skip
    await tx.append([entry])
    await tx.advance([(stream_id, entry.seq, entry.digest)])
    change = [stream_id, head.enterprise_id, list(added)]
    ctx.after_commit(lambda: _tell(ctx, "changed", [change]))
    return entry


async def stream_states(ctx: Context, person_id: int, enterprise_id: int) -> dict[int, StreamState]:
    """The streams of a member with their watermarks and unread counts."""
    found = await store.StreamStore(ctx.runtime.db).subscriptions([person_id])
    return {
        s.stream_id: StreamState(
            stream_id=s.stream_id, head=s.head, floor=s.floor, delivered=s.delivered, read=s.read,
            unread=unread(head=s.head, floor=s.floor, read=s.read, sent=s.sent),
        )
        for s in found
        if s.enterprise_id == enterprise_id
    }  # fmt: skip


def close_sessions(ctx: Context, command: CloseSessions) -> None:
    """Tells every node after the commit."""
    payload = [
        [command.enterprise_id, command.person_id, command.session_id or 0, command.code, command.reason]
    ]
    ctx.after_commit(lambda: _tell(ctx, "close", payload))


def _tell(ctx: Context, kind: str, payload: Any) -> None:
    ctx.runtime.bus.publish("hub:all", msgspec.msgpack.encode([kind, "", 0, payload]))
