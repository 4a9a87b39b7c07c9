"""The database as the product sees it: what is retried, what is never retried, what is refused at start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from core import db as database_module
from core.db import (
    IN_MAX,
    CommitUnknown,
    ConnectionLost,
    Contention,
    Database,
    DatabaseError,
    IntegrityViolation,
    NotDurable,
    PoolTimeout,
    Record,
    Sql,
    StatementTimeout,
    Transaction,
    UniqueViolation,
    connect,
    sql,
)
from core.db.dm import connect_dm
from core.db.interface import ATTEMPTS
from core.db.registry import padded
from core.errors import Internal, Invalid
from core.rng import SeededRng
from tests.wire import Wire

from . import fake_dm
from .conftest import raw

CREATE = raw(
    "CREATE TABLE t_things (id BIGINT PRIMARY KEY, n BIGINT NOT NULL CHECK (n < 100000), made_at TIMESTAMPTZ, "
    "raw BYTEA)"
)
PUT = raw("INSERT INTO t_things (id, n) VALUES ($1, $2)")
BUMP = raw("UPDATE t_things SET n = n + 1 WHERE id = $1")
GET = raw("SELECT n FROM t_things WHERE id = $1")
ALL = raw("SELECT id, n FROM t_things ORDER BY id")
IN_LIST = raw("SELECT id FROM t_things WHERE n >= $1 AND id IN ($*) ORDER BY id")
DEL_LIST = raw("DELETE FROM t_things WHERE n >= $1 AND id IN ($*)")
ME = raw("SELECT pg_backend_pid()")
SLEEP = raw("SELECT pg_sleep($1)")


@pytest.fixture(params=["postgresql", "dm on its double"])
async def things(empty_database: str, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """The interface over both drivers. The second one's is a double that runs on PostgreSQL too: it is not DM8."""
    db: Database
    if request.param == "postgresql":
        db = await connect(empty_database, min_size=1, max_size=8, rng=SeededRng(1))
    else:
        db = await connect_double(empty_database, max_size=8)
    await db.execute(raw("DROP TABLE IF EXISTS t_things"))
    await db.execute(CREATE)
    yield db
    await db.close()


async def connect_double(url: str, *, max_size: int, **options: float) -> Database:
    return await connect_dm(
        url.replace("postgresql://", "dm://"),
        min_size=1,
        max_size=max_size,
        acquire_timeout_s=options.get("acquire_timeout_s", 5.0),
        statement_timeout_s=options.get("statement_timeout_s", 30.0),
        rng=SeededRng(1),
        driver=fake_dm,
    )


async def rows(db: Database) -> dict[int, int]:
    return {row["id"]: row["n"] for row in await db.fetch(ALL)}


# --- statements -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["SELECT $2", "SELECT $1, $3", "SELECT 1 WHERE 1 = ANY($*)", "x IN ($*) AND y IN ($*)"]
)
def test_parameters_must_add_up(text: str) -> None:
    with pytest.raises(ValueError, match=r"test_db:|parameters|list"):
        sql(text)


def test_an_exemption_says_why() -> None:
    with pytest.raises(ValueError, match="why"):
        sql("SELECT 1", exempt="yes")


def test_a_list_is_padded_to_few_sizes() -> None:
    assert [padded(n) for n in (1, 2, 3, 4, 5, 511, 512)] == [1, 2, 4, 4, 8, 512, 512]
    assert Sql("SELECT $1 IN ($*)", None, "x").expanded(2) == "SELECT $1 IN ($2, $3)"


@pytest.mark.parametrize("count", [0, 1, 3, IN_MAX, IN_MAX + 1, 1300])
async def test_lists_of_any_length(things: Database, count: int) -> None:
    await things.insert_many("t_things", ("id", "n"), [(n, n % 2) for n in range(1400)])
    wanted = list(range(count))
    found = [row[0] for row in await things.fetch_in(IN_LIST, wanted, 1)]
    assert found == [n for n in wanted if n % 2]
    assert await things.execute_in(DEL_LIST, wanted, 0) == count
    assert len(await rows(things)) == 1400 - count


