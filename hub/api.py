"""What other packages may use of the hub: streams inside their own transactions, and the ends of sessions.

The functions work in the caller's transaction: a conversation, its members and the entry that says so are committed
together or not at all. Nodes are woken after the commit; if that is lost they find out by themselves within 2 seconds.

They lock the stream that they write to, and `post` then rows of files. Who holds rows of files already may `tell`,
which locks inboxes only: no message with files is ever written into one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.actions import Command, Context, Id, Value
from core.db import Transaction, UniqueViolation
from core.errors import Conflict, Forbidden, Invalid, NotFound
from core.runtime import Runtime
from hub.membership import store as membership
from hub.membership.store import MemberMarks
from hub.node.ports import Gate, StreamPolicy
from hub.streams import store
from hub.streams.files import Asked, Attached, Carrier, Files, attached
from hub.streams.rules import MEMBERSHIP, chain_digest, content_digest, storable, unread
from hub.streams.store import Entry, SqlCommitTx, StreamHead
from hub.wire import limits
from hub.wire.close import Bye
from hub.wire.codec import pack, unpack

if TYPE_CHECKING:
    from core.clock import Clock
    from core.ids import Ids

__all__ = [
    "CONVERSATION", "MEMBERSHIP", "SYSTEM", "Asked", "Attached", "Bye", "Carrier", "CloseSessions", "Entry", "Files",
    "Gate", "MemberMarks", "StreamPolicy", "StreamState", "Within", "amend", "append", "change_members", "entries",
    "last_entries", "marks", "open_stream", "post", "signal_person", "stream_states", "tell", "unpack", "visible",
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


@dataclass(frozen=True, slots=True)
class Within:
    """What these functions need of a `Context`, for who has a transaction and no invocation: jobs and their like."""

    runtime: Runtime
    tx: Transaction

    @property
    def clock(self) -> Clock:
        return self.runtime.clock

    @property
    def ids(self) -> Ids:
        return self.runtime.ids

    def after_commit(self, hook: Callable[[], None]) -> None:
        """Runs `hook` once the transaction has committed."""
        self.tx.on_commit(hook)


async def open_stream(ctx: Context, stream_id: int, enterprise_id: int, kind: str = CONVERSATION) -> None:
    """A new, empty stream without subscribers."""
    await membership.insert_stream(ctx.tx, stream_id, enterprise_id, kind, epoch=ctx.clock.now_ms())


async def append(
    ctx: Context | Within,
    stream_id: int,
    kind: str,
    body: dict[str, Any],
    *,
    key: str | None = None,
    sender_id: int = SYSTEM,
) -> Entry:
    """Appends an entry in the caller's transaction; the stream stays locked until it ends. A sender has read it.

    `key` makes it unique for ever (per sender). Raises `NotFound`; `UniqueViolation` for a used key.
    """
    head = await _lock(ctx, stream_id)
    return await _append(ctx, head, kind, pack(body), key=key, sender_id=sender_id)


async def tell(
    ctx: Context | Within,
    enterprise_id: int,
    person_id: int,
    kind: str,
    body: dict[str, Any],
    *,
    key: str | None = None,
) -> Entry:
    """Appends an entry to a member's inbox, which is opened if they never were here; else as `append`.

    It is told exactly if the caller's transaction commits, and the member finds it whenever they come.
    """
    stream_id = await _inbox(ctx, enterprise_id, person_id)
    return await append(ctx, stream_id, kind, body, key=key)


async def _inbox(ctx: Context | Within, enterprise_id: int, person_id: int) -> int:
    found = await membership.inbox_of(ctx.tx, enterprise_id, person_id)
    if found is not None:
        return found
    fresh = ctx.ids.next()
    try:
        async with ctx.tx.savepoint():
            await membership.insert_inboxes(ctx.tx, [(fresh, enterprise_id, person_id)], ctx.clock.now_ms())
    except UniqueViolation:  # somebody else opened it a moment ago
        found = await membership.inbox_of(ctx.tx, enterprise_id, person_id)
        assert found is not None, "an inbox is never closed"
        return found
    return fresh


async def post(
    ctx: Context, stream_id: int, kind: str, body: Any, *, key: str, sender_id: int, carrier: Carrier,
    options: dict[str, Any] | None = None,
) -> tuple[Entry, bool]:  # fmt: skip
    """What SEND does, in the caller's transaction: the entry, and whether this key had made it before.

    What may be said was checked by the caller. `carrier` says which files it carries and who keeps them. Raises
    `NotFound`, `Forbidden` for one who is not a member, `Conflict` for a key that said something else, and what speaks
    against the files.
    """
    head, tx = await _lock(ctx, stream_id), SqlCommitTx(ctx.tx)
    asked = carrier.asked(head.enterprise_id, sender_id, kind, body)

    async def usable() -> None:
        if asked is not None:
            (why,) = await carrier.files.usable(tx.transaction, [asked])
            if why is not None:
                raise why

    packed_options = pack(options) if options else None
    entry, duplicate = await _post(
        ctx, head, kind, pack(body), packed_options, key=key, sender_id=sender_id, first=usable
    )
    if asked is not None and not duplicate:
        await carrier.files.attach(tx.transaction, attached(asked, entry))
    return entry, duplicate


async def amend(
    ctx: Context, stream_id: int, change: str, seq: int, value: Any, *, key: str, sender_id: int, carrier: Carrier,
    check: Callable[[Entry], None],
) -> tuple[Entry, bool]:  # fmt: skip
    """What AMEND does, likewise; `check` is given the entry to be changed and raises what speaks against it."""
    head, tx = await _lock(ctx, stream_id), SqlCommitTx(ctx.tx)

    async def on_target() -> None:
        target = await tx.entry(stream_id, seq)
        if target is None:
            raise NotFound("no such message in this conversation")
        check(target)
        if change == "recall":
            await tx.erase([(stream_id, seq)])
            if carrier.carries(target):
                await carrier.files.release(tx.transaction, [(stream_id, seq)])

    body = pack({"seq": seq, "value": value})
    return await _post(ctx, head, change, body, None, key=key, sender_id=sender_id, first=on_target)


async def _post(
    ctx: Context, head: StreamHead, kind: str, packed: bytes, options: bytes | None, *, key: str, sender_id: int,
    first: Callable[[], Awaitable[None]],
) -> tuple[Entry, bool]:  # fmt: skip
    """Appends what a person says to a locked stream, unless the key has done so; `first` runs before, or raises."""
    tx, stream_id = SqlCommitTx(ctx.tx), head.stream_id
    earlier = (await tx.by_keys([(sender_id, key)])).get((sender_id, key))
    if earlier is not None:
        if earlier.stream_id != stream_id or earlier.content != content_digest(kind, packed, options):
            raise Conflict("this key was used for another message", detail={"seq": earlier.seq})
        return earlier, True
    if not await tx.members(stream_id, [sender_id]):
        raise Forbidden("you are no longer a member of this conversation")
    await first()
    return await _append(ctx, head, kind, packed, key=key, sender_id=sender_id, options=options), False


async def change_members(
    ctx: Context, stream_id: int, *, added: Sequence[int] = (), removed: Sequence[int] = (), by: int = SYSTEM,
    history: bool = False, seen_by: Sequence[int] = (),
) -> tuple[list[int], list[int]]:  # fmt: skip
    """Subscribes and unsubscribes persons; one membership entry says who really came and went (none if nobody did).

    With `history` those who come may read what was said before. The entry is nothing new to `by` and `seen_by`.
    Raises `NotFound`.
    """
    head = await _lock(ctx, stream_id)
    joined, left = await membership.change_members(
        ctx.tx,
        head,
        added=added,
        removed=removed,
        floor=0 if history else head.head,
        now_ms=ctx.clock.now_ms(),
    )
    if joined or left:
        body = {"added": [str(p) for p in joined], "removed": [str(p) for p in left], "by": str(by)}
        await _append(ctx, head, MEMBERSHIP, pack(body), added=joined, seen_by=[by, *seen_by])
    return joined, left


async def _lock(ctx: Context | Within, stream_id: int) -> StreamHead:
    head = (await SqlCommitTx(ctx.tx).lock([stream_id])).get(stream_id)
    if head is None:
        raise NotFound("no such stream")
    return head


async def _append(
    ctx: Context | Within, head: StreamHead, kind: str, packed: bytes, *, key: str | None = None,
    sender_id: int = SYSTEM, options: bytes | None = None, added: Sequence[int] = (), seen_by: Sequence[int] = (),
) -> Entry:  # fmt: skip
    """Appends to a stream that is locked as `head` says."""
    tx = SqlCommitTx(ctx.tx)
    stream_id, seq = head.stream_id, head.head + 1
    content = content_digest(kind, packed, options)
    entry_id, now_ms = ctx.ids.next(), ctx.clock.now_ms()
    entry = Entry(
        stream_id=stream_id, seq=seq, entry_id=entry_id, sender_id=sender_id, kind=kind, time_ms=now_ms,
        body=packed, options=options, content=content,
        digest=chain_digest(head.digest, stream_id, seq, entry_id, sender_id, now_ms, content),
        enterprise_id=head.enterprise_id, key=key or f"entry-{entry_id}",
    )  # fmt: skip
    await tx.append([entry])
    await tx.advance([(stream_id, entry.seq, entry.digest)])
    await membership.mark_seen(ctx.tx, stream_id, {sender_id, *seen_by} - {SYSTEM}, seq)
    change = [stream_id, head.enterprise_id, list(added)]
    ctx.after_commit(lambda: _tell(ctx, "changed", [change]))
    return entry


async def stream_states(
    ctx: Context, person_id: int, enterprise_id: int, stream_ids: Sequence[int]
) -> dict[int, StreamState]:
    """Those of these streams that the person is subscribed to, with watermarks and unread counts."""
    return {
        s.stream_id: StreamState(
            stream_id=s.stream_id, head=s.head, floor=s.floor, delivered=s.delivered, read=s.read,
            unread=unread(head=s.head, floor=s.floor, read=s.read, sent=s.sent),
        )
        for s in await membership.subscriptions_to(ctx.tx, person_id, enterprise_id, stream_ids)
    }  # fmt: skip


async def visible(
    tx: Transaction, person_id: int, enterprise_id: int, places: Collection[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Those of these entries (stream, seq) that a person may read: as a member, from their time on, up to the head."""
    asked = sorted({stream_id for stream_id, _ in places})
    found = await membership.subscriptions_to(tx, person_id, enterprise_id, asked) if asked else []
    spans = {s.stream_id: (s.floor, s.head) for s in found}
    return {
        (stream_id, seq)
        for stream_id, seq in places
        if stream_id in spans and spans[stream_id][0] < seq <= spans[stream_id][1]
    }


