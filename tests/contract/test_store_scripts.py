"""Random scripts of three sessions, played on PostgreSQL and on the simulation's double: word for word the same.

A script is drawn from a seed and the state of the play: who may do what next. Sessions overlap: they lock the same
rows, insert the same keys and wait for each other, and after every step it is compared who waits. A waiting session is
known by what the engine says of it, not by time passing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from core.db import Contention, Database, connect
from core.errors import BankhubError
from hub.membership import store as membership
from hub.streams.rules import EMPTY_DIGEST, chain_digest, content_digest
from hub.streams.store import Entry, Mark, StreamHead, StreamStore
from hub.wire.codec import pack
from tests.sim.doubles import Disk, MemoryStore

ENTERPRISE = 9
SESSIONS = 3
STEPS = 120
PEOPLE = (1, 2, 3)

Command = Callable[[Any], Awaitable[Any]]


class Stage:
    """A store to play on."""

    store: Any

    async def open(self, streams: list[int]) -> None:
        """Makes empty streams."""

    async def waiting(self) -> int:
        """How many sessions wait for another one."""
        raise NotImplementedError

    async def change_members(self, tx: Any, head: StreamHead, **what: Any) -> Any:
        """Of the module that writes memberships."""
        raise NotImplementedError

    async def close(self) -> None: ...


class Memory(Stage):
    def __init__(self) -> None:
        self.disk = Disk()
        self.store = MemoryStore(self.disk)

    async def open(self, streams: list[int]) -> None:
        for stream in streams:
            self.disk.open_stream(stream, ENTERPRISE, "conversation")

    async def waiting(self) -> int:
        for _ in range(5):
            await asyncio.sleep(0)
        return sum(tx._waits_for is not None for tx in self.disk.open)

    async def change_members(self, tx: Any, head: StreamHead, **what: Any) -> Any:
        return await tx.change_members(head, **what)


class Postgres(Stage):
    def __init__(self, db: Database, observer: Any) -> None:
        self._db, self._observer = db, observer
        self.store = StreamStore(db)

    async def open(self, streams: list[int]) -> None:
        async with self._db.transaction() as tx:
            for stream in streams:
                await membership.insert_stream(tx, stream, ENTERPRISE, "conversation", 1)

    async def waiting(self) -> int:
        count: int = await self._observer.fetchval(
            "SELECT count(DISTINCT l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
            "WHERE NOT l.granted AND a.datname = current_database()"
        )
        return count

    async def change_members(self, tx: Any, head: StreamHead, **what: Any) -> Any:
        return await membership.change_members(tx._tx, head, **what)

    async def close(self) -> None:
        await self._observer.close()
        await self._db.close()


class RolledBack(Exception):
    """The script wanted it."""


@dataclass
class Session:
    """One transaction after the other, command by command."""

    stage: Stage
    log: list[str] = field(default_factory=list)
    heads: dict[int, StreamHead] = field(default_factory=dict)
    appended: list[Entry] | None = None  # by the open transaction
    open: bool = False
    broken: bool = False
    running: bool = False
    asked: str = ""
    wants: list[int] = field(default_factory=list)  # the rows it locked, or waits for
    _commands: asyncio.Queue[Command | None] = field(default_factory=asyncio.Queue)
    _task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.open, self.broken, self.heads, self.appended = True, False, {}, None
        self._task = asyncio.create_task(self._transaction())

    async def _transaction(self) -> None:
        try:
            async with self.stage.store.commit() as tx:
                while (command := await self._commands.get()) is not None:
                    await self._do(tx, command)
                    self.running = False
            self.log.append("committed")
        except RolledBack:
            self.log.append("rolled back")
        except BankhubError as error:
            self.log.append(f"ended by {type(error).__name__}")
        finally:
            self.open = self.running = False

    async def _do(self, tx: Any, command: Command) -> None:
        try:
            self.log.append(repr(await command(tx)))
        except BankhubError as error:
            self.broken = True
            self.log.append(type(error).__name__)

    def post(self, command: Any) -> None:
        """Something to do; None commits."""
        self.running = True
        self.asked = "commit" if command is None else command.__name__
        self._commands.put_nowait(command)


async def settled(stage: Stage, sessions: list[Session]) -> list[int]:
    """Waits until everybody has done what was asked of them or waits for somebody else; who waits."""
    async with asyncio.timeout(20):
        while True:
            before = [n for n, session in enumerate(sessions) if session.running]
            waiting = await stage.waiting()
            busy = [n for n, session in enumerate(sessions) if session.running]
            if before == busy and len(busy) == waiting:
                return busy


class Play:
    """One script on one stage; everything it saw is in `seen`."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.chance = stage, random.Random(seed)
        self.streams = [seed * 10 + 1, seed * 10 + 2]
        self.sessions = [Session(stage) for _ in range(SESSIONS)]
        self.seen: list[Any] = []
        self.steps = self.waits = 0
        # Who gets a row that two wait for is not promised, so one waits for each; and with sessions that want two
        # rows, one in all.
        self._crossing = seed % 2 == 0
        self._may_wait = True

    async def run(self) -> None:
        await self.stage.open(self.streams)
        for self.steps in range(STEPS):
            await self._step()
        while any(session.open for session in self.sessions):
            free = [s for s in self.sessions if s.open and not s.running]
            free[0].post(None)
            await settled(self.stage, self.sessions)
        await self._look()
        self.seen.append([session.log for session in self.sessions])

    async def _step(self) -> None:
        chance = self.chance
        free = [s for s in self.sessions if not s.running]
        if not free:
            raise AssertionError("a circle that nobody broke")
        session = chance.choice(free)
        self._may_wait = not self._crossing or len(free) == len(self.sessions)
        if not session.open:
            if chance.random() < 0.3 or not self._may_wait:
                await self._look()
                return
            wanted = {stream for other in self.sessions if other.running for stream in other.wants}
            free_rows = [stream for stream in self.streams if stream not in wanted]
            session.begin()
            several = self._crossing and chance.random() < 0.5
            session.wants = chance.sample(free_rows, min(len(free_rows), 2 if several else 1))
            session.post(self._lock(session, session.wants))
        elif chance.random() < 0.15:
            session.post(_roll_back)
        elif chance.random() < 0.25:
            session.post(None)
        else:
            session.post(self._statement(session))
        asked = session.asked
        waiting = await settled(self.stage, self.sessions)
        for failed in self.sessions:
            if failed.broken and failed.open and not failed.running:
                failed.post(chance.choice((_roll_back, None)))  # nothing else is done for it
                waiting = await settled(self.stage, self.sessions)
        self.waits += len(waiting)
        number = self.sessions.index(session)
        self.seen.append(f"{self.steps}: {number} {asked}: {session.log[-1:]}, {waiting} wait")

    def _lock(self, session: Session, streams: list[int]) -> Command:
        async def lock(tx: Any) -> Any:
            session.heads = await tx.lock([*streams, 1])
            return sorted(session.heads.items())

        lock.__name__ = f"lock {streams}"
        return lock

    def _statement(self, session: Session) -> Command:
        chance = self.chance
        stream = chance.choice(self.streams)
        keys = [(chance.choice(PEOPLE), self._key()) for _ in range(2)]
        seq, people = chance.randint(1, 6), chance.sample(PEOPLE, 2)
        drawn = chance.random()
        if drawn < 0.35 and session.appended is None and session.heads and self._may_wait:
            return self._append(session, [self._key() for _ in range(chance.choice((1, 1, 2, 5)))])
        if drawn < 0.45 and session.heads:
            return self._change_members(session, people)
        if drawn < 0.6:
            return lambda tx: _sorted(tx.by_keys(keys))
        if drawn < 0.7:
            return lambda tx: tx.entry(stream, seq)
        if drawn < 0.8:
            return lambda tx: _sorted(tx.members(stream, list(PEOPLE)))
        if drawn < 0.9 and stream in session.heads:
            return lambda tx: tx.erase([(stream, seq)])
        return lambda tx: _sorted(self.stage.store.heads([*self.streams, 1]))

    def _key(self) -> str:
        return f"{self.streams[0]}-{self.chance.randrange(12)}"

    def _append(self, session: Session, keys: list[str]) -> Command:
        """Entries behind the head that was locked, and the head moved: what every commit of the hub does."""
        chance = self.chance
        stream = chance.choice(sorted(session.heads))
        sender = chance.choice(PEOPLE)
        seq, previous = session.heads[stream].head, session.heads[stream].digest
        entries = []
        for key in keys:
            seq += 1
            kind = chance.choice(("text", "text", "edit"))
            body = pack("x" if kind == "text" else {"seq": max(1, seq - 2), "value": "y"})
            content = content_digest(kind, body, None)
            entry_id = self.steps * 100 + seq
            previous = chain_digest(previous, stream, seq, entry_id, sender, 5, content)
            entries.append(
                Entry(stream, seq, entry_id, sender, kind, 5, body, None, content, previous, ENTERPRISE, key)
            )

        async def append(tx: Any) -> None:
            await tx.append(entries)
            await tx.advance([(stream, seq, previous)])

        append.__name__ = f"append {[(e.stream_id, e.seq, e.sender_id, e.key) for e in entries]}"
        session.appended = entries
        return append

    def _change_members(self, session: Session, people: list[int]) -> Command:
        head = session.heads[self.chance.choice(sorted(session.heads))]
        added, removed = ([people[0]], [people[1]]) if self.chance.random() < 0.5 else (people, [])
        now_ms, floor = self.steps, self.chance.randint(0, head.head)
        return lambda tx: self.stage.change_members(
            tx, head, added=added, removed=removed, floor=floor, now_ms=now_ms
        )

    async def _look(self) -> None:
        """What somebody sees who is in no transaction: only what is committed."""
        store, chance = self.stage.store, self.chance
        if not any(session.open for session in self.sessions):  # rows of members are not locked by the double
            marks = [
                Mark(
                    stream,
                    person,
                    delivered=chance.randint(0, 9),
                    delivered_ms=self.steps,
                    sent=chance.randint(0, 3),
                )
                for stream in self.streams
                for person in PEOPLE
            ]
            await store.save_marks(marks)
        subscriptions = [s for s in await store.subscriptions(PEOPLE) if s.stream_id in self.streams]
        changed = [
            c for c in await store.changed_since(chance.randint(0, STEPS)) if c[0].stream_id in self.streams
        ]
        after = chance.randint(0, 4)
        self.seen.append((subscriptions, changed, await store.heads([*self.streams, 1])))
        for stream in self.streams:
            self.seen += [
                await store.stream(stream),
                await store.entries(stream, after, 3),
                await store.entries(stream, 0, 1_000),
                await store.marks_of(stream, ENTERPRISE),
            ]


