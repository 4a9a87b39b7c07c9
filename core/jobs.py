"""Work that is due at a time: scheduled jobs, and delayed ones asked for in a transaction.

    SWEEP = Job("core.outbox.sweep", sweep, schedule=Every(3600))
    CLOSE = Job("finance.day.close", close_day, schedule=Daily(time(22, 30)))
    REMIND = Job("oa.tasks.remind", remind)
    await later(ctx.tx, REMIND, {"task_id": 5}, due_at, ids=ctx.ids, clock=ctx.clock, dedupe_key="5")

A job is a row. A runner that takes it leases the row and renews the lease while it works, so two workers do not run it
at the same time; when the worker dies the lease ends and another takes over. A worker that only believes to hold the
lease (it was stopped, its clock stood) can still compute but not write: `JobRun.transact` checks the lease in the
transaction. Whatever a job does outside of such transactions may be done twice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import structlog

from core.clock import SHANGHAI
from core.db import Transaction, UniqueViolation, sql
from core.errors import BankhubError, Unavailable
from core.failpoints import failpoint
from core.telemetry import Trace, counter, current_trace, new_trace, parse_trace, span

if TYPE_CHECKING:
    from core.clock import Clock
    from core.db import Database
    from core.ids import Ids
    from core.rng import Rng

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

WAITING, DONE, PARKED = 0, 1, 2
POLL_S: Final = 1.0
PARALLEL: Final = 4  # jobs of one process at once: they are long, and requests come first
LEASE_S: Final = 60.0  # how long a dead worker keeps a job from others
RENEW_S: Final = 15.0
ATTEMPTS: Final = 10
PAUSE_S: Final = 2.0  # before the second attempt, doubled each time, up to
PAUSE_MAX_S: Final = 900.0
KEEP_DONE: Final = timedelta(days=7)
LOST_S: Final = (
    3600.0  # a lease that ends later was written by a clock that was ahead: its worker is not believed
)
DRAIN_S: Final = 10.0
_SCHEDULE: Final = "schedule"  # dedupe_key of a scheduled job's one row

_INSERT = sql(
    "INSERT INTO core_jobs (job_id, name, dedupe_key, params, traceparent, state, due_at, attempts, runs, changed_at) "
    "VALUES ($1, $2, $3, $4, $5, 0, $6, 0, 0, $7)"
)
_FIND = sql("SELECT job_id FROM core_jobs WHERE name = $1 AND dedupe_key = $2")
_PULL = sql(
    "UPDATE core_jobs SET due_at = $3, changed_at = $4 "
    "WHERE name = $1 AND dedupe_key = $2 AND state = 0 AND due_at > $5 AND lease_holder IS NULL"
)
_DUE = sql(
    """
    SELECT job_id, name, params, traceparent, due_at, attempts, runs FROM core_jobs
    WHERE state = 0 AND due_at <= $1 AND (leased_until IS NULL OR leased_until <= $1 OR leased_until > $2)
    AND name IN ($*)
    ORDER BY due_at, job_id LIMIT $3 FOR UPDATE SKIP LOCKED
    """
)
_LEASE = sql(
    "UPDATE core_jobs SET lease_holder = $2, leased_until = $3, attempts = attempts + 1, changed_at = $4 "
    "WHERE job_id = $1"
)
_RENEW = sql("UPDATE core_jobs SET leased_until = $3 WHERE job_id = $1 AND lease_holder = $2")
_HOLDS = sql("SELECT job_id FROM core_jobs WHERE job_id = $1 AND lease_holder = $2 FOR UPDATE")
_RELEASE = sql(
    "UPDATE core_jobs SET lease_holder = NULL, leased_until = NULL, attempts = attempts - 1 "
    "WHERE job_id = $1 AND lease_holder = $2"
)
_DONE = sql(
    "UPDATE core_jobs SET state = 1, runs = runs + 1, lease_holder = NULL, leased_until = NULL, reason = NULL, "
    "changed_at = $3 WHERE job_id = $1 AND lease_holder = $2"
)
_AGAIN = sql(
    "UPDATE core_jobs SET due_at = $3, attempts = 0, runs = runs + 1, lease_holder = NULL, leased_until = NULL, "
    "reason = NULL, changed_at = $4 WHERE job_id = $1 AND lease_holder = $2"
)
_FAILED = sql(
    "UPDATE core_jobs SET state = $3, due_at = $4, attempts = $5, lease_holder = NULL, leased_until = NULL, "
    "reason = $6, changed_at = $7 WHERE job_id = $1 AND lease_holder = $2"
)
_PARKED = sql(
    "SELECT job_id, name, attempts, reason, due_at, changed_at FROM core_jobs WHERE state = 2 ORDER BY job_id LIMIT $1"
)
_RESEND = sql(
    "UPDATE core_jobs SET state = 0, attempts = 0, due_at = $2, changed_at = $2 WHERE job_id = $1 AND state = 2"
)
_SWEEP = sql("DELETE FROM core_jobs WHERE state = 1 AND changed_at < $1")

_RUNS = counter("bankhub_jobs_total", "Runs of jobs by outcome", ("job", "outcome"))


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
    trace = current_trace.get()
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
        await tx.execute(_INSERT, *row)
        return row[0]
    if (known := await tx.fetchval(_FIND, name, dedupe_key)) is not None:
        return int(known)
    try:
        async with tx.savepoint():
            await tx.execute(_INSERT, *row)
    except UniqueViolation:
        return int(await tx.fetchval(_FIND, name, dedupe_key))
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


# --- running --------------------------------------------------------------------------------------------------------


class Runner:
    """Runs the jobs of this process, side by side with the runners of others on the same rows."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        rng: Rng,
        ids: Ids,
        jobs: Sequence[Job],
        *,
        parallel: int = PARALLEL,
        poll_s: float = POLL_S,
        renew_s: float = RENEW_S,
    ) -> None:
        self._db, self._clock, self._rng, self._ids = db, clock, rng, ids
        self._jobs = {job.name: job for job in jobs}
        if len(self._jobs) != len(jobs):
            raise TypeError("two jobs have the same name")
        self._parallel, self._poll_s, self._renew_s = parallel, poll_s, renew_s
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Enter the schedules, then run what is due until `stop`."""
        await self.enter_schedules()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="core.jobs")

    async def stop(self) -> None:
        """Take nothing more; what runs gets `DRAIN_S` to end, and is then cancelled and taken over by others."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=DRAIN_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=DRAIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def enter_schedules(self) -> None:
        """Make the row of each scheduled job, or pull it nearer where it is due later than its schedule ever says.

        The latter is after a schedule was changed, and after a clock that was ahead has been set right.
        """
        now = self._clock.now()
        for job in self._jobs.values():
            if job.schedule is None:
                continue
            due = job.schedule.next(now)
            latest = now + timedelta(seconds=job.schedule.longest_s)
            if await self._db.execute(_PULL, job.name, _SCHEDULE, due, now, latest):
                log.info("jobs.due_time_corrected", job=job.name)
            elif await self._db.fetchval(_FIND, job.name, _SCHEDULE) is None:
                with suppress(UniqueViolation):  # another worker was faster
                    await self._db.execute(
                        _INSERT, self._ids.next(), job.name, _SCHEDULE, "{}", None, due, now
                    )

    async def run_once(self) -> int:
        """Run what is due now, to its end; how many. For tests and commands."""
        taken = await self._db.run(self._take, self._parallel)
        await asyncio.gather(*(self._one(one) for one in taken))
        return len(taken)

    async def _run(self) -> None:
        entered_s = self._clock.monotonic_s()
        while not self._stopping:
            self._wake.clear()
            free = self._parallel - len(self._running)
            try:
                if self._clock.monotonic_s() - entered_s > 60.0:
                    await self.enter_schedules()
                    entered_s = self._clock.monotonic_s()
                taken = await self._db.run(self._take, free) if free and self._jobs else []
            except Exception as error:
                log.warning("jobs.runner_waits", reason=type(error).__name__)
                taken = []
            for one in taken:
                task = asyncio.get_running_loop().create_task(self._one(one))
                self._running.add(task)
                task.add_done_callback(self._ended)
            if len(taken) < free or not free:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._poll_s * (0.5 + self._rng.random()))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("jobs.bookkeeping_failed", exc_info=error)

    async def _take(self, tx: Transaction, limit: int) -> list[JobRun]:
        now = self._clock.now()
        until = now + timedelta(seconds=LEASE_S)
        lost = now + timedelta(seconds=LOST_S)
        due = await tx.fetch_in(_DUE, sorted(self._jobs), now, lost, limit)
        taken = []
        for row in due:
            holder = self._rng.token()
            await tx.execute(_LEASE, row["job_id"], holder, until, now)
            job = self._jobs[row["name"]]
            run = JobRun(
                job=job,
                job_id=row["job_id"],
                params=json.loads(row["params"]),
                attempt=row["attempts"] + 1,
                due_at=row["due_at"],
                trace=parse_trace(row["traceparent"]) or new_trace(self._rng),
                db=self._db,
                clock=self._clock,
                holder=holder,
            )
            taken.append(run)
        return taken

    async def _one(self, run: JobRun) -> None:
        failure: Exception | None = None
        with span(run.job.name, run.trace, self._rng, edge="job") as run.trace:
            if run.attempt > run.job.attempts:
                failure = LeaseLost("never came back")  # every worker that tried it died
            else:
                work = asyncio.ensure_future(self._handle(run))
                keeping = asyncio.ensure_future(self._keep_lease(run, work))
                try:
                    await work
                    await failpoint("jobs.after_run")
                except asyncio.CancelledError:
                    if not work.cancelled() or not keeping.done():
                        await self._db.execute(_RELEASE, run.job_id, run.holder)  # we are being stopped
                        raise
                    failure = LeaseLost()
                except Exception as error:
                    failure = error
                finally:
                    keeping.cancel()
                    await asyncio.gather(keeping, return_exceptions=True)
            await self._close(run, failure)

    async def _handle(self, run: JobRun) -> None:
        async with asyncio.timeout(run.job.timeout_s):
            await run.job.handler(run)

    async def _keep_lease(self, run: JobRun, work: asyncio.Future[None]) -> None:
        """Renew until cancelled. When the lease is lost, or was not renewed in time, the work is cancelled."""
        good_until_s = self._clock.monotonic_s() + LEASE_S
        while True:
            await asyncio.sleep(self._renew_s)
            asked_s = self._clock.monotonic_s()
            until = self._clock.now() + timedelta(seconds=LEASE_S)
            try:
                held = await self._db.execute(_RENEW, run.job_id, run.holder, until) == 1
                if held:
                    good_until_s = asked_s + LEASE_S
            except BankhubError:
                held = self._clock.monotonic_s() < good_until_s
            if not held:
                log.error("jobs.lease_lost", job=run.job.name, job_id=run.job_id)
                work.cancel()
                return

    async def _close(self, run: JobRun, failure: Exception | None) -> None:
        now = self._clock.now()
        if failure is None:
            _RUNS.labels(run.job.name, "ok").inc()
            if run.job.schedule is None:
                await self._db.execute(_DONE, run.job_id, run.holder, now)
            else:
                await self._db.execute(_AGAIN, run.job_id, run.holder, run.job.schedule.next(now), now)
            return
        reason = _reason(failure)
        exhausted = run.attempt >= run.job.attempts
        state, attempts = WAITING, run.attempt
        pause_s = min(PAUSE_MAX_S, PAUSE_S * 2 ** (run.attempt - 1)) * (0.5 + self._rng.random() / 2)
        due = now + timedelta(seconds=pause_s)
        if exhausted and run.job.schedule is not None:
            due, attempts = run.job.schedule.next(now), 0
        elif exhausted:
            state = PARKED
        _RUNS.labels(run.job.name, "parked" if state == PARKED else "failed").inc()
        log.warning(
            "jobs.failed",
            job=run.job.name,
            job_id=run.job_id,
            attempt=run.attempt,
            parked=state == PARKED,
            reason=reason,
            exc_info=failure,
        )
        await self._db.execute(_FAILED, run.job_id, run.holder, state, due, attempts, reason, now)


def _reason(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return (f"{error.code}: {name}" if isinstance(error, BankhubError) else name)[:200]
