"""Messages that carry files: the group commit and whoever keeps them, on PostgreSQL and on the doubles."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from core import failpoints
from core.clock import SystemClock
from core.db import Contention, IntegrityViolation, connect
from core.db.errors import ConnectionLost
from core.errors import BankhubError, Conflict, Invalid
from core.ids import Ids
from hub.membership import store as membership
from hub.streams.files import Asked, Carrier
from hub.streams.rules import content_digest
from hub.streams.store import Entry, SqlCommitTx, StreamStore
from hub.streams.writer import ATTEMPTS, GroupCommit, Outcome, Sent, Submission
from hub.wire.codec import pack, unpack
from tests import shelf
from tests.sim.doubles import Disk, FileRow, MemoryStore
from tests.sim.files import MemoryFiles

ENTERPRISE = 9
ME, OTHER = 1, 2
_numbers = itertools.count(1)
_workers = itertools.count(1)


def carried(kind: str, body: Any) -> tuple[int, ...]:
    return (int(body["file_id"]),) if kind == "file" else ()


def own_and_still_there(submission: Submission, target: Entry, now_ms: int) -> None:
    if target.body is None:
        raise Conflict("recalled already")


class Stage:
    """A store, somebody who keeps files, and two streams of persons 1 and 2."""

    store: Any
    files: Any

    def __init__(self) -> None:
        number = next(_numbers) * 10
        self.streams = [8_000_000 + number, 8_000_001 + number]

    async def put(self, file_id: int, person: int = ME, *, ready: bool = True) -> int:
        raise NotImplementedError

    async def clean_up(self, file_id: int) -> bool:
        """In a transaction of its own, once more after a deadlock."""
        while True:
            try:
                async with self.store.commit() as tx:
                    return bool(await self.files.clean_up(tx.transaction, file_id))
            except Contention:
                continue

    async def kept(self) -> tuple[list[int], list[tuple[int, int, int]], list[tuple[int, int]]]:
        """Files, references, releases."""
        raise NotImplementedError

    async def entries(self) -> list[Entry]:
        return [e for stream in self.streams for e in await self.store.entries(stream, 0, 10_000)]

    async def check(self) -> None:
        """A message is there if and only if its file is attached; a recall released it once; seq is dense."""
        files, references, released = await self.kept()
        entries = await self.entries()
        sent = [e for e in entries if e.kind == "file"]
        assert sorted(references) == sorted(
            (int(unpack(e.body)["file_id"]), e.stream_id, e.seq) for e in sent if e.body is not None
        )
        assert {r[0] for r in references} <= set(files)
        assert sorted(released) == sorted((e.stream_id, e.seq) for e in sent if e.body is None)
        for stream in self.streams:
            mine = [e.seq for e in entries if e.stream_id == stream]
            assert mine == list(range(1, len(mine) + 1))

    async def close(self) -> None: ...


class Memory(Stage):
    def __init__(self) -> None:
        super().__init__()
        self.disk = Disk()
        for stream in self.streams:
            self.disk.open_stream(stream, ENTERPRISE, "conversation", [ME, OTHER])
        self.store, self.files = MemoryStore(self.disk), Watched(MemoryFiles(self.disk))

    async def put(self, file_id: int, person: int = ME, *, ready: bool = True) -> int:
        self.disk.files[file_id] = FileRow(ENTERPRISE, person, f"{file_id}.pdf", ready)
        return file_id

    async def kept(self) -> Any:
        disk = self.disk
        return sorted(disk.files), sorted(disk.references.elements()), sorted(disk.released.elements())


class Postgres(Stage):
    async def open(self, database: str) -> None:
        await shelf.make_tables(database)
        self.db = await connect(database)
        self.store, self.files = StreamStore(self.db), Watched(shelf.SqlFiles())
        async with self.db.transaction() as tx:
            for stream in self.streams:
                await membership.insert_stream(tx, stream, ENTERPRISE, "conversation", 1)
                head = (await SqlCommitTx(tx).lock([stream]))[stream]
                await membership.change_members(tx, head, added=[ME, OTHER], removed=[], floor=0, now_ms=0)

    async def put(self, file_id: int, person: int = ME, *, ready: bool = True) -> int:
        await shelf.put(self.db, file_id, FileRow(ENTERPRISE, person, f"{file_id}.pdf", ready))
        return file_id

    async def kept(self) -> Any:
        files, references, released = await shelf.kept(self.db)
        return (
            files,
            [r for r in references if r[1] in self.streams],
            [r for r in released if r[0] in self.streams],
        )

    async def close(self) -> None:
        await self.db.close()


class Watched:
    """A port that notes what is called, and can be made to fail."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self.calls: list[tuple[str, Any]] = []
        self.fails: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        async def call(tx: Any, what: Any) -> Any:
            if name != "clean_up":
                self.calls.append((name, list(what)))
            if self.fails is not None and name in ("attach", "release"):
                raise self.fails
            return await getattr(self._port, name)(tx, what)

        return call

    def take(self) -> list[tuple[str, Any]]:
        """What was called since the last look."""
        calls, self.calls = self.calls, []
        return calls


