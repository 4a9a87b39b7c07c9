"""The double of the hub's tables. `tests/contract/test_store*.py` holds it to PostgreSQL.

It has the semantics the hub relies on: read committed; row locks on streams held until the end (who waits for one gets
it in any order, as in PostgreSQL when the row has changed); who inserts a key that an open transaction has inserted
waits for its end; a circle of waiting ends with `Contention` for the one who closes it; everything becomes visible at
once, at the commit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from core.db import CommitUnknown, Contention, UniqueViolation
from core.db.errors import ConnectionLost, DatabaseError
from core.errors import BankhubError
from hub.streams.rules import EMPTY_DIGEST
from hub.streams.store import Entry, Mark, StreamHead, Subscription
from hub.wire.codec import unpack

Key = tuple[str, int, int | str]
"""A value of a unique constraint: (constraint, stream or sender, seq or key)."""
Row = int | tuple[str, int]
"""What is locked: a stream, or a row of another table: (table, id)."""


@dataclass(frozen=True)
class FileRow:
    """A file as `tests.sim.files` has it."""

    enterprise_id: int
    person_id: int
    name: str
    ready: bool = True


@dataclass
class Disk:
    """What survives a crash of every node: the committed state, and who holds what at the moment."""

    streams: dict[int, StreamHead] = field(default_factory=dict)
    entries: dict[int, list[Entry]] = field(default_factory=dict)
    keys: dict[tuple[int, str], Entry] = field(default_factory=dict)
    members: dict[tuple[int, int], dict[str, int]] = field(default_factory=dict)
    files: dict[int, FileRow] = field(default_factory=dict)
    references: Counter[tuple[int, int, int]] = field(default_factory=Counter)  # (file, stream, seq)
    released: Counter[tuple[int, int]] = field(default_factory=Counter)  # (stream, seq)
    locked: dict[Row, MemoryTx] = field(default_factory=dict)
    inserting: dict[Key, MemoryTx] = field(default_factory=dict)
    open: dict[MemoryTx, None] = field(default_factory=dict)

    def open_stream(
        self, stream_id: int, enterprise_id: int, kind: str, members: Iterable[int] = (), *, epoch: int = 1
    ) -> None:
        """A stream as `insert_stream` leaves it, or with members, as `insert_inboxes` does."""
        people = list(members)
        self.streams[stream_id] = StreamHead(
            stream_id, enterprise_id, kind, epoch, 0, EMPTY_DIGEST, 1, len(people)
        )
        self.entries[stream_id] = []
        for person in people:
            self.members[stream_id, person] = _member(enterprise_id, 0, 0)


def _member(enterprise_id: int, floor: int, now_ms: int) -> dict[str, int]:
    return {
        "enterprise": enterprise_id, "active": 1, "floor": floor, "changed_ms": now_ms, "delivered": floor,
        "delivered_ms": 0, "read": floor, "read_ms": 0, "sent": 0,
    }  # fmt: skip


def _without_body(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, body=None, options=None)


class MemoryTx:
    """`hub.streams.store.CommitTx` in memory, and `hub.membership.store.change_members`: writes wait for the commit."""

    def __init__(self, disk: Disk, step: Callable[[], Awaitable[None]]) -> None:
        self._disk, self._step = disk, step
        self._appended: list[Entry] = []
        self._writes: list[Callable[[], None]] = []
        self._erased: dict[tuple[int, int], None] = {}
        self._active: dict[tuple[int, int], bool] = {}  # memberships changed here
        self._waits_for: MemoryTx | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._behind: list[MemoryTx] = []  # those who wait for our end
        self.ended = False  # committed, rolled back, or its server went down
        self.failed = False  # by a refused statement
        disk.open[self] = None

    @property
    def transaction(self) -> Any:
        """What ports are given: this double itself."""
        return self

    async def step(self) -> None:
        """A statement's way to the database."""
        await self._step()

    def will(self, write: Callable[[], None]) -> None:
        """A write of a port's: done at the commit, or never."""
        self._writes.append(write)

    async def lock(self, stream_ids: Sequence[int]) -> dict[int, StreamHead]:
        await self._step()
        found = {}
        for stream_id in sorted(set(stream_ids)):
            if stream_id in self._disk.streams:
                await self.lock_row(stream_id)
                found[stream_id] = self._disk.streams[stream_id]
        return found

    async def lock_row(self, row: Row) -> None:
        """Waits until the row is ours; it is until the end."""
        while (owner := self._disk.locked.get(row, self)) is not self:
            await self._wait(owner)
        if self.ended:
            raise ConnectionLost
        self._disk.locked[row] = self

    async def _wait(self, other: MemoryTx) -> None:
        """Until another transaction ends. Raises `Contention`, and `ConnectionLost` when we are ended ourselves."""
        ahead: MemoryTx | None = other
        while ahead is not None:
            if ahead is self:
                raise self._failed(Contention("deadlock detected"))
            ahead = ahead._waits_for
        self._waits_for = other
        other._behind.append(self)
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waits_for = self._waiting = None
        if self.ended:
            raise ConnectionLost

    def _failed(self, error: BankhubError) -> BankhubError:
        """A refused statement ends the transaction at the server; the client has yet to say ROLLBACK."""
        self.end()
        self.failed = True
        return error

    async def members(self, stream_id: int, person_ids: Sequence[int]) -> set[int]:
        await self._step()
        return {p for p in person_ids if self._is_member(stream_id, p)}

    def _is_member(self, stream_id: int, person: int) -> bool:
        member = (stream_id, person)
        return self._active.get(member, self._disk.members.get(member, {}).get("active") == 1)

    async def by_keys(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Entry]:
        await self._step()
        mine = {(e.sender_id, e.key): e for e in self._appended}
        found = {key: mine.get(key) or self._disk.keys.get(key) for key in keys}
        return {key: self._seen(entry) for key, entry in found.items() if entry is not None}

    async def entry(self, stream_id: int, seq: int) -> Entry | None:
        await self._step()
        return next((e for e in self._written(stream_id) if e.seq == seq), None)

    def _written(self, stream_id: int) -> list[Entry]:
        mine = [e for e in self._appended if e.stream_id == stream_id]
        return [self._seen(e) for e in (*self._disk.entries.get(stream_id, ()), *mine)]

    def _seen(self, entry: Entry) -> Entry:
        """As this transaction sees it."""
        gone = (entry.stream_id, entry.seq) in self._erased
        return _without_body(entry) if gone else entry

    async def append(self, entries: Sequence[Entry]) -> None:
        await self._step()
        for entry in entries:
            await self._insert(("pk", entry.stream_id, entry.seq))
            await self._insert(("key", entry.sender_id, entry.key))
            self._appended.append(entry)

    async def _insert(self, key: Key) -> None:
        disk = self._disk
        while (other := disk.inserting.get(key)) is not None and other is not self:
            await self._wait(other)
        if self.ended:
            raise ConnectionLost
        if other is self or self.taken(key):
            raise self._failed(UniqueViolation("pk" if key[0] == "pk" else "uq_hub_entries_sender_key"))
        disk.inserting[key] = self

    def taken(self, key: Key) -> bool:
        """Whether a committed row has this value."""
        constraint, whose, what = key
        if constraint == "pk":
            return any(e.seq == what for e in reversed(self._disk.entries.get(whose, ())))
        return (whose, what) in self._disk.keys

    async def advance(self, heads: Iterable[tuple[int, int, bytes]]) -> None:
        await self._step()
        for stream_id, head, digest in list(heads):
            self._on_stream(stream_id, head=head, digest=digest)

    def _on_stream(
        self, stream_id: int, *, more_members: int = 0, more_versions: int = 0, **new: object
    ) -> None:
        def write() -> None:
            row = self._disk.streams[stream_id]
            self._disk.streams[stream_id] = msgspec.structs.replace(
                row, members_version=row.members_version + more_versions,
                member_count=row.member_count + more_members, **new,
            )  # fmt: skip

        self._writes.append(write)

    async def erase(self, targets: Sequence[tuple[int, int]]) -> None:
        await self._step()
        doomed = list(targets)
        for stream_id, seq in targets:
            edits = [
                e for e in self._written(stream_id) if e.seq > seq and e.kind == "edit" and e.body is not None
            ]
            doomed += [(stream_id, e.seq) for e in edits if unpack(e.body or b"")["seq"] == seq]

        there = {
            (e.stream_id, e.seq) for stream_id in {s for s, _ in doomed} for e in self._written(stream_id)
        }
        self._erased |= {place: None for place in doomed if place in there}

    async def change_members(
        self, head: StreamHead, *, added: Sequence[int], removed: Sequence[int], floor: int, now_ms: int
    ) -> tuple[list[int], list[int]]:
        """As `hub.membership.store.change_members`. Joining and leaving in one call is not doubled."""
        assert not set(added) & set(removed)
        await self._step()
        stream_id, rows = head.stream_id, self._disk.members
        joined = [p for p in dict.fromkeys(added) if not self._is_member(stream_id, p)]
        left = [p for p in dict.fromkeys(removed) if self._is_member(stream_id, p)]
        self._active |= {(stream_id, p): True for p in joined} | {(stream_id, p): False for p in left}

        def write() -> None:
            for person in joined:
                row = rows.setdefault((stream_id, person), _member(head.enterprise_id, floor, now_ms))
                row.update(active=1, floor=floor, changed_ms=now_ms, delivered=floor, read=floor)
            for person in left:
                rows[stream_id, person].update(active=0, changed_ms=now_ms)

        if joined or left:
            self._writes.append(write)
            self._on_stream(stream_id, more_members=len(joined) - len(left), more_versions=1)
        return joined, left

    def commit(self) -> None:
        """Makes everything visible at once and ends. Raises `CommitUnknown` or `DatabaseError` if it has ended."""
        if self.ended:
            raise DatabaseError if self.failed else CommitUnknown
        for entry in self._appended:
            log = self._disk.entries[entry.stream_id]
            log.append(entry)
            log.sort(key=lambda e: e.seq)
            self._disk.keys[entry.sender_id, entry.key] = entry
        for write in self._writes:
            write()
        for stream_id, seq in self._erased:
            log = self._disk.entries.get(stream_id, [])
            if 0 < seq <= len(log):
                log[seq - 1] = gone = _without_body(log[seq - 1])
                self._disk.keys[gone.sender_id, gone.key] = gone
        self.end()

    def end(self) -> None:
        """Lets go of everything, at commit, rollback and when the server notices that the client is gone."""
        disk = self._disk
        disk.locked = {row: tx for row, tx in disk.locked.items() if tx is not self}
        disk.inserting = {key: tx for key, tx in disk.inserting.items() if tx is not self}
        disk.open.pop(self, None)
        self.ended = True
        for tx in (self, *self._behind):
            if tx._waiting is not None and not tx._waiting.done() and (tx is self or tx._waits_for is self):
                tx._waiting.set_result(None)