async def entries(ctx: Context, stream_id: int, after: int, limit: int) -> list[Entry]:
    """Entries after a seq, in order. Whether the caller's person may read them was checked by the caller."""
    return await store.entries(ctx.tx, stream_id, after, limit)


async def last_entries(ctx: Context, stream_ids: Sequence[int]) -> dict[int, Entry]:
    """The newest entry of each of these streams that has any; the same holds."""
    return {entry.stream_id: entry for entry in await store.last_entries(ctx.tx, stream_ids)}


async def marks(
    ctx: Context, stream_id: int, enterprise_id: int, after: int, limit: int
) -> list[MemberMarks]:
    """Watermarks of a stream's members after a person, by person."""
    return await membership.member_marks(ctx.tx, stream_id, enterprise_id, after, limit)


def close_sessions(ctx: Context, command: CloseSessions) -> None:
    """Tells every node after the commit."""
    payload = [
        [command.enterprise_id, command.person_id, command.session_id or 0, command.code, command.reason]
    ]
    ctx.after_commit(lambda: _tell(ctx, "close", payload))


def signal_person(runtime: Runtime, enterprise_id: int, person_id: int, what: str, value: Any = None) -> None:
    """SIGNAL to all sessions of a member, on every node, at once; never stored, and lost where anything is in its way.

    For what the next one makes old, like progress; say it a few times a second at most. In an action it is said by
    `ctx.after_commit`. Raises `Invalid` for a value that no frame can hold or of more than `SIGNAL_BYTES`.
    """
    if not 1 <= len(what) <= limits.SIGNAL_CHARS or what in limits.OWN_SIGNALS:
        raise Invalid("a signal has a name that is not the hub's own")
    if not storable(value) or len(pack(value)) > limits.SIGNAL_BYTES:
        raise Invalid(f"the value of a signal is a body of at most {limits.SIGNAL_BYTES} bytes")
    _publish(runtime, "signal", [enterprise_id, person_id, what, value])


def _tell(ctx: Context | Within, kind: str, payload: Any) -> None:
    _publish(ctx.runtime, kind, payload)


def _publish(runtime: Runtime, kind: str, payload: Any) -> None:
    runtime.bus.publish("hub:all", msgspec.msgpack.encode([kind, "", 0, payload]))