async def test_a_long_list_is_cut(things: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    async def count(text: str, args: Sequence[Any]) -> list[Record]:
        sizes.append(len(args) - 1)
        return []

    monkeypatch.setattr(things, "_fetch", count)
    await things.fetch_in(IN_LIST, list(range(2 * IN_MAX + 3)), 1)
    assert sizes == [IN_MAX, IN_MAX, 4]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 500])
async def test_insert_many_is_all_or_nothing(things: Database, count: int) -> None:
    made = datetime(2026, 1, 1, 12, 30, 0, 123000, tzinfo=UTC)
    columns = ("id", "n", "made_at", "raw")
    await things.insert_many("t_things", columns, [(n, n, made, b"\x00\xff") for n in range(count)])
    assert len(await rows(things)) == count
    with pytest.raises(UniqueViolation) as caught:
        await things.insert_many(
            "t_things", ("id", "n"), [(1000 + n, 0) for n in range(count)] + [(7777, 0)] * 2
        )
    assert caught.value.__cause__ is not None
    if things.dialect == "postgresql":
        assert caught.value.constraint == "t_things_pkey"
    assert len(await rows(things)) == count
    if count:
        row = await things.fetchrow(raw("SELECT made_at, raw FROM t_things WHERE id = 0"))
        assert row is not None
        assert tuple(row) == (made, b"\x00\xff")


async def test_rowcounts_and_single_values(things: Database) -> None:
    assert await things.execute(PUT, 1, 5) == 1
    assert await things.execute(BUMP, 2) == 0
    assert await things.fetchval(GET, 1) == 5
    assert await things.fetchval(GET, 2) is None
    assert await things.fetchrow(GET, 2) is None
    await things.executemany(BUMP, [(1,), (1,), (2,)])
    assert await rows(things) == {1: 7}


# --- transactions ---------------------------------------------------------------------------------------------------


async def test_a_block_commits_or_rolls_back(things: Database) -> None:
    hooked: list[int] = []
    async with things.transaction() as tx:
        await tx.execute(PUT, 1, 0)
        tx.on_commit(lambda: hooked.append(1))
        assert hooked == []
    with pytest.raises(ZeroDivisionError):
        async with things.transaction() as tx:
            await tx.execute(PUT, 2, 0)
            tx.on_commit(lambda: hooked.append(2))
            raise ZeroDivisionError
    assert hooked == [1]
    assert await rows(things) == {1: 0}


