"""SQL of who belongs to a stream: written by services inside their own transactions, through `hub.api`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct

from core.db import Database, Queries, Transaction, sql
from hub.streams.rules import EMPTY_DIGEST
from hub.streams.store import HEAD, MEMBERS_OF, STREAM_ONLY, SUBSCRIPTION, StreamHead, Subscription


class MemberMarks(Struct, frozen=True):
    """How far a member has come. The times are those of the newest mark, so of `seq` at the latest."""

    person_id: int
    floor: int
    delivered: int
    delivered_ms: int | None
    read: int
    read_ms: int | None
    sent: int


MEMBER_MARKS = sql(
    "SELECT person_id, floor_seq, delivered_seq, delivered_ms, read_seq, read_ms, sent_seq FROM hub_subscriptions "
    "WHERE stream_id = $1 AND enterprise_id = $2 AND active = 1 AND person_id > $3 ORDER BY person_id LIMIT $4"
)
SUBSCRIPTIONS_TO = sql(
    f"SELECT {SUBSCRIPTION} FROM hub_subscriptions s JOIN hub_streams t ON t.stream_id = s.stream_id "
    "AND t.enterprise_id = s.enterprise_id "
    "WHERE s.active = 1 AND s.person_id = $1 AND s.enterprise_id = $2 AND s.stream_id IN ($*)"
)
SEEN = sql(
    "UPDATE hub_subscriptions SET sent_seq = GREATEST(sent_seq, $2) WHERE stream_id = $1 AND person_id IN ($*)",
    exempt=STREAM_ONLY,
)
INSERT_STREAM = sql(
    f"INSERT INTO hub_streams ({HEAD}) VALUES ($1, $2, $3, $4, 0, $5, 1, 0)",
)
SUBSCRIBED = sql(
    "SELECT person_id, active FROM hub_subscriptions WHERE stream_id = $1 AND person_id IN ($*)",
    exempt=STREAM_ONLY,
)
REJOIN = sql(
    "UPDATE hub_subscriptions SET active = 1, floor_seq = $3, changed_ms = $4, delivered_seq = $3, read_seq = $3 "
    "WHERE stream_id = $1 AND person_id = $2",
    exempt=STREAM_ONLY,
)
LEAVE = sql(
    "UPDATE hub_subscriptions SET active = 0, changed_ms = $2 WHERE stream_id = $1 AND person_id IN ($*)",
    exempt=STREAM_ONLY,
)
MEMBERSHIP_CHANGED = sql(
    "UPDATE hub_streams SET members_version = members_version + 1, member_count = member_count + $2 "
    "WHERE stream_id = $1",
    exempt=STREAM_ONLY,
)
INBOXES_OF = sql(
    "SELECT enterprise_id, person_id FROM hub_inboxes WHERE person_id IN ($*)",
    exempt="one query for members of several enterprises; the answer is compared with the pairs asked for",
)
INBOX_OF = sql("SELECT stream_id FROM hub_inboxes WHERE enterprise_id = $1 AND person_id = $2")

_SUBSCRIPTION_COLUMNS = (
    "stream_id", "person_id", "enterprise_id", "active", "floor_seq", "changed_ms", "delivered_seq", "read_seq",
    "sent_seq",
)  # fmt: skip


async def subscriptions_to(
    db: Queries, person_id: int, enterprise_id: int, stream_ids: Sequence[int]
) -> list[Subscription]:
    """A person's active subscriptions to these streams."""
    rows = await db.fetch_in(SUBSCRIPTIONS_TO, stream_ids, person_id, enterprise_id)
    return [Subscription(*row) for row in rows]


async def member_marks(
    db: Queries, stream_id: int, enterprise_id: int, after: int, limit: int
) -> list[MemberMarks]:
    """A page of a stream's members with their watermarks, by person."""
    rows = await db.fetch(MEMBER_MARKS, stream_id, enterprise_id, after, limit)
    return [MemberMarks(*row) for row in rows]


async def mark_seen(tx: Transaction, stream_id: int, person_ids: Collection[int], seq: int) -> None:
    """What somebody did counts as read by them."""
    await tx.execute_in(SEEN, sorted(person_ids), stream_id, seq)


async def insert_stream(tx: Transaction, stream_id: int, enterprise_id: int, kind: str, epoch: int) -> None:
    """A new, empty stream."""
    await tx.execute(INSERT_STREAM, stream_id, enterprise_id, kind, epoch, EMPTY_DIGEST)


async def change_members(
    tx: Transaction,
    head: StreamHead,
    *,
    added: Sequence[int],
    removed: Sequence[int],
    floor: int,
    now_ms: int,
) -> tuple[list[int], list[int]]:
    """Subscribes and unsubscribes persons of a stream that the caller has locked; returns who really changed."""
    known = (
        {row[0]: row[1] == 1 for row in await tx.fetch_in(SUBSCRIBED, list(added), head.stream_id)}
        if added
        else {}
    )
    joined = [p for p in dict.fromkeys(added) if not known.get(p, False)]
    fresh = [p for p in joined if p not in known]
    back = [(head.stream_id, p, floor, now_ms) for p in joined if p in known]
    if back:
        await tx.executemany(REJOIN, back)
    if fresh:
        await tx.insert_many(
            "hub_subscriptions",
            _SUBSCRIPTION_COLUMNS,
            [(head.stream_id, p, head.enterprise_id, 1, floor, now_ms, floor, floor, 0) for p in fresh],
        )
    here = {row[0] for row in await tx.fetch_in(MEMBERS_OF, list(removed), head.stream_id)}
    left = [p for p in dict.fromkeys(removed) if p in here]
    await tx.execute_in(LEAVE, left, head.stream_id, now_ms)
    if joined or left:
        await tx.execute(MEMBERSHIP_CHANGED, head.stream_id, len(joined) - len(left))
    return joined, left


async def insert_inboxes(tx: Transaction, inboxes: Sequence[tuple[int, int, int]], now_ms: int) -> None:
    """Inbox streams, each with its one subscriber: (stream, enterprise, person). Raises `UniqueViolation`."""
    await tx.insert_many("hub_inboxes", ("stream_id", "enterprise_id", "person_id"), inboxes)
    await tx.insert_many(
        "hub_streams",
        tuple(name.strip() for name in HEAD.split(",")),
        [(stream, enterprise, "inbox", now_ms, 0, EMPTY_DIGEST, 1, 1) for stream, enterprise, _ in inboxes],
    )
    await tx.insert_many(
        "hub_subscriptions",
        _SUBSCRIPTION_COLUMNS,
        [(stream, person, enterprise, 1, 0, now_ms, 0, 0, 0) for stream, enterprise, person in inboxes],
    )


async def with_inbox(db: Database, person_ids: Sequence[int]) -> set[tuple[int, int]]:
    """(enterprise, person) pairs of these persons that have an inbox."""
    return {(row[0], row[1]) for row in await db.fetch_in(INBOXES_OF, person_ids)}


async def inbox_of(db: Queries, enterprise_id: int, person_id: int) -> int | None:
    """The stream of a member's inbox; None if it was never opened."""
    found: int | None = await db.fetchval(INBOX_OF, enterprise_id, person_id)
    return found