@dataclass
class Node:
    """A group commit, as one node of the hub has it."""

    stage: Stage
    statements: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock = SystemClock()
        ids = Ids(clock, next(_workers))
        ids.extend(2**62)
        self.answers: dict[Submission, Any] = {}
        self._news = asyncio.Event()
        store: Any = self
        self.writer = GroupCommit(
            store, clock, ids, amend_policy=own_and_still_there, on_batch=self._batch,
            carrier=Carrier(self.stage.files, carried),
        )  # fmt: skip
        self.writer.start()

    def commit(self) -> Any:
        return Noting(self.stage.store.commit(), self.statements)

    def _batch(self, entries: list[Entry], outcomes: list[Outcome]) -> None:
        self.answers |= dict(outcomes)
        self._news.set()

    async def together(self, *submissions: Submission) -> list[Any]:
        """All in one batch; the answers in short: (seq, duplicate), or the code of the refusal."""
        for s in submissions:
            try:
                sent = self.writer.submit(s)
            except BankhubError as error:
                self.answers[s] = error
            else:
                if sent is not None:
                    self.answers[s] = sent
        async with asyncio.timeout(20):
            while not all(s in self.answers for s in submissions):
                self._news.clear()
                await self._news.wait()
        return [_short(self.answers[s]) for s in submissions]


class Noting:
    """A transaction whose statements are written down."""

    def __init__(self, block: Any, statements: list[str]) -> None:
        self._block, self._statements = block, statements

    async def __aenter__(self) -> Any:
        self._tx = await self._block.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self._block.__aexit__(*error)

    @property
    def transaction(self) -> Any:
        return self._tx.transaction

    def __getattr__(self, name: str) -> Any:
        self._statements.append(name)
        return getattr(self._tx, name)


def _short(answer: Any) -> Any:
    return (answer.seq, answer.duplicate) if isinstance(answer, Sent) else answer.code


def text(stream: int, said: str, key: str, sender: int = ME) -> Submission:
    return _submission(stream, "text", said, key, sender)


def file(stream: int, file_id: int, key: str, sender: int = ME, **more: Any) -> Submission:
    body = {"file_id": str(file_id), **more}
    asked = Carrier(MemoryFiles(Disk()), carried).asked(ENTERPRISE, sender, "file", body)
    return _submission(stream, "file", body, key, sender, files=asked)


def recall(stream: int, seq: int, key: str, sender: int = ME) -> Submission:
    body = {"seq": seq, "value": None}
    return _submission(stream, "recall", body, key, sender, change="recall", target_seq=seq)


def _submission(stream: int, kind: str, body: Any, key: str, sender: int, **more: Any) -> Submission:
    packed = pack(body)
    content = content_digest(kind, packed, None)
    return Submission(
        None, 0, stream, ENTERPRISE, sender, 0, f"{stream}-{key}", kind, packed, None, content, **more
    )


@pytest.fixture(params=["postgresql", "memory"])
async def stage(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Stage]:
    made = Memory()
    if request.param == "memory":
        yield made
        return
    real = Postgres()
    await real.open(database)
    yield real
    await real.close()


@pytest.fixture
async def node(stage: Stage) -> AsyncIterator[Node]:
    made = Node(stage)
    yield made
    await made.writer.stop()


def a_file() -> int:
    return 50_000 + next(_numbers)


async def test_a_refused_file_leaves_no_hole_and_refuses_no_neighbour(stage: Stage, node: Node) -> None:
    one, two = stage.streams
    mine, theirs = await stage.put(a_file()), await stage.put(a_file(), OTHER)
    unready = await stage.put(a_file(), ready=False)
    answers = await node.together(
        text(one, "davor", "a"), file(one, theirs, "b"), file(one, mine, "c"), file(one, unready, "d"),
        file(one, 1, "e"), file(two, mine, "f", name="another.pdf"), file(two, mine, "g"), text(one, "danach", "h"),
    )  # fmt: skip
    assert answers == [
        (1, False), "not_found", (2, False), "conflict", "not_found", "conflict", (1, False), (3, False)
    ]  # fmt: skip
    asked, attached = stage.files.take()
    assert asked[0] == "usable"
    assert [a.file_ids for a in asked[1]] == [(theirs,), (mine,), (unready,), (1,), (mine,), (mine,)]
    assert asked[1][1] == Asked(ENTERPRISE, ME, "file", {"file_id": str(mine)}, (mine,))
    assert [(a.file_id, a.enterprise_id, a.stream_id, a.seq) for a in attached[1]] == [
        (mine, ENTERPRISE, one, 2), (mine, ENTERPRISE, two, 1)
    ]  # fmt: skip
    await stage.check()


