"""Runs the jobs of a process (`core.jobs`), side by side with the runners of other processes on the same rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from core import jobs
from core.db import Transaction, UniqueViolation, sql
from core.errors import BankhubError
from core.failpoints import failpoint
from core.jobs import Job, JobRun, LeaseLost
from core.telemetry import counter, new_trace, parse_trace, span

if TYPE_CHECKING:
    from core.clock import Clock
    from core.db import Database
    from core.ids import Ids
    from core.rng import Rng

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
PARALLEL: Final = 4  # jobs of one process at once: they are long, and requests come first
LEASE_S: Final = 60.0  # how long a dead worker keeps a job from others
RENEW_S: Final = 15.0
PAUSE_S: Final = 2.0  # before the second attempt, doubled each time, up to
PAUSE_MAX_S: Final = 900.0
LOST_S: Final = (
    3600.0  # a lease that ends later was written by a clock that was ahead: its worker is not believed
)
DRAIN_S: Final = 10.0

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

_RUNS = counter("bankhub_jobs_total", "Runs of jobs by outcome", ("job", "outcome"))


class Runner:
    """See the module. `declared` are those of this process; every process may have them all."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        rng: Rng,
        ids: Ids,
        declared: Sequence[Job],
        *,
        parallel: int = PARALLEL,
        poll_s: float = POLL_S,
        renew_s: float = RENEW_S,
    ) -> None:
        self._db, self._clock, self._rng, self._ids = db, clock, rng, ids
        self._jobs = {job.name: job for job in declared}
        if len(self._jobs) != len(declared):
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
            if await self._db.execute(_PULL, job.name, jobs.SCHEDULE, due, now, latest):
                log.info("jobs.due_time_corrected", job=job.name)
            elif await self._db.fetchval(jobs.FIND, job.name, jobs.SCHEDULE) is None:
                with suppress(UniqueViolation):  # another worker was faster
                    await self._db.execute(
                        jobs.INSERT, self._ids.next(), job.name, jobs.SCHEDULE, "{}", None, due, now
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
        state, attempts = jobs.WAITING, run.attempt
        pause_s = min(PAUSE_MAX_S, PAUSE_S * 2 ** (run.attempt - 1)) * (0.5 + self._rng.random() / 2)
        due = now + timedelta(seconds=pause_s)
        if exhausted and run.job.schedule is not None:
            due, attempts = run.job.schedule.next(now), 0
        elif exhausted:
            state = jobs.PARKED
        _RUNS.labels(run.job.name, "parked" if state == jobs.PARKED else "failed").inc()
        log.warning(
            "jobs.failed",
            job=run.job.name,
            job_id=run.job_id,
            attempt=run.attempt,
            parked=state == jobs.PARKED,
            reason=reason,
            exc_info=failure,
        )
        await self._db.execute(_FAILED, run.job_id, run.holder, state, due, attempts, reason, now)


def _reason(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return (f"{error.code}: {name}" if isinstance(error, BankhubError) else name)[:200]
