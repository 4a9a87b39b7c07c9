"""Token buckets: how often one caller may do one thing. Local to the process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from core.actions import Rate
from core.clock import Clock
from core.errors import TooManyRequests


class Buckets:
    """Buckets by key, made on first use; at most `capacity`, the longest unused is forgotten.

    A forgotten bucket is a full one, so `capacity` must be well above the number of callers at once. A bucket is
    two floats: what is in it and when that was true; it refills by arithmetic, not by a timer.
    """

    def __init__(self, clock: Clock, capacity: int) -> None:
        self._clock = clock
        self._capacity = capacity
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable, rate: Rate, cost: float = 1.0) -> None:
        """Take `cost` from the bucket. Raises `TooManyRequests` with the time until there is enough."""
        now_s = self._clock.monotonic_s()
        level, then_s = self._buckets.pop(key, (float(rate.burst), now_s))
        level = min(float(rate.burst), level + (now_s - then_s) * rate.per_s)
        enough = level >= cost
        self._buckets[key] = (level - cost if enough else level, now_s)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        if not enough:
            raise TooManyRequests(retry_ms=max(1, int((cost - level) / rate.per_s * 1000) + 1))

    def __len__(self) -> int:
        return len(self._buckets)
