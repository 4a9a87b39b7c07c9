"""The engines of one machine: PostgreSQL, Valkey and SeaweedFS, real, started by us, reachable by nobody else.

    async with EmbeddedEngines(Path("var")) as engines:
        engines.database_url, engines.redis_url, engines.s3

Everything is kept under one directory: data, logs, secrets and ports (all readable by their owner only), so a second
start finds everything again. The engines listen on loopback, ask for credentials that were made at first start, and
end when this process ends, even when it is killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Final

import structlog

from core.engines import EngineFailed
from core.engines.postgres import Postgres
from core.engines.process import EngineProcess
from core.engines.seaweed import Seaweed
from core.engines.state import State
from core.engines.valkey import Valkey
from core.s3 import S3

__all__ = ["ALL", "S3", "EmbeddedEngines", "EngineFailed"]

log = structlog.get_logger(__name__)

ALL: Final = frozenset({"postgres", "valkey", "s3"})
# before the first, second, … start again of an engine that keeps dying
_RESTART_S = (0.0, 0.5, 1.0, 2.0, 5.0)
_PORT_RACES = 3
_STEADY_S = 60.0  # an engine that ran so long starts counting anew


class EmbeddedEngines:
    """The wanted engines on one directory.

    `sync=False` leaves out syncing the files of a new database to disk once they are made (tests: saves a second);
    the running database always syncs. Start it from a thread that stays: engines end with the thread that started
    them. The addresses are known when `start` (or `ready(name)`) has returned, and of engines that another process
    runs on the same directory, as soon as they have run.
    """

    def __init__(
        self, var: Path, want: Collection[str] = ALL, *, bucket: str = "bankhub", sync: bool = True
    ) -> None:
        self.want = frozenset(want)
        if not self.want <= ALL:
            raise ValueError(f"unknown engines: {sorted(self.want - ALL)}")
        self._state = State(var)
        self._postgres = Postgres(self._state, sync=sync)
        self._valkey = Valkey(self._state)
        self._seaweed = Seaweed(self._state, bucket=bucket)
        self._engines: dict[str, Postgres | Valkey | Seaweed] = {
            engine.name: engine
            for engine in (self._postgres, self._valkey, self._seaweed)
            if engine.name in self.want
        }
        self._starting: dict[str, asyncio.Task[None]] = {}

    # --- addresses --------------------------------------------------------------------------------------------

    @property
    def database_url(self) -> str:
        return self._postgres.database_url

    @property
    def admin_url(self) -> str:
        """The superuser's, for making databases in tests."""
        return self._postgres.admin_url

    @property
    def redis_url(self) -> str:
        return self._valkey.redis_url

    @property
    def s3(self) -> S3:
        return self._seaweed.s3

    def port(self, part: str) -> int:
        """The port of a part of the object store: master, volume, filer, s3, admin."""
        return self._seaweed.port(part)

    def holder(self) -> int | None:
        """The process that runs engines on this directory, or None."""
        return self._state.holder()

    # --- life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all at once and wait for all. Raises `EngineFailed`; then none runs."""
        self.begin()
        try:
            for name in self._engines:
                await self.ready(name)
        except BaseException:
            await self.stop()
            raise

    def begin(self) -> None:
        """Take hold of the directory and start all without waiting (inside a running loop)."""
        self._state.open()
        self._starting = {name: asyncio.create_task(self._start(e)) for name, e in self._engines.items()}

    async def _start(self, engine: Postgres | Valkey | Seaweed) -> None:
        """Start one; again, on other ports, when somebody took a port between our look at it and the engine's."""
        for _ in range(_PORT_RACES):
            try:
                return await engine.start()
            except EngineFailed:
                await engine.stop()
                if not self._state.ports_taken(engine.name, engine.port_offset):
                    raise
        raise EngineFailed(f"{engine.name} lost its ports to other programs {_PORT_RACES} times")

    async def ready(self, name: str) -> None:
        """Wait until one engine answers."""
        await asyncio.shield(self._starting[name])

    async def stop(self) -> None:
        """Stop all and let go of the directory."""
        for task in self._starting.values():
            task.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        self._starting = {}
        try:
            await asyncio.gather(*(engine.stop() for engine in self._engines.values()))
            log.info("engines.stopped", engines=sorted(self.want))
        finally:
            self._state.close()

    async def __aenter__(self) -> EmbeddedEngines:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def start_blocking(self) -> None:
        """`start` for callers without a loop (test fixtures)."""
        _run(self.start())
        self._starting = {}

    def stop_blocking(self) -> None:
        _run(self.stop())

    # --- faults -----------------------------------------------------------------------------------------------

    def process(self, name: str) -> EngineProcess:
        """The process of a running engine. Raises `EngineFailed` when it was never started."""
        process = self._engines[name].process
        if process is None:
            raise EngineFailed(f"{name} is not running")
        return process

    async def restart(self, name: str) -> None:
        """Start an engine that has died, on the same port if it is still free, with the data it had."""
        engine = self._engines[name]
        await engine.stop()
        await self._start(engine)

    async def supervise(self, moved: Callable[[str], None]) -> None:
        """Start again what dies, for ever, with longer and longer pauses for what keeps dying.

        `moved(name)` is called when an engine had to take another port than before.
        """
        await asyncio.gather(*(self._supervise(name, moved) for name in self._engines))

    async def _supervise(self, name: str, moved: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            began = loop.time()
            ports = self._state.known_ports(name)
            code = await self.process(name).ended()
            deaths = 1 if loop.time() - began > _STEADY_S else deaths + 1
            log.error("engine.died", engine=name, code=code)
            while True:
                await asyncio.sleep(_RESTART_S[min(deaths, len(_RESTART_S)) - 1])
                try:
                    await self.restart(name)
                    break
                except EngineFailed as error:
                    deaths += 1
                    log.error("engine.restart_failed", engine=name, reason=error.message)
            log.info("engine.restarted", engine=name)
            if ports != self._state.known_ports(name):
                moved(name)


def _run(work: Coroutine[object, object, None]) -> None:
    """`asyncio.run` that leaves the thread's own event loop alone (pytest-asyncio has one)."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()