async def test_a_batch_without_files_costs_nothing_more(stage: Stage, node: Node) -> None:
    one, two = stage.streams
    await node.together(text(one, "hallo", "a"), text(two, "hallo", "b"))
    assert node.statements == ["lock", "members", "members", "append", "advance"]  # members: as always
    node.statements.clear()
    await node.together(recall(one, 1, "c"))
    assert node.statements == ["lock", "members", "entry", "append", "advance", "erase"]
    assert stage.files.take() == []


async def test_what_was_committed_is_answered_as_it_was_whatever_became_of_the_file(stage: Stage) -> None:
    one, _ = stage.streams
    first = Node(stage)
    mine = await stage.put(a_file())
    assert await first.together(file(one, mine, "a")) == [(1, False)]
    assert await first.together(recall(one, 1, "b")) == [(2, False)]
    assert await stage.clean_up(mine)
    stage.files.take()
    after = Node(stage)  # which remembers no answer
    assert await after.together(file(one, mine, "a"), file(one, mine, "a"), text(one, "weiter", "c")) == [
        (1, True), (1, True), (3, False)
    ]  # fmt: skip
    assert stage.files.take() == []
    assert await after.together(file(one, mine, "a", name="x"), file(one, mine, "d")) == [
        "conflict",
        "not_found",
    ]
    assert [name for name, _ in stage.files.take()] == ["usable"]
    await stage.check()
    for node in (first, after):
        await node.writer.stop()


async def test_a_recall_releases_once_however_often_it_is_asked_for(stage: Stage, node: Node) -> None:
    one, two = stage.streams
    mine = await stage.put(a_file())
    await node.together(file(one, mine, "a"), file(two, mine, "b"), text(one, "bleibt", "c"))
    stage.files.take()
    assert await node.together(recall(one, 1, "d"), recall(one, 1, "e"), recall(one, 2, "f")) == [
        (3, False), "conflict", (4, False)
    ]  # fmt: skip
    assert await node.together(recall(one, 1, "d"), recall(one, 1, "g")) == [(3, True), "conflict"]
    assert stage.files.take() == [("release", [(one, 1)])]
    assert not await stage.clean_up(mine)  # the other stream has it
    await stage.check()


async def test_what_is_not_committed_attaches_nothing(stage: Stage, node: Node) -> None:
    one, _ = stage.streams
    mine = await stage.put(a_file())

    async def fail() -> None:
        raise ZeroDivisionError

    failpoints.arm("hub.before_commit", fail)
    try:
        with capture_logs():
            assert (
                await node.together(file(one, mine, "a"), text(one, "auch nicht", "b")) == ["unavailable"] * 2
            )
    finally:
        failpoints.disarm()
    assert await stage.entries() == []
    await stage.check()
    assert await node.together(file(one, mine, "a"), text(one, "jetzt", "b")) == [(1, False), (2, False)]
    await stage.check()


@pytest.mark.parametrize(
    ("failure", "code"), [(ZeroDivisionError(), "unavailable"), (IntegrityViolation(), "internal")]
)
async def test_where_files_fail_only_what_has_to_do_with_files_is_refused(
    stage: Stage, node: Node, failure: Exception, code: str
) -> None:
    one, two = stage.streams
    mine = await stage.put(a_file())
    await node.together(file(one, mine, "a"))
    stage.files.fails = failure
    with capture_logs() as logged:  # written out with everything around them they take seconds
        answers = await node.together(
            text(one, "davor", "b"), file(one, mine, "c"), recall(one, 1, "d"), file(two, mine, "e"),
            text(one, "danach", "f"),
        )  # fmt: skip
    assert answers == [(2, False), code, code, code, (3, False)]
    assert {entry["event"] for entry in logged} <= {"hub.commit_failed", "hub.commit_refused"}
    assert len(logged) == 4
    await stage.check()
    stage.files.fails = None
    assert await node.together(recall(one, 1, "d"), file(one, mine, "c"), text(one, "davor", "b")) == [
        (4, False), (5, False), (2, True)
    ]  # fmt: skip
    await stage.check()


