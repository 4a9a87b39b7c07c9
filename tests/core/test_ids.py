"""Ids never repeat: not when the clock steps back, not when a lease is stolen, not when it leaps ahead."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from core.clock import ManualClock
from core.db import Database
from core.errors import Unavailable
from core.ids import COUNTS, EPOCH_MS, LEASE_S, WORKERS, Ids, WorkerLease, time_ms_of, worker_of
from core.rng import SeededRng

from .conftest import raw

LEASE_MS = int(LEASE_S * 1000)


def grows(ids: list[int]) -> bool:
    return all(a < b for a, b in pairwise(ids))


def test_an_id_tells_when_and_by_whom_it_was_made(manual_clock: ManualClock) -> None:
    made = Ids(manual_clock, 1023).next()
    assert 0 < made < 1 << 63
    assert time_ms_of(made) == manual_clock.now_ms()
    assert worker_of(made) == 1023


@pytest.mark.parametrize("worker", [-1, WORKERS])
def test_a_worker_number_has_ten_bits(worker: int, manual_clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="between 0 and 1023"):
        Ids(manual_clock, worker)


def test_more_than_fit_into_a_millisecond_borrow_the_next(manual_clock: ManualClock) -> None:
    ids = Ids(manual_clock, 1)
    made = [ids.next() for _ in range(3 * COUNTS)]
    assert grows(made)
    assert time_ms_of(made[-1]) == manual_clock.now_ms() + 2


def test_they_grow_when_the_clock_steps_back(manual_clock: ManualClock) -> None:
    ids = Ids(manual_clock, 1)
    made = [ids.next()]
    for step in (-1, -3_600_000, 10, -86_400_000, 90_000_000):
        manual_clock.step(step)
        made += [ids.next() for _ in range(COUNTS + 1)]
    assert grows(made)


def test_the_horizon_is_never_crossed(manual_clock: ManualClock) -> None:
    now_ms = manual_clock.now_ms()
    ids = Ids(manual_clock, 1, horizon_ms=now_ms + 2)
    manual_clock.step(3_600_000)  # the clock leaps: what is left of the lease still serves
    made = [ids.next() for _ in range(COUNTS)]
    assert {time_ms_of(i) for i in made} == {now_ms + 1}
    with pytest.raises(Unavailable):
        ids.next()
    ids.extend(manual_clock.now_ms() + 10)
    made.append(ids.next())
    assert time_ms_of(made[-1]) == manual_clock.now_ms()
    assert grows(made)


def test_a_clock_before_the_epoch_is_refused() -> None:
    with pytest.raises(Unavailable):
        Ids(ManualClock(EPOCH_MS - 10_000), 1).next()


async def test_two_processes_never_share_a_number(clean_db: Database, manual_clock: ManualClock) -> None:
    leases = await asyncio.gather(
        *(WorkerLease.acquire(clean_db, manual_clock, rng=SeededRng(n)) for n in range(12))
    )
    assert sorted(lease.worker for lease in leases) == list(range(12))


async def test_a_released_number_is_taken_again_and_no_id_twice(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    first = await WorkerLease.acquire(clean_db, manual_clock)
    made = [first.ids.next() for _ in range(COUNTS + 5)]
    await first.release()
    with pytest.raises(Unavailable):
        first.ids.next()
    manual_clock.step(-7_200_000)
    second = await WorkerLease.acquire(clean_db, manual_clock)
    assert second.worker == first.worker
    made += [second.ids.next() for _ in range(COUNTS)]
    assert grows(made)


async def test_a_stolen_lease_repeats_nothing_whatever_the_clocks_say(clean_db: Database) -> None:
    """The first process is stopped past its lease, the thief's clock is an hour behind; then the first wakes up."""
    its, theirs = ManualClock(1_800_003_600_000), ManualClock(1_800_000_000_000)
    first = await WorkerLease.acquire(clean_db, its)
    made = [first.ids.next() for _ in range(100)]
    theirs.advance(3_600_000 + LEASE_MS + 1)
    thief = await WorkerLease.acquire(clean_db, theirs)
    assert thief.worker == first.worker
    made_there = [thief.ids.next() for _ in range(100)]
    theirs.step(-3_600_000)
    made_there += [thief.ids.next() for _ in range(100)]
    made += [first.ids.next() for _ in range(100)]  # it does not know yet
    its.advance(3_600_000)
    made += [first.ids.next() for _ in range(100)]
    assert not set(made) & set(made_there)
    assert grows(made)
    assert grows(made_there)
    assert await first.renew() is False
    assert await thief.renew() is True


async def test_a_process_that_lost_its_number_is_told(
    clean_db: Database, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.ids.RENEW_S", 0.02)
    lost = asyncio.Event()
    first = await WorkerLease.acquire(clean_db, manual_clock, on_lost=lost.set)
    first.start()
    await asyncio.sleep(0.1)
    assert not lost.is_set()
    await clean_db.execute(raw("UPDATE core_worker_leases SET holder = 'another'"))
    await asyncio.wait_for(lost.wait(), 5.0)
    await first.release()
    assert await clean_db.fetchval(raw("SELECT holder FROM core_worker_leases")) == "another"


async def test_numbers_run_out_with_a_clear_refusal(clean_db: Database, manual_clock: ManualClock) -> None:
    await clean_db.execute(
        raw("INSERT INTO core_worker_leases SELECT n, 'x', $1::timestamptz + interval '1 minute', 0 "
            "FROM generate_series(0, 1023) n"),
        manual_clock.now(),
    )  # fmt: skip
    with pytest.raises(Unavailable, match="all worker numbers"):
        await WorkerLease.acquire(clean_db, manual_clock)
    manual_clock.advance(60_001)
    assert (await WorkerLease.acquire(clean_db, manual_clock)).worker == 0


async def test_a_lease_of_a_clock_that_was_ahead_does_not_hold_a_number_for_days(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    ahead = ManualClock(manual_clock.now_ms() + 86_400_000)
    dead = await WorkerLease.acquire(clean_db, ahead)
    made = [dead.ids.next()]
    heir = await WorkerLease.acquire(clean_db, manual_clock)
    assert heir.worker == dead.worker
    made.append(heir.ids.next())
    assert grows(made)
