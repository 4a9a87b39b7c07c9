"""SQL of streams, entries and subscriptions. Nothing else touches these tables.

`StreamStore` is what the hub's nodes see of the database; the simulation puts a double in its place that one contract
suite holds against this one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from msgspec import Struct

from core.db import Database, Queries, Transaction, sql
from hub.wire.codec import unpack

STREAM_ONLY = "a stream belongs to one enterprise; the caller was checked against its subscriptions"


class StreamHead(Struct, frozen=True):
    """A stream as its row says, locked or not."""

    stream_id: int
    enterprise_id: int
    kind: str
    epoch: int
    head: int
    digest: bytes
    members_version: int
    member_count: int


class Entry(Struct, frozen=True):
    """One committed entry; `body` and `options` are canonical msgpack, `body` None once removed."""

    stream_id: int
    seq: int
    entry_id: int
    sender_id: int
    kind: str
    time_ms: int
    body: bytes | None
    options: bytes | None
    content: bytes
    digest: bytes
    enterprise_id: int
    key: str


class Subscription(Struct):
    """What one person may see of one stream, and how far they have come."""

    stream_id: int
    person_id: int
    enterprise_id: int
    kind: str
    epoch: int
    head: int
    members_version: int
    member_count: int
    floor: int
    delivered: int
    read: int
    sent: int


class Mark(Struct):
    """Watermarks to be written; 0 leaves what is there."""

    stream_id: int
    person_id: int
    delivered: int = 0
    delivered_ms: int = 0
    read: int = 0
    read_ms: int = 0
    sent: int = 0


class CommitTx(Protocol):
    """One group commit. Streams are locked in id order before anything is decided."""

    @property
    def transaction(self) -> Transaction: ...  # for ports that write in it
    async def lock(self, stream_ids: Sequence[int]) -> dict[int, StreamHead]: ...
    async def members(self, stream_id: int, person_ids: Sequence[int]) -> set[int]: ...
    async def by_keys(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Entry]: ...
    async def entry(self, stream_id: int, seq: int) -> Entry | None: ...
    async def append(self, entries: Sequence[Entry]) -> None: ...
    async def advance(self, heads: Iterable[tuple[int, int, bytes]]) -> None: ...
    async def erase(self, targets: Sequence[tuple[int, int]]) -> None: ...


class Store(Protocol):
    """What a node reads and writes of streams; `StreamStore` is it on the database."""

    def commit(self) -> AbstractAsyncContextManager[CommitTx]: ...
    async def heads(self, stream_ids: Sequence[int]) -> dict[int, int]: ...
    async def entries(self, stream_id: int, after: int, limit: int) -> list[Entry]: ...
    async def stream(self, stream_id: int) -> StreamHead | None: ...
    async def subscriptions(self, person_ids: Sequence[int]) -> list[Subscription]: ...
    async def changed_since(self, time_ms: int) -> list[tuple[Subscription, bool]]: ...
    async def save_marks(self, marks: Sequence[Mark]) -> None: ...


HEAD = "stream_id, enterprise_id, kind, epoch, head, digest, members_version, member_count"
_ENTRY = (
    "stream_id, seq, entry_id, sender_id, kind, time_ms, body, options, content_digest, digest, "
    "enterprise_id, dedupe_key"
)
SUBSCRIPTION = (
    "s.stream_id, s.person_id, s.enterprise_id, t.kind, t.epoch, t.head, t.members_version, t.member_count, "
    "s.floor_seq, s.delivered_seq, s.read_seq, s.sent_seq"
)

LOCK = sql(
    f"SELECT {HEAD} FROM hub_streams WHERE stream_id IN ($*) ORDER BY stream_id FOR UPDATE",
    exempt=STREAM_ONLY,
)
HEADS = sql("SELECT stream_id, head FROM hub_streams WHERE stream_id IN ($*)", exempt=STREAM_ONLY)
STREAM = sql(f"SELECT {HEAD} FROM hub_streams WHERE stream_id = $1", exempt=STREAM_ONLY)
MEMBERS_OF = sql(
    "SELECT person_id FROM hub_subscriptions WHERE stream_id = $1 AND active = 1 AND person_id IN ($*)",
    exempt=STREAM_ONLY,
)
BY_KEYS = sql(
    f"SELECT {_ENTRY} FROM hub_entries WHERE sender_id = $1 AND dedupe_key IN ($*)",
    exempt="a key is unique per sender over all streams; the writer compares what was said before it answers",
)
ENTRY_AT = sql(f"SELECT {_ENTRY} FROM hub_entries WHERE stream_id = $1 AND seq = $2", exempt=STREAM_ONLY)
ENTRIES = sql(
    f"SELECT {_ENTRY} FROM hub_entries WHERE stream_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
    exempt=STREAM_ONLY,
)
ADVANCE = sql("UPDATE hub_streams SET head = $2, digest = $3 WHERE stream_id = $1", exempt=STREAM_ONLY)
EDITS_AFTER = sql(
    "SELECT seq, body FROM hub_entries WHERE stream_id = $1 AND seq > $2 AND kind = 'edit' AND body IS NOT NULL",
    exempt=STREAM_ONLY,
)
ERASE = sql(
    "UPDATE hub_entries SET body = NULL, options = NULL WHERE stream_id = $1 AND seq = $2", exempt=STREAM_ONLY
)
SUBSCRIPTIONS = sql(
    f"SELECT {SUBSCRIPTION} FROM hub_subscriptions s JOIN hub_streams t ON t.stream_id = s.stream_id "
    "WHERE s.active = 1 AND s.person_id IN ($*) ORDER BY s.person_id, s.stream_id",
    exempt="one query for sessions of several enterprises; each session keeps its own enterprise's rows only",
)
CHANGED = sql(
    f"SELECT {SUBSCRIPTION}, s.active FROM hub_subscriptions s JOIN hub_streams t ON t.stream_id = s.stream_id "
    "WHERE s.changed_ms >= $1 ORDER BY s.stream_id, s.person_id",
    exempt="a node looks at every enterprise's changes; each session takes its own only",
)
MARK = sql(
    "UPDATE hub_subscriptions SET delivered_seq = GREATEST(delivered_seq, $3), "
    "delivered_ms = CASE WHEN $3 > delivered_seq THEN $4 ELSE delivered_ms END, "
    "read_seq = GREATEST(read_seq, $5), read_ms = CASE WHEN $5 > read_seq THEN $6 ELSE read_ms END, "
    "sent_seq = GREATEST(sent_seq, $7) WHERE stream_id = $1 AND person_id = $2",
    exempt=STREAM_ONLY,
)
MARKS_OF = sql(
    "SELECT person_id, delivered_seq, delivered_ms, read_seq, read_ms FROM hub_subscriptions "
    "WHERE stream_id = $1 AND enterprise_id = $2 AND active = 1 ORDER BY person_id"
)
LAST_ENTRIES = sql(
    f"SELECT {', '.join('e.' + name.strip() for name in _ENTRY.split(','))} FROM hub_entries e "
    "JOIN hub_streams t ON t.stream_id = e.stream_id AND t.head = e.seq WHERE t.stream_id IN ($*)",
    exempt=STREAM_ONLY,
)
STREAM_IDS = sql(
    "SELECT stream_id FROM hub_streams WHERE stream_id > $1 ORDER BY stream_id LIMIT $2",
    exempt="verification walks every enterprise's streams and shows none of their contents",
)

_ENTRY_COLUMNS = tuple(name.strip() for name in _ENTRY.split(","))


class SqlCommitTx:
    """`CommitTx` on the database."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    @property
    def transaction(self) -> Transaction:
        """What others write in, together with this commit."""
        return self._tx

    async def lock(self, stream_ids: Sequence[int]) -> dict[int, StreamHead]:
        """Locks the streams in id order (two nodes never deadlock) and returns those that exist."""
        rows = await self._tx.fetch_in(LOCK, sorted(stream_ids))
        return {row[0]: StreamHead(*row) for row in rows}

    async def members(self, stream_id: int, person_ids: Sequence[int]) -> set[int]:
        """Which of these persons are subscribed now."""
        return {row[0] for row in await self._tx.fetch_in(MEMBERS_OF, person_ids, stream_id)}

    async def by_keys(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Entry]:
        """Entries that these (sender, key) pairs made earlier."""
        of_sender: dict[int, list[str]] = {}
        for sender, key in keys:
            of_sender.setdefault(sender, []).append(key)
        found: dict[tuple[int, str], Entry] = {}
        for sender, names in of_sender.items():
            for row in await self._tx.fetch_in(BY_KEYS, names, sender):
                entry = Entry(*row)
                found[sender, entry.key] = entry
        return found

    async def entry(self, stream_id: int, seq: int) -> Entry | None:
        """One entry, for AMEND."""
        row = await self._tx.fetchrow(ENTRY_AT, stream_id, seq)
        return None if row is None else Entry(*row)

    async def append(self, entries: Sequence[Entry]) -> None:
        """Inserts entries. Raises `UniqueViolation` when a key was used before."""
        await self._tx.insert_many(
            "hub_entries",
            _ENTRY_COLUMNS,
            [
                (e.stream_id, e.seq, e.entry_id, e.sender_id, e.kind, e.time_ms, e.body, e.options, e.content, e.digest,
                 e.enterprise_id, e.key)
                for e in entries
            ],
        )  # fmt: skip

    async def advance(self, heads: Iterable[tuple[int, int, bytes]]) -> None:
        """Moves heads: (stream, seq, digest)."""
        await self._tx.executemany(ADVANCE, list(heads))

    async def erase(self, targets: Sequence[tuple[int, int]]) -> None:
        """Removes bodies (recall), those of later edits too; digests stay."""
        doomed = list(targets)
        for stream_id, seq in targets:
            edits = await self._tx.fetch(EDITS_AFTER, stream_id, seq)
            doomed += [(stream_id, row[0]) for row in edits if unpack(row[1])["seq"] == seq]
        await self._tx.executemany(ERASE, doomed)