async def test_a_cancelled_block_rolls_back_and_gives_its_connection_back(things: Database) -> None:
    async def work() -> None:
        async with things.transaction() as tx:
            await tx.execute(PUT, 1, 0)
            await tx.fetchval(SLEEP, 2.0)

    tasks = [asyncio.create_task(work()) for _ in range(8)]
    await asyncio.sleep(0.3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await asyncio.gather(*(things.fetchval(raw("SELECT 1")) for _ in range(8))) == [1] * 8
    assert await rows(things) == {}


async def test_a_swallowed_failure_does_not_commit_in_silence(things: Database) -> None:
    """PostgreSQL answers COMMIT of a failed transaction with ROLLBACK and no error."""
    with pytest.raises(DatabaseError, match="nothing was written"):
        async with things.transaction() as tx:
            await tx.execute(PUT, 1, 0)
            with suppress(UniqueViolation):
                await tx.execute(PUT, 1, 0)
    assert await rows(things) == {}


async def test_a_savepoint_can_fail_alone(things: Database) -> None:
    async with things.transaction() as tx:
        await tx.execute(PUT, 1, 0)
        for _ in range(2):
            with pytest.raises(UniqueViolation):
                async with tx.savepoint():
                    await tx.execute(PUT, 2, 0)
                    await tx.execute(PUT, 1, 0)
        async with tx.savepoint():
            await tx.execute(PUT, 3, 0)
    assert await rows(things) == {1: 0, 3: 0}


async def test_errors_are_ours_and_classified(things: Database) -> None:
    await things.execute(PUT, 1, 0)
    cases: list[tuple[type[Exception], Callable[[], Any]]] = [
        (UniqueViolation, lambda: things.execute(PUT, 1, 0)),
        (IntegrityViolation, lambda: things.execute(PUT, 2, 100_000)),
        (IntegrityViolation, lambda: things.execute(PUT, 2, None)),
        (DatabaseError, lambda: things.fetch(raw("SELECT nothing_like_this"))),
        (DatabaseError, lambda: things.execute(PUT, 1)),
        (DatabaseError, lambda: things.execute(PUT, "one", 1)),
    ]
    for kind, call in cases:
        with pytest.raises(kind) as caught:
            await call()
        assert isinstance(caught.value, Internal)
        assert caught.value.__cause__ is not None or "parameters" in caught.value.message


async def test_statements_that_take_too_long_are_ended(empty_database: str) -> None:
    db = await connect(empty_database, min_size=1, max_size=1, statement_timeout_s=0.1)
    with pytest.raises(StatementTimeout):
        await db.fetchval(SLEEP, 5.0)
    assert await db.fetchval(raw("SELECT 1")) == 1
    await db.close()


async def test_waiting_for_a_connection_has_an_end(empty_database: str) -> None:
    db = await connect(empty_database, min_size=1, max_size=1, acquire_timeout_s=0.1)
    async with db.transaction():
        with pytest.raises(PoolTimeout):
            await db.fetchval(raw("SELECT 1"))
    await db.close()


# --- the retry set --------------------------------------------------------------------------------------------------


async def test_a_deadlock_is_retried(things: Database) -> None:
    await things.insert_many("t_things", ("id", "n"), [(1, 0), (2, 0)])
    attempts, both = [0, 0], asyncio.Barrier(2)

    async def step(tx: Transaction, who: int, first: int, second: int) -> None:
        attempts[who] += 1
        await tx.execute(BUMP, first)
        if attempts[who] == 1:
            await both.wait()
        await tx.execute(BUMP, second)

    await asyncio.gather(things.run(step, 0, 1, 2), things.run(step, 1, 2, 1))
    assert sorted(attempts) == [1, 2]
    assert await rows(things) == {1: 2, 2: 2}


async def test_a_serialization_failure_is_retried(things: Database) -> None:
    if things.dialect == "dm":
        pytest.skip("the double cannot be told to be serializable")
    await things.execute(PUT, 1, 0)
    attempts = 0

    async def step(tx: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        await tx.execute(raw("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        await tx.fetchval(GET, 1)
        if attempts == 1:
            await things.execute(BUMP, 1)
        await tx.execute(BUMP, 1)

    await things.run(step)
    assert attempts == 2
    assert await rows(things) == {1: 2}


async def test_a_lock_that_is_not_given_is_contention(empty_database: str, things: Database) -> None:
    db = await connect(empty_database, min_size=1, max_size=2, lock_timeout_s=0.05)
    await things.execute(PUT, 1, 0)
    async with things.transaction() as tx:
        await tx.execute(BUMP, 1)
        with pytest.raises(Contention):
            await db.execute(BUMP, 1)
    await db.close()


async def test_a_connection_lost_before_the_commit_is_retried(things: Database) -> None:
    attempts = 0

    async def step(tx: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        await tx.execute(PUT, 1, attempts)
        if attempts == 1:
            await things.execute(raw("SELECT pg_terminate_backend($1)"), await tx.fetchval(ME))
        await tx.execute(BUMP, 1)

    await things.run(step)
    assert attempts == 2
    assert await rows(things) == {1: 3}


async def test_a_fault_of_ours_is_not_retried(things: Database) -> None:
    attempts = 0

    async def step(tx: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        await tx.execute(PUT, 1, 0)
        await tx.execute(PUT, 1, 0)

    with pytest.raises(UniqueViolation):
        await things.run(step)
    assert attempts == 1


async def test_contention_without_end_is_told(things: Database) -> None:
    attempts = 0

    async def step(tx: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        raise Contention

    with pytest.raises(Contention):
        await things.run(step)
    assert attempts == ATTEMPTS


async def test_a_connection_lost_during_the_commit_is_unknown_and_never_retried(
    empty_database: str, things: Database
) -> None:
    """The wire lets COMMIT through and loses the answer: it has happened, and only the caller's key can find out."""
    wire, url = await Wire.before(empty_database)
    db = await connect(url, min_size=1, max_size=1, rng=SeededRng(1))
    attempts = 0

    async def step(tx: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        await tx.execute(PUT, 1, 0)
        wire.cut_after = b"COMMIT"

    with pytest.raises(CommitUnknown):
        await db.run(step)
    assert attempts == 1
    async with asyncio.timeout(5):
        while await rows(things) != {1: 0}:
            await asyncio.sleep(0.01)
    await db.execute(BUMP, 1)  # the pool has got over it
    await db.close()
    await wire.close()


async def test_a_write_of_its_own_that_loses_its_answer_is_unknown_too(
    empty_database: str, things: Database
) -> None:
    wire, url = await Wire.before(empty_database)
    db = await connect(url, min_size=0, max_size=1)
    await db.execute(PUT, 1, 0)
    await db.execute(BUMP, 1)
    wire.cut_after = b"B\x00"  # a Bind message
    with pytest.raises(CommitUnknown):
        await db.execute(BUMP, 1)
    assert await db.fetchval(GET, 1) in (1, 2)
    wire.cut_after = b"B\x00"
    with pytest.raises(ConnectionLost):
        await db.fetchval(GET, 1)
    await db.close()
    await wire.close()


async def test_a_database_that_is_away_and_back(empty_database: str) -> None:
    wire, url = await Wire.before(empty_database)
    db = await connect(url, min_size=2, max_size=4)
    wire.set_cut(True)
    with pytest.raises(ConnectionLost):
        async with db.transaction() as tx:
            await tx.fetchval(ME)
    wire.set_cut(False)
    assert await db.fetchval(raw("SELECT 1")) == 1
    await db.close()
    await wire.close()


# --- at start -------------------------------------------------------------------------------------------------------


async def test_a_database_that_may_lose_writes_is_refused(empty_database: str) -> None:
    name = empty_database.rpartition("/")[2]
    db = await connect(empty_database, min_size=1, max_size=1)
    await db.execute(raw(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    with pytest.raises(NotDurable, match="synchronous_commit"):
        await connect(empty_database, min_size=1, max_size=1)
    await db.execute(raw(f"ALTER DATABASE {name} RESET synchronous_commit"))
    await db.close()
    await (await connect(empty_database, min_size=1, max_size=1)).close()


async def test_a_commit_is_on_disk_before_it_is_answered(empty_database: str) -> None:
    """One sync of the write-ahead log for each transaction, however many statements it has; none for reads."""
    fsyncs = raw(
        "SELECT SUM(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal' AND backend_type = 'client backend'"
    )
    db = await connect(empty_database, min_size=1, max_size=1)
    await db.execute(raw("CREATE TABLE t_synced (id BIGINT)"))

    async def counted() -> int:
        await db.fetchval(raw("SELECT pg_stat_force_next_flush()"))
        return int(await db.fetchval(fsyncs))

    before = await counted()
    for _ in range(10):
        async with db.transaction() as tx:
            await tx.insert_many("t_synced", ("id",), [(n,) for n in range(100)])
            await tx.execute(raw("DELETE FROM t_synced WHERE id = 5"))
    after = await counted()
    assert 10 <= after - before <= 12
    for _ in range(10):
        await db.fetch(raw("SELECT id FROM t_synced"))
    assert await counted() - after <= 1
    await db.close()


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_the_guard_reads_every_setting(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """These two are the whole server's: the guard's question is asked with that answer replaced."""
    monkeypatch.setattr(
        "core.db.postgres._GUARD",
        f"SELECT {', '.join(repr('off') if s == setting else repr('on') for s in ('fsync', 'full_page_writes', 'x'))}",
    )
    with pytest.raises(NotDurable, match=setting):
        await connect(empty_database, min_size=1, max_size=1)


async def test_what_cannot_be_reached_and_what_is_not_supported() -> None:
    with pytest.raises(ConnectionLost):
        await connect("postgresql://nobody:x@127.0.0.1:1/none", min_size=1, max_size=1)
    with pytest.raises(Invalid):
        await connect("mysql://localhost/none")


def test_the_public_names_are_there() -> None:
    for name in database_module.__all__:
        assert hasattr(database_module, name)