async def _sorted(answer: Awaitable[Any]) -> Any:
    found = await answer
    return sorted(found.items()) if isinstance(found, dict) else sorted(found)


async def _roll_back(tx: Any) -> None:
    raise RolledBack


@pytest.fixture
async def postgres(database: str) -> AsyncIterator[Postgres]:
    stage = Postgres(
        await connect(database, max_size=SESSIONS + 2), await asyncpg.connect(database, ssl=False)
    )
    yield stage
    await stage.close()


@pytest.mark.parametrize("seed", range(1, 11))
async def test_the_same_script_gives_the_same_answers(postgres: Postgres, seed: int) -> None:
    plays = [Play(stage, seed) for stage in (Memory(), postgres)]
    for play in plays:
        await play.run()
    double, real = plays
    for number, (mine, theirs) in enumerate(zip(double.seen, real.seen, strict=False)):
        assert mine == theirs, "\n".join(map(str, double.seen[max(0, number - 12) : number]))
    assert len(double.seen) == len(real.seen)
    assert real.waits, "nobody ever waited: this script shows little"


async def test_a_circle_is_broken_for_one(postgres: Postgres) -> None:
    """Each inserts a key and then the other's: one is refused as `Contention`, the other goes on."""
    for stage in (Memory(), postgres):
        streams = [1_000_001, 1_000_002]
        await stage.open(streams)
        barrier = asyncio.Barrier(2)

        async def cross(
            mine: int, stage: Stage = stage, streams: list[int] = streams, barrier: Any = barrier
        ) -> str:
            try:
                async with stage.store.commit() as tx:
                    await tx.lock([streams[mine]])
                    await tx.append([_plain(streams[mine], 1, f"key-{mine}")])
                    await barrier.wait()
                    await tx.append([_plain(streams[mine], 2, f"key-{1 - mine}")])
            except BankhubError as error:
                return type(error).__name__
            return "committed"

        assert sorted(await asyncio.gather(cross(0), cross(1))) == [Contention.__name__, "committed"]


def _plain(stream: int, seq: int, key: str) -> Entry:
    content = content_digest("text", pack("x"), None)
    return Entry(stream, seq, seq, 1, "text", 5, pack("x"), None, content, EMPTY_DIGEST, ENTERPRISE, key)
