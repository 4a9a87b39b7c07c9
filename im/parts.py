"""What the actions of im share: whose conversation it is, who is a colleague, how entries are shown."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from core.clock import to_ms
from core.context import Context
from core.db import Record
from core.errors import Forbidden, NotFound
from hub import api as hub
from im import api
from im.conversations import store

if TYPE_CHECKING:
    from im.service import ImService


async def mine(ctx: Context, conversation_id: int, *, lock: bool = False) -> Record:
    """The conversation with the caller's `member_role`.

    Raises `NotFound` where the caller is not in it, which does not tell whether it exists. With `lock` nobody changes
    its members, owners or title before the transaction ends.
    """
    if lock:
        await store.lock(ctx.tx, conversation_id, ctx.enterprise_id)
    row = await store.as_member(ctx.tx, conversation_id, ctx.enterprise_id, ctx.caller.person_id)
    if row is None:
        raise NotFound("no such conversation")
    return row


async def colleagues(ctx: Context, person_ids: Sequence[int]) -> None:
    """The caller and all these people belong to the enterprise, and will until the transaction ends.

    Comes before any lock of a conversation, as the end of a membership does it. Raises `Forbidden` and `NotFound`.
    """
    me = ctx.caller.person_id
    people = cast("ImService", ctx.service).people
    active = await people.active(ctx.tx, ctx.enterprise_id, sorted({me, *person_ids}))
    if me not in active:
        raise Forbidden("the membership has ended")
    missing = sorted(set(person_ids) - active)
    if missing:
        raise NotFound(
            "no such people in this enterprise", detail={"person_ids": [str(p) for p in missing[:20]]}
        )


async def shown(ctx: Context, rows: Sequence[Record]) -> list[api.Conversation]:
    """Conversations as the caller sees them, with watermarks and the newest entry; `rows` are the store's."""
    me, ids = ctx.caller.person_id, [row["conversation_id"] for row in rows]
    states = await hub.stream_states(ctx, me, ctx.enterprise_id, ids)
    last = await hub.last_entries(ctx, ids)
    return [
        _conversation(row, me, states[i], last.get(i))
        for row, i in zip(rows, ids, strict=True)
        if i in states
    ]


def _conversation(row: Record, me: int, state: hub.StreamState, last: hub.Entry | None) -> api.Conversation:
    preview = [int(person) for person in (row["preview"] or "").split(",") if person]
    peers = [person for person in preview if person != me]
    return api.Conversation(
        conversation_id=row["conversation_id"],
        kind=row["kind"],
        title=row["title"],
        peer_id=peers[0] if row["kind"] == "direct" and peers else None,
        created_by=row["created_by"],
        created_ms=to_ms(row["created_at"]),
        role=row["member_role"],
        member_count=row["member_count"],
        preview=preview,
        head=state.head,
        floor=state.floor,
        delivered=state.delivered,
        read=state.read,
        unread=state.unread,
        last=None if last is None or last.seq <= state.floor else entry(last),
    )


def entry(stored: hub.Entry) -> api.Entry:
    """An entry of the hub as actions show it."""
    return api.Entry(
        seq=stored.seq,
        entry_id=stored.entry_id,
        sender_id=stored.sender_id,
        kind=stored.kind,
        time_ms=stored.time_ms,
        body=None if stored.body is None else _plain(hub.unpack(stored.body)),
        options=None if stored.options is None else _plain(hub.unpack(stored.options)),
        digest=stored.digest,
    )


def _plain(value: Any) -> Any:
    """What JSON can say of a body: bytes as base64, like the hub's JSON subprotocol."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value
