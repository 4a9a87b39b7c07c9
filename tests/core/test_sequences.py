"""Business numbers: dense under concurrency, rollback and first use; ranges unique across processes."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime

import pytest

from core.clock import business_date
from core.db import Database, Transaction
from core.rng import SeededRng
from core.sequences import Segments, formatted, next_number, sweep

DAY = date(2026, 1, 1)


async def test_numbers_are_dense_whoever_rolls_back(clean_db: Database) -> None:
    rng, kept = SeededRng(3), list[int]()

    async def work(tx: Transaction, fails: bool) -> None:
        number = await next_number(tx, "voucher", DAY)
        await asyncio.sleep(rng.random() * 0.002)
        if fails:
            raise ZeroDivisionError
        tx.on_commit(lambda: kept.append(number))

    await asyncio.gather(*(clean_db.run(work, n % 3 == 0) for n in range(60)), return_exceptions=True)
    assert kept == list(range(1, 41))


async def test_names_and_days_count_for_themselves(clean_db: Database) -> None:
    async def both(tx: Transaction) -> tuple[int, ...]:
        return (
            await next_number(tx, "a", DAY),
            await next_number(tx, "a", DAY),
            await next_number(tx, "b", DAY),
            await next_number(tx, "a", date(2026, 1, 2)),
        )

    assert await clean_db.run(both) == (1, 2, 1, 1)
    assert await sweep(clean_db, date(2026, 1, 2)) == 2


async def test_segments_of_several_processes_never_meet(clean_db: Database) -> None:
    processes = [Segments(clean_db, size=7) for _ in range(4)]

    async def draw(process: Segments) -> list[int]:
        return [await process.next("ticket", DAY) for _ in range(25)]

    drawn = await asyncio.gather(*(draw(process) for process in processes for _ in range(3)))
    numbers = [n for ns in drawn for n in ns]
    assert len(set(numbers)) == len(numbers) == 300
    assert all(ns == sorted(ns) for ns in drawn)


def test_the_day_is_shanghais() -> None:
    assert business_date(datetime(2026, 1, 1, 15, 59, 59, tzinfo=UTC)) == date(2026, 1, 1)
    assert business_date(datetime(2026, 1, 1, 16, 0, tzinfo=UTC)) == date(2026, 1, 2)
    with pytest.raises(ValueError, match="aware"):
        business_date(datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_number_that_does_not_fit_is_refused() -> None:
    assert formatted("TR", DAY, 42) == "TR2026010100000042"
    with pytest.raises(ValueError, match="run out"):
        formatted("TR", DAY, 100, digits=2)
