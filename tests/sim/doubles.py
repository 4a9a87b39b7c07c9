"""Doubles of the database and the bus for the simulation. `tests/contract` holds them against the real ones.

`MemoryStore` has the transaction semantics the hub relies on: row locks on streams held until the end, nothing visible
before the commit, the unique key of a message checked over everything committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from core.db import UniqueViolation
from hub.streams.rules import EMPTY_DIGEST
from hub.streams.store import Entry, Mark, StreamHead, Subscription
from hub.wire.codec import unpack


@dataclass
class Disk:
    """What survives a crash of every node: the committed state."""

    streams: dict[int, StreamHead] = field(default_factory=dict)
    entries: dict[int, list[Entry]] = field(default_factory=dict)
    keys: dict[tuple[int, str], Entry] = field(default_factory=dict)
    members: dict[tuple[int, int], dict[str, int]] = field(default_factory=dict)
    locks: dict[int, asyncio.Lock] = field(default_factory=dict)

    def open_stream(self, stream_id: int, enterprise_id: int, kind: str, members: Iterable[int]) -> None:
        """A stream with subscribers, as `hub.api` would leave it."""
        people = list(members)
        self.streams[stream_id] = StreamHead(
            stream_id, enterprise_id, kind, 1, 0, EMPTY_DIGEST, 1, len(people)
        )
        self.entries[stream_id] = []
        for person in people:
            self.members[stream_id, person] = {
                "enterprise": enterprise_id, "active": 1, "floor": 0, "changed_ms": 0, "delivered": 0,
                "delivered_ms": 0, "read": 0, "read_ms": 0, "sent": 0,
            }  # fmt: skip


class MemoryTx:
    """`hub.streams.store.CommitTx` in memory: writes wait in lists until the commit."""

    def __init__(self, disk: Disk, step: Callable[[], Awaitable[None]]) -> None:
        self._disk, self._step = disk, step
        self._locked: list[int] = []
        self._appended: list[Entry] = []
        self._heads: list[tuple[int, int, bytes]] = []
        self._erased: list[tuple[int, int]] = []

    async def lock(self, stream_ids: Sequence[int]) -> dict[int, StreamHead]:
        await self._step()
        found = {}
        for stream_id in sorted(stream_ids):
            if stream_id in self._disk.streams:
                await self._disk.locks.setdefault(stream_id, asyncio.Lock()).acquire()
                self._locked.append(stream_id)
                found[stream_id] = self._disk.streams[stream_id]
        return found

    async def members(self, stream_id: int, person_ids: Sequence[int]) -> set[int]:
        await self._step()
        members = self._disk.members
        return {p for p in person_ids if members.get((stream_id, p), {}).get("active") == 1}

    async def by_keys(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Entry]:
        await self._step()
        return {key: self._disk.keys[key] for key in keys if key in self._disk.keys}

    async def entry(self, stream_id: int, seq: int) -> Entry | None:
        await self._step()
        entries = self._disk.entries.get(stream_id, [])
        return entries[seq - 1] if 0 < seq <= len(entries) else None

    async def append(self, entries: Sequence[Entry]) -> None:
        await self._step()
        new = {(e.sender_id, e.key) for e in self._appended}
        for entry in entries:
            key = (entry.sender_id, entry.key)
            if key in self._disk.keys or key in new:
                raise UniqueViolation("uq_hub_entries_sender_key")
            new.add(key)
        self._appended += entries

    async def advance(self, heads: Iterable[tuple[int, int, bytes]]) -> None:
        await self._step()
        self._heads += heads

    async def erase(self, targets: Sequence[tuple[int, int]]) -> None:
        await self._step()
        self._erased += targets
        for stream_id, seq in targets:
            written = [
                *self._disk.entries[stream_id],
                *(e for e in self._appended if e.stream_id == stream_id),
            ]
            edits = [e for e in written if e.seq > seq and e.kind == "edit" and e.body is not None]
            self._erased += [(stream_id, e.seq) for e in edits if unpack(e.body or b"")["seq"] == seq]

    def commit(self) -> None:
        """Makes everything visible at once. Raises `UniqueViolation` as the database would."""
        disk = self._disk
        for entry in self._appended:
            if (entry.sender_id, entry.key) in disk.keys:
                raise UniqueViolation("uq_hub_entries_sender_key")
        for entry in self._appended:
            log = disk.entries[entry.stream_id]
            if entry.seq != len(log) + 1:
                raise UniqueViolation("pk_hub_entries")
            log.append(entry)
            disk.keys[entry.sender_id, entry.key] = entry
        for stream_id, head, digest in self._heads:
            disk.streams[stream_id] = msgspec.structs.replace(
                disk.streams[stream_id], head=head, digest=digest
            )
        for stream_id, seq in self._erased:
            log = disk.entries[stream_id]
            log[seq - 1] = msgspec.structs.replace(log[seq - 1], body=None, options=None)

    def release(self) -> None:
        """Lets go of the locks, at commit, rollback and when the node crashes."""
        for stream_id in self._locked:
            self._disk.locks[stream_id].release()
        self._locked = []


class MemoryStore:
    """`hub.streams.store.StreamStore` in memory. `step` is awaited wherever the real one goes over the wire."""

    def __init__(self, disk: Disk, step: Callable[[], Awaitable[None]] | None = None) -> None:
        self.disk = disk
        self._step = step or _no_step

    @asynccontextmanager
    async def commit(self) -> AsyncIterator[MemoryTx]:
        tx = MemoryTx(self.disk, self._step)
        try:
            yield tx
            await self._step()
            tx.commit()
        finally:
            tx.release()
        self.committed()

    def committed(self) -> None:
        """The answer to COMMIT is on its way; a subclass may lose it."""

    async def heads(self, stream_ids: Sequence[int]) -> dict[int, int]:
        await self._step()
        return {s: self.disk.streams[s].head for s in stream_ids if s in self.disk.streams}

    async def entries(self, stream_id: int, after: int, limit: int) -> list[Entry]:
        await self._step()
        return self.disk.entries.get(stream_id, [])[after : after + limit]

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
        self._next = 1 << 40

    async def ensure(self, members: Sequence[tuple[int, int]]) -> None:
        for enterprise, person in members:
            if any(
                p == person and m["enterprise"] == enterprise and self._disk.streams[s].kind == "inbox"
                for (s, p), m in self._disk.members.items()
            ):
                continue
            self._next += 1
            self._disk.open_stream(self._next, enterprise, "inbox", [person])