async def test_a_database_that_is_away_is_not_asked_for_each_message(stage: Stage, node: Node) -> None:
    one, _ = stage.streams
    mine = await stage.put(a_file())
    stage.files.fails = ConnectionLost()
    answers = await node.together(file(one, mine, "a"), text(one, "x", "b"), file(one, mine, "c"))
    assert answers == ["unavailable"] * 3
    assert node.statements.count("lock") == ATTEMPTS
    await stage.check()


async def test_sends_recalls_and_clean_ups_at_once_never_part_a_message_from_its_file(stage: Stage) -> None:
    one, two = stage.streams
    nodes = [Node(stage), Node(stage)]
    chance = random.Random(7)
    outcomes = set[Any]()

    for turn in range(40):
        mine = await stage.put(a_file())
        ((seq, _),) = await nodes[0].together(file(one, mine, f"first-{turn}"))
        wanted = asyncio.Semaphore(0)
        done = asyncio.Event()

        async def clean(mine: int = mine, wanted: Any = wanted, done: Any = done) -> None:
            while not done.is_set():
                outcomes.add(await stage.clean_up(mine))
                wanted.release()

        async def again(mine: int = mine, wanted: Any = wanted, done: Any = done, turn: int = turn) -> Any:
            for _ in range(chance.choice((0, 0, 1, 2, 3, 5))):  # so many clean-ups first
                await wanted.acquire()
            batch = file(two, mine, f"second-{turn}"), text(two, "x", f"beside-{turn}")
            try:
                return await nodes[1].together(*batch)
            finally:
                done.set()

        answers, _, _ = await asyncio.gather(
            again(), nodes[0].together(recall(one, seq, f"recall-{turn}")), clean()
        )
        outcomes.add(answers[0] if isinstance(answers[0], str) else "sent")
        assert isinstance(answers[1], tuple)
    await stage.check()
    assert outcomes == {"sent", "not_found", True, False}, "the race was always won by the same"
    for node in nodes:
        await node.writer.stop()


@pytest.mark.parametrize("seed", range(6))
async def test_the_same_script_gives_the_same_answers(database: str, seed: int) -> None:
    """Batches, repetitions, restarts, recalls and clean-ups drawn from a seed: word for word the same on both."""
    real = Postgres()
    await real.open(database)
    plays = [await _play(stage, seed) for stage in (Memory(), real)]
    for number, (double, engine) in enumerate(zip(*plays, strict=True)):
        assert double == engine, plays[0][max(0, number - 5) : number]
    await real.close()


async def _play(stage: Stage, seed: int) -> list[Any]:
    chance, seen = random.Random(seed), list[Any]()
    node, files, said = Node(stage), list[int](), list[tuple[int, int, str]]()
    first = 10_000_000 * (seed + 1)
    for turn in range(60):
        drawn = chance.random()
        if drawn < 0.1:
            await node.writer.stop()
            node = Node(stage)
        elif drawn < 0.3 and files:
            seen.append(("cleaned", await stage.clean_up(chance.choice(files))))
        elif drawn < 0.55:
            owner = chance.choice((ME, ME, OTHER))
            files.append(await stage.put(first + turn, owner, ready=chance.random() < 0.9))
        else:
            batch = []
            for number in range(chance.randint(1, 5)):
                which, sender, key = chance.randrange(2), chance.choice((ME, OTHER)), f"{turn}-{number}"
                drawn = chance.random()
                if drawn < 0.5 and files:
                    said.append((which, chance.choice(files), f"{sender}-{key}"))
                if drawn < 0.6 and said:
                    which, file_id, key = said[-1] if drawn < 0.5 else chance.choice(said)
                    batch.append(file(stage.streams[which], file_id, key, int(key[0])))
                elif drawn < 0.8:
                    batch.append(recall(stage.streams[which], chance.randint(1, 12), key, sender))
                else:
                    batch.append(text(stage.streams[which], "x", key, sender))
            seen.append(await node.together(*batch))
    await node.writer.stop()
    await stage.check()
    places = {stream: number for number, stream in enumerate(stage.streams)}
    _, references, released = await stage.kept()
    seen.append([(f, places[s], seq) for f, s, seq in references])
    seen.append([(places[s], seq) for s, seq in released])
    return seen


def test_without_anybody_who_keeps_files_a_message_with_one_is_refused() -> None:
    nobody = Carrier(None, carried)
    assert nobody.asked(ENTERPRISE, ME, "text", "hallo") is None
    with pytest.raises(Invalid, match="not served here"):
        nobody.asked(ENTERPRISE, ME, "file", {"file_id": "5"})
