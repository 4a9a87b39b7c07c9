"""Jobs run when they are due, once across workers, and again when a worker dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta

import pytest

from core import failpoints, jobs
from core.clock import ManualClock, SystemClock
from core.db import Database, Transaction, sql
from core.ids import Ids
from core.jobs import Daily, Every, Job, JobRun, LeaseLost, later
from core.rng import SeededRng
from core.runner import LEASE_S, Runner

from .conftest import raw

LEASE_MS = int(LEASE_S * 1000)
EFFECT = sql("INSERT INTO core_sequences (name, business_date, last_number) VALUES ($1, CURRENT_DATE, 0)")
EFFECTS = raw("SELECT count(*) FROM core_sequences")
ROW = raw("SELECT state, attempts, runs, due_at, reason, lease_holder FROM core_jobs")


@pytest.fixture(autouse=True)
def harmless() -> Iterator[None]:
    yield
    failpoints.disarm()


def runner(
    db: Database, clock: ManualClock | SystemClock, *declared: Job, seed: int = 1, renew_s: float = 15.0
) -> Runner:
    return Runner(db, clock, SeededRng(seed), Ids(clock, seed), declared, renew_s=renew_s, poll_s=0.05)


async def ask(
    db: Database, clock: ManualClock | SystemClock, job: Job, due_in_s: float = 0, **params: object
) -> int:
    async def step(tx: Transaction) -> int:
        due = clock.now() + timedelta(seconds=due_in_s)
        return await later(tx, job, params, due, ids=Ids(clock, 9), clock=clock)

    return await db.run(step)


async def test_a_delayed_job_runs_once_when_it_is_due(clean_db: Database, manual_clock: ManualClock) -> None:
    seen = list[object]()

    async def handler(run: JobRun) -> None:
        seen.append((run.params, run.attempt))

    job = Job("t.once", handler)
    await ask(clean_db, manual_clock, job, due_in_s=10, task_id=5)
    one = runner(clean_db, manual_clock, job)
    assert await one.run_once() == 0
    manual_clock.advance(10_000)
    assert await one.run_once() == 1
    assert await one.run_once() == 0
    assert seen == [({"task_id": 5}, 1)]
    assert await jobs.sweep(clean_db, manual_clock.now() + timedelta(days=8)) == 1


async def test_a_job_asked_for_in_a_transaction_that_fails_is_not_there(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    async def handler(run: JobRun) -> None: ...

    job = Job("t.never", handler)
    with pytest.raises(ZeroDivisionError):
        async with clean_db.transaction() as tx:
            await later(tx, job, {}, manual_clock.now(), ids=Ids(manual_clock, 1), clock=manual_clock)
            raise ZeroDivisionError
    assert await runner(clean_db, manual_clock, job).run_once() == 0


async def test_a_key_asks_once_also_in_a_race(clean_db: Database, manual_clock: ManualClock) -> None:
    async def handler(run: JobRun) -> None: ...

    job = Job("t.keyed", handler)
    ids = Ids(manual_clock, 1)

    async def step(tx: Transaction) -> int:
        return await later(tx, job, {}, manual_clock.now(), ids=ids, clock=manual_clock, dedupe_key="5")

    made = await asyncio.gather(*(clean_db.run(step) for _ in range(10)))
    assert len(set(made)) == 1
    assert await runner(clean_db, manual_clock, job).run_once() == 1


async def test_many_workers_run_each_job_once(clean_db: Database) -> None:
    clock, seen = SystemClock(), Counter[object]()

    async def handler(run: JobRun) -> None:
        seen[run.params["n"]] += 1
        await asyncio.sleep(0.001)

    job = Job("t.many", handler)
    for n in range(60):
        await ask(clean_db, clock, job, n=n)
    workers = [runner(clean_db, clock, job, seed=n) for n in range(1, 5)]
    for worker in workers:
        await worker.start()
    async with asyncio.timeout(20):
        while await clean_db.fetchval(raw("SELECT count(*) FROM core_jobs WHERE state = 0")):
            await asyncio.sleep(0.02)
    for worker in workers:
        await worker.stop()
    assert seen == dict.fromkeys(range(60), 1)


async def test_a_schedule_is_entered_once_and_kept_by_all_workers(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    seen = list[datetime]()

    async def handler(run: JobRun) -> None:
        seen.append(run.due_at)

    job = Job("t.every", handler, schedule=Every(60))
    workers = [runner(clean_db, manual_clock, job, seed=n) for n in range(1, 4)]
    await asyncio.gather(*(worker.enter_schedules() for worker in workers))
    start = manual_clock.now()
    for _ in range(3):
        manual_clock.advance(60_000)
        assert sum(await asyncio.gather(*(worker.run_once() for worker in workers))) == 1
    manual_clock.advance(600_000)  # nobody was there: it runs once, not ten times
    assert sum(await asyncio.gather(*(worker.run_once() for worker in workers))) == 1
    assert sum(await asyncio.gather(*(worker.run_once() for worker in workers))) == 0
    assert seen == [start + timedelta(minutes=n) for n in (1, 2, 3, 4)]
    assert (await clean_db.fetchrow(ROW))["runs"] == 4  # type: ignore[index]


def test_daily_times_are_shanghais() -> None:
    daily = Daily(time(22, 30), time(3))
    assert daily.next(datetime(2026, 1, 1, 14, 29, tzinfo=UTC)) == datetime(2026, 1, 1, 14, 30, tzinfo=UTC)
    assert daily.next(datetime(2026, 1, 1, 14, 30, tzinfo=UTC)) == datetime(2026, 1, 1, 19, 0, tzinfo=UTC)


async def test_a_worker_that_dies_is_followed_by_another(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    async def handler(run: JobRun) -> None:
        await run.transact(lambda tx: tx.execute(EFFECT, f"{run.job_id}/{run.attempt}"))

    job = Job("t.crash", handler)
    await ask(clean_db, manual_clock, job)
    failpoints.arm("jobs.after_run", "error", at=1)
    first = runner(clean_db, manual_clock, job)
    first._close = _dead  # type: ignore[method-assign]
    await first.run_once()
    assert await runner(clean_db, manual_clock, job, seed=2).run_once() == 0
    manual_clock.advance(LEASE_MS + 1)
    assert await runner(clean_db, manual_clock, job, seed=2).run_once() == 1
    row = await clean_db.fetchrow(ROW)
    assert row is not None
    assert (row["state"], row["attempts"]) == (jobs.DONE, 2)
    assert (
        await clean_db.fetchval(EFFECTS) == 2
    )  # at least once: what must happen once is written to be idempotent


async def _dead(run: JobRun, failure: Exception | None) -> None:
    """The worker was killed before it could say how it went."""


async def test_a_worker_that_lost_its_lease_cannot_write(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    """The first is stopped past its lease, the second does the work, the first wakes up in the middle."""
    stopped, go_on, refused = asyncio.Event(), asyncio.Event(), list[str]()

    async def handler(run: JobRun) -> None:
        if run.attempt == 1:
            stopped.set()
            await go_on.wait()
        try:
            await run.transact(lambda tx: tx.execute(EFFECT, "once"))
        except LeaseLost:
            refused.append("the first")
            raise

    job = Job("t.fence", handler)
    await ask(clean_db, manual_clock, job)
    first = asyncio.create_task(runner(clean_db, manual_clock, job).run_once())
    await stopped.wait()
    manual_clock.advance(LEASE_MS + 1)
    assert await runner(clean_db, manual_clock, job, seed=2).run_once() == 1
    go_on.set()
    await first
    assert refused == ["the first"]
    assert await clean_db.fetchval(EFFECTS) == 1
    row = await clean_db.fetchrow(ROW)
    assert row is not None
    assert (row["state"], row["runs"]) == (jobs.DONE, 1)


async def test_a_worker_that_lost_its_lease_cannot_close_the_others_run(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    """Both are at it; the one without the lease ends well, and the one that holds it goes on."""
    going = [asyncio.Event() for _ in range(3)]
    go_on = [asyncio.Event() for _ in range(3)]

    async def handler(run: JobRun) -> None:
        going[run.attempt].set()
        await go_on[run.attempt].wait()

    job = Job("t.close", handler)
    await ask(clean_db, manual_clock, job)
    first = asyncio.create_task(runner(clean_db, manual_clock, job).run_once())
    await going[1].wait()
    manual_clock.advance(LEASE_MS + 1)
    second = asyncio.create_task(runner(clean_db, manual_clock, job, seed=2).run_once())
    await going[2].wait()
    go_on[1].set()
    await first
    row = await clean_db.fetchrow(ROW)
    assert row is not None
    assert (row["state"], row["lease_holder"] is None) == (jobs.WAITING, False)
    go_on[2].set()
    await second
    row = await clean_db.fetchrow(ROW)
    assert row is not None
    assert (row["state"], row["runs"]) == (jobs.DONE, 1)


async def test_a_long_job_keeps_its_lease(clean_db: Database) -> None:
    clock = ManualClock()
    finished = asyncio.Event()

    async def handler(run: JobRun) -> None:
        await finished.wait()

    job = Job("t.long", handler)
    await ask(clean_db, clock, job)
    first = asyncio.create_task(runner(clean_db, clock, job, renew_s=0.02).run_once())
    second = runner(clean_db, clock, job, seed=2)
    for _ in range(8):
        clock.advance(LEASE_MS // 2)
        await asyncio.sleep(0.1)
        assert await second.run_once() == 0
    finished.set()
    assert await first == 1


async def test_work_is_cancelled_when_its_lease_was_stolen(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    cancelled = asyncio.Event()

    async def handler(run: JobRun) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    job = Job("t.stolen", handler)
    await ask(clean_db, manual_clock, job)
    first = asyncio.create_task(runner(clean_db, manual_clock, job, renew_s=0.05).run_once())
    while not await clean_db.execute(
        raw("UPDATE core_jobs SET lease_holder = 'thief' WHERE lease_holder IS NOT NULL")
    ):
        await asyncio.sleep(0.01)
    await asyncio.wait_for(cancelled.wait(), 5.0)
    await first
    assert (await clean_db.fetchrow(ROW))["lease_holder"] == "thief"  # type: ignore[index]


async def test_failures_are_retried_then_parked_and_can_be_sent_again(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    broken = True

    async def handler(run: JobRun) -> None:
        if broken:
            raise ValueError("contents that nobody may read")

    job = Job("t.fails", handler, attempts=3)
    await ask(clean_db, manual_clock, job)
    one = runner(clean_db, manual_clock, job)
    assert await one.run_once() == 1
    assert await one.run_once() == 0
    for _ in range(4):
        manual_clock.advance(20_000)
        await one.run_once()
    (parked,) = await jobs.parked(clean_db)
    assert (parked.attempts, parked.reason) == (3, "builtins.ValueError")
    broken = False
    assert await jobs.resend(clean_db, parked.job_id, clock=manual_clock) == 1
    assert await one.run_once() == 1
    assert await jobs.parked(clean_db) == []


async def test_a_scheduled_job_that_fails_for_good_waits_for_its_next_time(
    clean_db: Database, manual_clock: ManualClock
) -> None:
    async def handler(run: JobRun) -> None:
        raise ValueError

    job = Job("t.sched", handler, schedule=Every(600), attempts=2)
    one = runner(clean_db, manual_clock, job)
    await one.enter_schedules()
    manual_clock.advance(600_000)
    assert await one.run_once() == 1
    manual_clock.advance(10_000)
    assert await one.run_once() == 1
    row = await clean_db.fetchrow(ROW)
    assert row is not None
    assert (row["state"], row["attempts"]) == (jobs.WAITING, 0)
    assert row["due_at"] == manual_clock.now() + timedelta(seconds=600)


async def test_a_timeout_ends_a_job(clean_db: Database, manual_clock: ManualClock) -> None:
    async def handler(run: JobRun) -> None:
        await asyncio.sleep(60)

    job = Job("t.slow", handler, timeout_s=0.05)
    await ask(clean_db, manual_clock, job)
    assert await runner(clean_db, manual_clock, job).run_once() == 1
    row = await clean_db.fetchrow(ROW)
    assert row is not None
    assert row["reason"] == "builtins.TimeoutError"


async def test_a_clock_that_was_ahead_is_forgiven(clean_db: Database, manual_clock: ManualClock) -> None:
    async def handler(run: JobRun) -> None: ...

    job = Job("t.back", handler, schedule=Every(60))
    one = runner(clean_db, manual_clock, job)
    manual_clock.step(86_400_000)
    await one.enter_schedules()
    manual_clock.step(-86_400_000)
    await one.enter_schedules()
    manual_clock.advance(60_000)
    assert await one.run_once() == 1


async def test_a_stopped_worker_gives_its_job_back(
    clean_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.runner.DRAIN_S", 0.05)
    clock, started = SystemClock(), asyncio.Event()

    async def handler(run: JobRun) -> None:
        started.set()
        await asyncio.sleep(60)

    job = Job("t.drain", handler)
    await ask(clean_db, clock, job)
    one = runner(clean_db, clock, job)
    await one.start()
    await asyncio.wait_for(started.wait(), 5.0)
    await one.stop()
    row = await clean_db.fetchrow(ROW)
    assert row is not None
    assert (row["lease_holder"], row["attempts"]) == (None, 0)
