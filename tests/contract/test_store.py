"""The hub's tables and the simulation's double of them: one contract, or the simulation shows nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from core.db import UniqueViolation, connect
from hub.membership import store as membership
from hub.streams.rules import EMPTY_DIGEST, chain_digest, content_digest
from hub.streams.store import Entry, Mark, SqlCommitTx, StreamStore
from hub.wire.codec import pack
from tests.sim.doubles import Disk, MemoryStore

ENTERPRISE = 9
BASE = 7_000


@dataclass
class Subject:
    """A store under test, with streams `numbers`, each subscribed by persons 1 and 2."""

    store: Any
    streams: list[int]


@pytest.fixture(params=["postgresql", "memory"])
async def subject(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Subject]:
    global BASE
    BASE += 10
    streams = [BASE + 1, BASE + 2]
    if request.param == "memory":
        disk = Disk()
        for stream in streams:
            disk.open_stream(stream, ENTERPRISE, "conversation", [1, 2])
        yield Subject(MemoryStore(disk), streams)
        return
    db = await connect(database)
    async with db.transaction() as tx:
        for stream in streams:
            await membership.insert_stream(tx, stream, ENTERPRISE, "conversation", 1)
            head = (await SqlCommitTx(tx).lock([stream]))[stream]
            await membership.change_members(tx, head, added=[1, 2], removed=[], floor=0, now_ms=0)
    yield Subject(StreamStore(db), streams)
    await db.close()


def entry(
    stream: int, seq: int, sender: int, key: str, previous: bytes, kind: str = "text", body: Any = "x"
) -> Entry:
    packed = pack(body)
    content = content_digest(kind, packed, None)
    entry_id = stream * 1000 + seq
    digest = chain_digest(previous, stream, seq, entry_id, sender, 5, content)
    return Entry(
        stream, seq, entry_id, sender, kind, 5, packed, None, content, digest, ENTERPRISE, f"{stream}-{key}"
    )


async def say(subject: Subject, stream: int, sender: int, key: str, **what: Any) -> Entry:
    """One entry at the end of a stream, committed."""
    async with subject.store.commit() as tx:
        head = (await tx.lock([stream]))[stream]
        new = entry(stream, head.head + 1, sender, key, head.digest, **what)
        await tx.append([new])
        await tx.advance([(stream, new.seq, new.digest)])
    return new


async def test_what_is_committed_is_read_back(subject: Subject) -> None:
    stream = subject.streams[0]
    made = [await say(subject, stream, 1, f"k{n}") for n in range(5)]
    assert await subject.store.entries(stream, 0, 10) == made
    assert await subject.store.entries(stream, 3, 10) == made[3:]
    assert await subject.store.entries(stream, 1, 2) == made[1:3]
    assert await subject.store.heads([*subject.streams, 1]) == {stream: 5, subject.streams[1]: 0}
    head = await subject.store.stream(stream)
    assert (head.head, head.digest, head.member_count, head.enterprise_id) == (
        5,
        made[-1].digest,
        2,
        ENTERPRISE,
    )
    assert (await subject.store.stream(subject.streams[1])).digest == EMPTY_DIGEST
    assert await subject.store.stream(1) is None


async def test_nothing_is_visible_before_the_commit_or_after_a_rollback(subject: Subject) -> None:
    stream = subject.streams[0]
    with pytest.raises(ZeroDivisionError):
        async with subject.store.commit() as tx:
            head = (await tx.lock([stream]))[stream]
            new = entry(stream, 1, 1, "k", head.digest)
            await tx.append([new])
            await tx.advance([(stream, 1, new.digest)])
            assert await subject.store.entries(stream, 0, 10) == []
            assert await subject.store.heads([stream]) == {stream: 0}
            raise ZeroDivisionError
    assert await subject.store.entries(stream, 0, 10) == []
    assert (await say(subject, stream, 1, "k")).seq == 1


async def test_a_used_key_is_refused_and_found(subject: Subject) -> None:
    one, two = subject.streams
    first = await say(subject, one, 1, "k")
    with pytest.raises(UniqueViolation):
        await say(subject, one, 1, "k")
    assert (await say(subject, one, 2, "k")).seq == 2  # another sender's key is another key
    async with subject.store.commit() as tx:
        found = await tx.by_keys([(1, f"{one}-k"), (1, f"{two}-k"), (3, f"{one}-k")])
        assert found == {(1, f"{one}-k"): first}
    with pytest.raises(UniqueViolation):
        async with subject.store.commit() as tx:
            head = (await tx.lock([two]))[two]
            twice = [entry(two, 1, 1, "t", head.digest), entry(two, 2, 1, "t", head.digest)]
            await tx.append(twice)
    assert await subject.store.entries(two, 0, 10) == []


async def test_who_locks_second_waits_and_sees_what_the_first_did(subject: Subject) -> None:
    one, two = subject.streams
    order: list[str] = []
    locked = asyncio.Event()

    async def first() -> None:
        async with subject.store.commit() as tx:
            head = (await tx.lock([two, one]))[one]
            locked.set()
            await asyncio.sleep(0.1)
            new = entry(one, 1, 1, "first", head.digest)
            await tx.append([new])
            await tx.advance([(one, 1, new.digest)])
            order.append("first")

    async def second() -> None:
        await locked.wait()
        async with subject.store.commit() as tx:
            head = (await tx.lock([one, two]))[one]
            order.append("second")
            assert head.head == 1

    await asyncio.gather(first(), second())
    assert order == ["first", "second"]


async def test_marks_never_move_back(subject: Subject) -> None:
    stream = subject.streams[0]
    await say(subject, stream, 1, "k")
    await subject.store.save_marks(
        [Mark(stream, 2, delivered=5, delivered_ms=50, read=3, read_ms=30, sent=2)]
    )
    await subject.store.save_marks([Mark(stream, 2, delivered=4, delivered_ms=60, read=4, read_ms=40)])
    await subject.store.save_marks([Mark(stream, 3, delivered=4, delivered_ms=60)])  # nobody
    assert await subject.store.marks_of(stream, ENTERPRISE) == [(1, 0, None, 0, None), (2, 5, 50, 4, 40)]
    assert await subject.store.marks_of(stream, 1) == []
    mine = {s.stream_id: s for s in await subject.store.subscriptions([2]) if s.stream_id in subject.streams}
    assert (mine[stream].delivered, mine[stream].read, mine[stream].sent, mine[stream].head) == (5, 4, 2, 1)


async def test_an_erased_body_takes_its_edits_along(subject: Subject) -> None:
    stream = subject.streams[0]
    await say(subject, stream, 1, "original")
    await say(subject, stream, 1, "other")
    await say(subject, stream, 1, "edit", kind="edit", body={"seq": 1, "value": "new words"})
    await say(subject, stream, 1, "edit-other", kind="edit", body={"seq": 2, "value": "stays"})
    async with subject.store.commit() as tx:
        await tx.lock([stream])
        await tx.erase([(stream, 1)])
    bodies = [e.body for e in await subject.store.entries(stream, 0, 10)]
    assert [body is None for body in bodies] == [True, False, True, False]
    assert all(e.content and e.digest for e in await subject.store.entries(stream, 0, 10))


@pytest.mark.parametrize("seed", range(4))
async def test_a_random_script_gives_what_the_rules_give(subject: Subject, seed: int) -> None:
    """Against the plainest model there is: a list and a set."""
    chance = random.Random(seed)
    model: dict[int, list[Entry]] = {stream: [] for stream in subject.streams}
    used: set[tuple[int, str]] = set()
    for _ in range(60):
        stream, sender, key = (
            chance.choice(subject.streams),
            chance.choice((1, 2)),
            f"k{chance.randrange(25)}",
        )
        log = model[stream]
        digest = log[-1].digest if log else EMPTY_DIGEST
        new = entry(stream, len(log) + 1, sender, key, digest)
        expect_refusal = (sender, new.key) in used
        fail = chance.random() < 0.2
        try:
            async with subject.store.commit() as tx:
                head = (await tx.lock([stream]))[stream]
                assert (head.head, head.digest) == (len(log), digest)
                await tx.append([new])
                await tx.advance([(stream, new.seq, new.digest)])
                if fail:
                    raise ZeroDivisionError
        except UniqueViolation:
            assert expect_refusal
        except ZeroDivisionError:
            assert fail
            assert not expect_refusal
        else:
            assert not expect_refusal
            log.append(new)
            used.add((sender, new.key))
    for stream, log in model.items():
        assert await subject.store.entries(stream, 0, 100) == log
