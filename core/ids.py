"""63-bit ids that sort by time: 41 bits of milliseconds since 2024-01-01, 10 bits of worker, 12 bits of counter.

No two ids are equal as long as no two generators use the same worker number over the same milliseconds. The worker
number is leased (`WorkerLease`), and what is leased is not "now" but a range of milliseconds that nobody
else gets for this number, so neither a clock that steps back nor a lease that was lost unnoticed can repeat an id.
"""

from __future__ import annotations

from typing import Final

from core.clock import Clock
from core.errors import Unavailable

EPOCH_MS: Final = 1_704_067_200_000  # 2024-01-01 00:00 UTC
WORKERS: Final = 1 << 10
COUNTS: Final = 1 << 12
_END_MS: Final = 1 << 41  # September 2093


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
