"""Work that is due at a time: scheduled jobs, and delayed ones asked for in a transaction.

    SWEEP = Job("core.outbox.sweep", sweep, schedule=Every(3600))
    CLOSE = Job("finance.day.close", close_day, schedule=Daily(time(22, 30)))
    REMIND = Job("oa.tasks.remind", remind)
    await later(ctx.tx, REMIND, {"task_id": 5}, due_at, ids=ctx.ids, clock=ctx.clock, dedupe_key="5")

A job is a row. A runner (`core.runner`) that takes it leases the row and renews the lease while it works, so two
workers do not run it at the same time; when the worker dies the lease ends and another takes over. A worker that only
believes to hold the lease (it was stopped, its clock stood) can still compute but not write: `JobRun.transact` checks
the lease in the transaction. Whatever a job does outside of such transactions may be done twice.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from core.clock import SHANGHAI
from core.db import Transaction, UniqueViolation, sql
from core.errors import Unavailable
from core.telemetry import Trace, current_trace

if TYPE_CHECKING:
    from core.clock import Clock
    from core.db import Database
    from core.ids import Ids

P = ParamSpec("P")
R = TypeVar("R")

WAITING, DONE, PARKED = 0, 1, 2
ATTEMPTS: Final = 10
KEEP_DONE: Final = timedelta(days=7)
SCHEDULE: Final = "schedule"  # dedupe_key of a scheduled job's one row

INSERT = sql(
    "INSERT INTO core_jobs (job_id, name, dedupe_key, params, traceparent, state, due_at, attempts, runs, changed_at) "
    "VALUES ($1, $2, $3, $4, $5, 0, $6, 0, 0, $7)"
)
FIND = sql("SELECT job_id FROM core_jobs WHERE name = $1 AND dedupe_key = $2")
_HOLDS = sql("SELECT job_id FROM core_jobs WHERE job_id = $1 AND lease_holder = $2 FOR UPDATE")
_PARKED = sql(
    "SELECT job_id, name, attempts, reason, due_at, changed_at FROM core_jobs WHERE state = 2 ORDER BY job_id LIMIT $1"
)
_RESEND = sql(
    "UPDATE core_jobs SET state = 0, attempts = 0, due_at = $2, changed_at = $2 WHERE job_id = $1 AND state = 2"
)
_SWEEP = sql("DELETE FROM core_jobs WHERE state = 1 AND changed_at < $1")


class LeaseLost(Unavailable):
    """Another worker has taken this job over; what is done here no longer counts."""


# --- declarations ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Every:
    """Every so many seconds, counted from the run before; missed ones are not made up for."""

    seconds: float

    def next(self, after: datetime) -> datetime:
        return after + timedelta(seconds=self.seconds)

    @property
    def longest_s(self) -> float:
        """No run is ever further ahead than this."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class Daily:
    """Every day at these times of day in Shanghai."""

    times: tuple[time, ...]

    def __init__(self, *times: time) -> None:
        if not times:
            raise ValueError("at which time?")
        object.__setattr__(self, "times", tuple(sorted(times)))

    def next(self, after: datetime) -> datetime:
        here = after.astimezone(SHANGHAI)
        for day in (here.date(), here.date() + timedelta(days=1)):
            for moment in self.times:
                due = datetime.combine(day, moment, tzinfo=SHANGHAI)
                if due > after:
                    return due
        raise AssertionError("tomorrow has every time of day")

    @property
    def longest_s(self) -> float:
        return 86_400.0


@dataclass(slots=True)
class JobRun:
    """One run of a job, given to its handler."""

    job: Job
    job_id: int
    params: Mapping[str, Any]
    attempt: int  # from 1
    due_at: datetime  # what it was due at, whenever it runs
    trace: Trace
    db: Database
    clock: Clock
    holder: str

    async def transact(
        self, step: Callable[Concatenate[Transaction, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """`Database.run`, in a transaction that can only commit while this worker holds the lease.

        Raises `LeaseLost`.
        """

        async def fenced(tx: Transaction) -> R:
            if await tx.fetchval(_HOLDS, self.job_id, self.holder) is None:
                raise LeaseLost
            return await step(tx, *args, **kwargs)

        return await self.db.run(fenced)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A kind of work: its name (kept in rows, so it must not change lightly), its handler, and when it is due.

    With a schedule it runs by itself; without, when `later` asks for it. A handler is cancelled after `timeout_s` or
    when its lease is lost, and its failure is retried `attempts` times; then a delayed job is parked and a scheduled
    one waits for its next time.
    """

    name: str
    handler: Callable[[JobRun], Awaitable[None]]
    schedule: Every | Daily | None = None
    attempts: int = ATTEMPTS
    timeout_s: float = 600.0


async def later(
    tx: Transaction,
    job: Job | str,
    params: Mapping[str, Any],
    due_at: datetime,
    *,
    ids: Ids,
    clock: Clock,
    dedupe_key: str | None = None,
) -> int:
    """Ask for one run at `due_at`, if the transaction commits; the job's id.

    `params` are JSON values: ids and small facts. A `dedupe_key` that was used before for this job (until it is swept)
    gives the id of that one and changes nothing.
    """
    name = job if isinstance(job, str) else job.name
    trace = current_trace()
    row = (
        ids.next(),
        name,
        dedupe_key,
        json.dumps(params, ensure_ascii=False),
        None if trace is None else trace.traceparent,
        due_at,
        clock.now(),
    )
    if dedupe_key is None:
        await tx.execute(INSERT, *row)
        return row[0]
    if (known := await tx.fetchval(FIND, name, dedupe_key)) is not None:
        return int(known)
    try:
        async with tx.savepoint():
            await tx.execute(INSERT, *row)
    except UniqueViolation:
        return int(await tx.fetchval(FIND, name, dedupe_key))
    return row[0]


# --- for operators --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ParkedJob:
    """A job that failed for good."""

    job_id: int
    name: str
    attempts: int
    reason: str
    due_at: datetime
    parked_at: datetime


async def parked(db: Database, limit: int = 100) -> list[ParkedJob]:
    """The oldest parked jobs."""
    return [ParkedJob(*row) for row in await db.fetch(_PARKED, limit)]


async def resend(db: Database, job_id: int, *, clock: Clock) -> int:
    """Try a parked job again from its first attempt; how many (0 or 1)."""
    return await db.execute(_RESEND, job_id, clock.now())


async def sweep(db: Database, now: datetime) -> int:
    """Forget jobs that were done long ago; how many."""
    return await db.execute(_SWEEP, now - KEEP_DONE)
