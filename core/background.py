"""What a process does by itself: follow settings and keys, deliver events, run jobs, clean up."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import time, timedelta
from typing import TYPE_CHECKING

from core import idempotency, jobs, outbox
from core.crypto.keyring import Follower
from core.jobs import Daily, Every, Job, JobRun
from core.relay import relay_of
from core.runner import Runner

if TYPE_CHECKING:
    from core.runtime import Runtime
    from core.service import Service


class Background:
    """The relay, the job runner and the live settings of a process; `services` are those that run in it."""

    def __init__(self, runtime: Runtime, services: Iterable[Service]) -> None:
        self._runtime = runtime
        self.relay = relay_of(runtime)
        self.keys = Follower(runtime.keys, runtime.settings.keys_reload_s)
        self.jobs = Runner(
            runtime.db,
            runtime.clock,
            runtime.rng,
            runtime.ids,
            [*upkeep(runtime), *(job for service in services for job in service.jobs)],
        )
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Begin. The services are started: handlers and jobs may be called from now on."""
        for part in (self._runtime.config, self.keys, self.relay, self.jobs):
            self._stack.push_async_callback(part.stop)
            await part.start()

    async def stop(self) -> None:
        """Take nothing more and let what runs end. Safe after a start that failed half-way."""
        await self._stack.aclose()


def upkeep(runtime: Runtime) -> tuple[Job, ...]:
    """Core's own jobs. They delete what is past its retention, in the quiet hours where there is much of it."""

    async def sweep_outbox(run: JobRun) -> None:
        await outbox.sweep(run.db, run.clock.now())

    async def sweep_jobs(run: JobRun) -> None:
        await jobs.sweep(run.db, run.clock.now())

    async def sweep_idempotency(run: JobRun) -> None:
        before = run.clock.now() - timedelta(seconds=runtime.settings.idempotency_retention_s)
        await idempotency.purge(run.db, before)

    return (
        Job("core.outbox.sweep", sweep_outbox, schedule=Every(3600)),
        Job("core.jobs.sweep", sweep_jobs, schedule=Every(3600)),
        Job("core.idempotency.sweep", sweep_idempotency, schedule=Daily(time(3, 40))),
    )
