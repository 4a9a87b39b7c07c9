"""Connections passed from hand to hand: none is lost, none is shared, whoever waits first gets one first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.db import ConnectionLost, connect, sql
from core.db.errors import PoolTimeout
from core.db.interface import Transaction
from core.db.postgres import PostgresDatabase
from core.db.postgres_pool import Hands
from core.errors import Internal

SLEEP = sql("SELECT pg_sleep($1)")
ME = sql("SELECT pg_backend_pid()")
END_OTHERS = sql(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE pid <> pg_backend_pid() AND usename = current_user AND datname = current_database()"
)
MAKE = sql("CREATE TABLE IF NOT EXISTS hands (n BIGINT)")
PUT = sql("INSERT INTO hands (n) VALUES ($1)")
LOOK = sql("SELECT n FROM hands")


@pytest.fixture
async def db(empty_database: str) -> AsyncIterator[Any]:
    database = await connect(empty_database, min_size=1, max_size=3, acquire_timeout_s=30.0)
    yield database
    await database.close()


async def test_more_callers_than_connections_all_get_their_turn(db: PostgresDatabase) -> None:
    pids = await asyncio.gather(*(db.fetchval(ME) for _ in range(200)))
    assert len(set(pids)) <= 3

    async def one(tx: Transaction) -> int:
        first = await tx.fetchval(ME)
        await tx.fetchval(SLEEP, 0.001)
        assert await tx.fetchval(ME) == first
        return int(first)

    assert len(set(await asyncio.gather(*(db.run(one) for _ in range(100))))) <= 3


async def test_cancelled_callers_lose_no_connection(db: PostgresDatabase) -> None:
    for delay in (0.0, 0.001, 0.01, 0.05):
        tasks = [asyncio.ensure_future(db.fetchval(SLEEP, 0.02)) for _ in range(20)]
        await asyncio.sleep(delay)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(db.fetchval(SLEEP, 0.01) for _ in range(9)))


async def test_whoever_waits_too_long_is_told(empty_database: str) -> None:
    database = await connect(empty_database, min_size=1, max_size=1, acquire_timeout_s=0.2)
    busy = asyncio.ensure_future(database.fetchval(SLEEP, 0.6))
    await asyncio.sleep(0.05)
    with pytest.raises(PoolTimeout):
        await database.fetchval(ME)
    await busy
    assert await database.fetchval(ME)
    await database.close()


async def test_broken_connections_are_replaced_for_those_who_wait(
    db: PostgresDatabase, empty_database: str
) -> None:
    other = await connect(empty_database, min_size=1, max_size=1)
    tasks = [asyncio.ensure_future(db.fetchval(SLEEP, 5)) for _ in range(3)]
    waiting = [asyncio.ensure_future(db.fetchval(ME)) for _ in range(6)]
    await asyncio.sleep(0.1)
    await other.fetchval(END_OTHERS)
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, ConnectionLost) for one in ended)
    assert all(await asyncio.gather(*waiting))
    await other.fetchval(END_OTHERS)  # now idle ones
    await asyncio.sleep(0.05)
    assert await db.fetchval(ME)
    await other.close()


async def test_what_only_reads_cannot_write(db: PostgresDatabase) -> None:
    await db.execute(MAKE)

    async def write(tx: Transaction) -> None:
        await tx.execute(PUT, 1)

    with pytest.raises(Internal):
        await db.read(write)

    async def look(tx: Transaction) -> int:
        return len(await tx.fetch(LOOK))

    assert await db.read(look) == 0
    await db.run(write)
    assert await db.read(look) == 1


class _Pool:
    """Counts what asyncpg's pool would be asked."""

    def __init__(self) -> None:
        self.out = self.taken = 0

    async def acquire(self, timeout: float) -> Any:
        await asyncio.sleep(0)
        self.out += 1
        self.taken += 1
        return _Connection()

    async def release(self, connection: Any) -> None:
        self.out -= 1


class _Connection:
    closed = False

    def is_closed(self) -> bool:
        return self.closed


async def test_the_inner_pool_is_hardly_asked_and_gets_everything_back() -> None:
    pool = _Pool()
    hands = Hands(pool, 2, 1.0)
    for _ in range(50):
        one, two = await hands.take(), await hands.take()
        assert one is not two
        hands.give(one)
        hands.give(two)
    assert pool.taken == 2
    broken = await hands.take()
    broken.closed = True
    hands.give(broken)
    assert await hands.take() is not broken
    await hands.close()
    assert pool.out == 1  # the one that is still in use