class StreamStore:
    """What a node reads and writes of streams."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @asynccontextmanager
    async def commit(self) -> AsyncIterator[CommitTx]:
        """One transaction; leaving the block commits."""
        async with self._db.transaction() as tx:
            yield SqlCommitTx(tx)

    async def heads(self, stream_ids: Sequence[int]) -> dict[int, int]:
        """Heads of these streams."""
        return {row[0]: row[1] for row in await self._db.fetch_in(HEADS, stream_ids)}

    async def entries(self, stream_id: int, after: int, limit: int) -> list[Entry]:
        """Entries after a seq, in order."""
        return await entries(self._db, stream_id, after, limit)

    async def stream(self, stream_id: int) -> StreamHead | None:
        """One stream's row."""
        row = await self._db.fetchrow(STREAM, stream_id)
        return None if row is None else StreamHead(*row)

    async def subscriptions(self, person_ids: Sequence[int]) -> list[Subscription]:
        """Active subscriptions of these persons in all their enterprises, by person and stream."""
        return [Subscription(*row) for row in await self._db.fetch_in(SUBSCRIPTIONS, person_ids)]

    async def changed_since(self, time_ms: int) -> list[tuple[Subscription, bool]]:
        """Subscriptions whose membership changed at or after a time, each with whether it is active."""
        rows = await self._db.fetch(CHANGED, time_ms)
        return [(Subscription(*row[:-1]), row[-1] == 1) for row in (tuple(r) for r in rows)]

    async def save_marks(self, marks: Sequence[Mark]) -> None:
        """Moves watermarks forward, never back."""
        async with self._db.transaction() as tx:
            await tx.executemany(
                MARK,
                [
                    (m.stream_id, m.person_id, m.delivered, m.delivered_ms, m.read, m.read_ms, m.sent)
                    for m in sorted(marks, key=lambda m: (m.stream_id, m.person_id))
                ],
            )

    async def marks_of(
        self, stream_id: int, enterprise_id: int
    ) -> list[tuple[int, int, int | None, int, int | None]]:
        """(person, delivered, delivered_ms, read, read_ms) of all members."""
        return [tuple(row) for row in await self._db.fetch(MARKS_OF, stream_id, enterprise_id)]


async def entries(db: Queries, stream_id: int, after: int, limit: int) -> list[Entry]:
    """Entries after a seq, in order."""
    return [Entry(*row) for row in await db.fetch(ENTRIES, stream_id, after, limit)]


async def last_entries(db: Queries, stream_ids: Sequence[int]) -> list[Entry]:
    """The newest entry of each of these streams."""
    return [Entry(*row) for row in await db.fetch_in(LAST_ENTRIES, stream_ids)]


async def stream_ids(db: Database, after: int, limit: int) -> list[int]:
    """Ids of streams, for verification."""
    return [row[0] for row in await db.fetch(STREAM_IDS, after, limit)]