class MemoryStore:
    """`hub.streams.store.Store` in memory. `step` is awaited wherever the real one goes over the wire."""

    def __init__(self, disk: Disk, step: Callable[[], Awaitable[None]] | None = None) -> None:
        self.disk = disk
        self._step = step or _no_step

    @asynccontextmanager
    async def commit(self) -> AsyncIterator[MemoryTx]:
        tx = MemoryTx(self.disk, self._step)
        try:
            yield tx
        except BaseException:
            self.roll_back(tx)
            raise
        await self.finish(tx)

    def roll_back(self, tx: MemoryTx) -> None:
        """The block has failed, or its machine has."""
        tx.end()

    async def finish(self, tx: MemoryTx) -> None:
        """COMMIT and its answer; a subclass may lose either."""
        try:
            await self._step()
        except BaseException:
            tx.end()
            raise
        tx.commit()

    async def heads(self, stream_ids: Sequence[int]) -> dict[int, int]:
        await self._step()
        return {s: self.disk.streams[s].head for s in stream_ids if s in self.disk.streams}

    async def entries(self, stream_id: int, after: int, limit: int) -> list[Entry]:
        await self._step()
        return [e for e in self.disk.entries.get(stream_id, ()) if e.seq > after][:limit]

    async def stream(self, stream_id: int) -> StreamHead | None:
        await self._step()
        return self.disk.streams.get(stream_id)

    def _subscription(self, stream_id: int, person: int) -> Subscription:
        m, t = self.disk.members[stream_id, person], self.disk.streams[stream_id]
        return Subscription(
            stream_id, person, m["enterprise"], t.kind, t.epoch, t.head, t.members_version, t.member_count,
            m["floor"], m["delivered"], m["read"], m["sent"],
        )  # fmt: skip

    async def subscriptions(self, person_ids: Sequence[int]) -> list[Subscription]:
        await self._step()
        wanted = set(person_ids)
        keys = sorted((p, s) for (s, p), m in self.disk.members.items() if p in wanted and m["active"])
        return [self._subscription(s, p) for p, s in keys]

    async def changed_since(self, time_ms: int) -> list[tuple[Subscription, bool]]:
        await self._step()
        keys = sorted(k for k, m in self.disk.members.items() if m["changed_ms"] >= time_ms)
        return [(self._subscription(*k), self.disk.members[k]["active"] == 1) for k in keys]

    async def save_marks(self, marks: Sequence[Mark]) -> None:
        await self._step()
        for mark in marks:
            m = self.disk.members.get((mark.stream_id, mark.person_id))
            if m is None:
                continue
            if mark.delivered > m["delivered"]:
                m["delivered"], m["delivered_ms"] = mark.delivered, mark.delivered_ms
            if mark.read > m["read"]:
                m["read"], m["read_ms"] = mark.read, mark.read_ms
            m["sent"] = max(m["sent"], mark.sent)

    async def marks_of(
        self, stream_id: int, enterprise_id: int
    ) -> list[tuple[int, int, int | None, int, int | None]]:
        await self._step()
        return [
            (p, m["delivered"], m["delivered_ms"] or None, m["read"], m["read_ms"] or None)
            for (s, p), m in sorted(self.disk.members.items())
            if s == stream_id and m["enterprise"] == enterprise_id and m["active"]
        ]


async def _no_step() -> None:
    await asyncio.sleep(0)


class MemoryInboxes:
    """`hub.node.ports.Inboxes` in memory."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def ensure(self, members: Sequence[tuple[int, int]]) -> None:
        for enterprise, person in members:
            if not any(
                p == person and m["enterprise"] == enterprise and self._disk.streams[s].kind == "inbox"
                for (s, p), m in self._disk.members.items()
            ):
                self._disk.open_stream((1 << 40) + len(self._disk.streams), enterprise, "inbox", [person])
