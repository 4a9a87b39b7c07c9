"""63-bit ids that sort by time: 41 bits of milliseconds since 2024-01-01, 10 bits of worker, 12 bits of counter.

No two ids are equal as long as no two generators use the same worker number over the same milliseconds. The worker
number is leased (`WorkerLease`), and what is leased is not "now" but a range of milliseconds that nobody
else gets for this number, so neither a clock that steps back nor a lease that was lost unnoticed can repeat an id.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from core.clock import Clock
from core.db import Database, Transaction, UniqueViolation, sql
from core.errors import BankhubError, Unavailable
from core.rng import Rng, SystemRng

if TYPE_CHECKING:
    from core.db import Record

log = structlog.get_logger(__name__)

EPOCH_MS: Final = 1_704_067_200_000  # 2024-01-01 00:00 UTC
WORKERS: Final = 1 << 10
COUNTS: Final = 1 << 12
_END_MS: Final = 1 << 41  # September 2093
LEASE_S: Final = 30.0  # how long the number of a dead process is kept from others
RENEW_S: Final = 8.0

_FREE = sql(
    "SELECT worker, horizon_ms FROM core_worker_leases WHERE expires_at <= $1 OR expires_at > $2 "
    "ORDER BY worker LIMIT 1 FOR UPDATE SKIP LOCKED"
)
_HIGHEST = sql("SELECT MAX(worker) FROM core_worker_leases")
_NEW = sql("INSERT INTO core_worker_leases (worker, holder, expires_at, horizon_ms) VALUES ($1, $2, $3, $4)")
_TAKE = sql("UPDATE core_worker_leases SET holder = $2, expires_at = $3, horizon_ms = $4 WHERE worker = $1")
_RENEW = sql(
    "UPDATE core_worker_leases SET expires_at = $3, horizon_ms = $4 WHERE worker = $1 AND holder = $2"
)
_RELEASE = sql(
    "UPDATE core_worker_leases SET expires_at = $3, horizon_ms = $4 WHERE worker = $1 AND holder = $2"
)
_LOST: Final = timedelta(hours=1)  # a lease that ends later was written by a clock that was ahead


class Ids:
    """A generator for one worker number. Not for several threads."""

    __slots__ = ("_clock", "_count", "_horizon_ms", "_last_ms", "_worker_bits", "worker")

    def __init__(
        self, clock: Clock, worker: int, *, not_before_ms: int = 0, horizon_ms: int | None = None
    ) -> None:
        """Ids carry times in [`not_before_ms`, `horizon_ms`); None leaves the end open, for tests and simulations."""
        if not 0 <= worker < WORKERS:
            raise ValueError(f"a worker number is between 0 and {WORKERS - 1}")
        self.worker = worker
        self._clock = clock
        self._worker_bits = worker << 12
        self._last_ms = not_before_ms - EPOCH_MS - 1
        self._count = COUNTS - 1
        self._horizon_ms = _END_MS if horizon_ms is None else horizon_ms - EPOCH_MS

    @property
    def last_ms(self) -> int:
        """The time in the newest id, since the epoch."""
        return self._last_ms + EPOCH_MS

    def extend(self, horizon_ms: int) -> None:
        """The lease was renewed: ids may carry times below `horizon_ms`."""
        self._horizon_ms = max(self._horizon_ms, horizon_ms - EPOCH_MS)

    def end(self) -> None:
        """The lease is over: no more ids."""
        self._horizon_ms = 0
        self._count = COUNTS - 1

    def next(self) -> int:
        """The next id, greater than all before from this generator.

        When the clock stands still or steps back, the last millisecond goes on, then the next one is borrowed; when it
        leaps beyond the horizon, the last millisecond of the lease serves until it is renewed. Raises `Unavailable`
        when the lease is used up.
        """
        now = self._clock.now_ms() - EPOCH_MS
        if now >= self._horizon_ms:
            now = self._horizon_ms - 1
        if now > self._last_ms:
            self._last_ms = now
            self._count = 0
        elif self._count < COUNTS - 1:
            self._count += 1
        elif self._last_ms + 1 < self._horizon_ms:
            self._last_ms += 1
            self._count = 0
        else:
            raise Unavailable("no more ids until the worker's lease is renewed", retry_ms=500)
        if not 0 <= self._last_ms < _END_MS:
            raise Unavailable("the clock is outside the years that ids can carry")
        return self._last_ms << 22 | self._worker_bits | self._count


def time_ms_of(id_: int) -> int:
    """When an id was made, in milliseconds since the epoch (of the clock that made it)."""
    return (id_ >> 22) + EPOCH_MS


def worker_of(id_: int) -> int:
    """The worker number that made an id."""
    return id_ >> 12 & (WORKERS - 1)


def _terminate() -> None:
    """Ask this process to drain and end, as an orchestrator would."""
    os.kill(os.getpid(), signal.SIGTERM)


class WorkerLease:
    """A worker number that this process alone may put into ids, and the generator that does.

        lease = await WorkerLease.acquire(db, clock)
        lease.start()
        lease.ids.next()

    `start` keeps it: as long as the database can be reached it is renewed every few seconds. When another process has
    taken it over (this one was stopped for longer than `LEASE_S`), `on_lost` is called, by default SIGTERM to this
    process; ids made until then are still unique: they lie below the horizon that the other process starts from.
    """

    def __init__(
        self, db: Database, ids: Ids, clock: Clock, holder: str, on_lost: Callable[[], None]
    ) -> None:
        """Use `acquire`."""
        self.ids = ids
        self._db, self._clock, self._holder, self._on_lost = db, clock, holder, on_lost
        self._task: asyncio.Task[None] | None = None

    @property
    def worker(self) -> int:
        return self.ids.worker

    @classmethod
    async def acquire(
        cls, db: Database, clock: Clock, *, rng: Rng | None = None, on_lost: Callable[[], None] = _terminate
    ) -> WorkerLease:
        """Lease the lowest free number. Raises `Unavailable` when all are taken."""
        holder = (rng or SystemRng()).token()
        while True:
            try:
                ids = await db.run(cls._acquire, clock, holder)
            except UniqueViolation:
                continue  # another process took the same new number: look again
            log.info("ids.worker_leased", worker=ids.worker)
            return cls(db, ids, clock, holder, on_lost)

    @staticmethod
    async def _acquire(tx: Transaction, clock: Clock, holder: str) -> Ids:
        now = clock.now()
        until = now + timedelta(seconds=LEASE_S)
        free: Record | None = await tx.fetchrow(_FREE, now, now + _LOST)
        if free is not None:
            worker, not_before_ms = free["worker"], free["horizon_ms"]
            horizon_ms = _horizon(clock, not_before_ms)
            await tx.execute(_TAKE, worker, holder, until, horizon_ms)
        else:
            highest = await tx.fetchval(_HIGHEST)
            worker, not_before_ms = 0 if highest is None else highest + 1, EPOCH_MS
            if worker >= WORKERS:
                raise Unavailable("all worker numbers are in use", retry_ms=5000)
            horizon_ms = _horizon(clock, not_before_ms)
            await tx.execute(_NEW, worker, holder, until, horizon_ms)
        return Ids(clock, worker, not_before_ms=not_before_ms, horizon_ms=horizon_ms)

    def start(self) -> None:
        """Renew in the background until `release`."""
        self._task = asyncio.get_running_loop().create_task(self._keep(), name="core.worker_lease")

    async def renew(self) -> bool:
        """Extend the lease; False when another process holds the number now."""
        horizon_ms = _horizon(self._clock, self.ids.last_ms)
        until = self._clock.now() + timedelta(seconds=LEASE_S)
        if await self._db.execute(_RENEW, self.worker, self._holder, until, horizon_ms) == 0:
            return False
        self.ids.extend(horizon_ms)
        return True

    async def release(self) -> None:
        """Let another process have the number at once. No ids may be made after this."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self.ids.end()
        now = self._clock.now()
        try:
            await self._db.execute(_RELEASE, self.worker, self._holder, now, self.ids.last_ms + 1)
        except BankhubError as error:
            log.info("ids.worker_not_released", reason=type(error).__name__)  # it will expire

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                if not await self.renew():
                    log.critical("ids.worker_lost", worker=self.worker)
                    self._on_lost()
                    return
            except BankhubError as error:
                log.warning("ids.worker_not_renewed", worker=self.worker, reason=type(error).__name__)


def _horizon(clock: Clock, used_ms: int) -> int:
    """The end of the range of milliseconds to reserve: the lease's length beyond now and beyond what was used."""
    return max(clock.now_ms(), used_ms) + int(LEASE_S * 1000)
