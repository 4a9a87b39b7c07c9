"""How often one caller may do one thing: token buckets that all processes share, decided here wherever that is safe.

The truth is in Redis (`core.limits_store`). To ask it for every request would cost more than most requests, so each
process has a small share of every bucket for itself, and leases more in small chunks:

- what this process has let through by itself is enough to refuse: no question;
- a lease that was granted before, or the share, covers the request: no question. What was taken from the share is
  booked with the next question, so over time the rate holds exactly; a burst is exceeded by at most one share per
  process (`SHARE` of it);
- otherwise Redis is asked, all keys of one turn of the loop in one round trip. A limit whose burst is below
  1 / `SHARE` has no share and is asked for every time: it is exact.

Without Redis each process keeps the whole limit by itself, and says so in its metrics.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog

from core.addresses import source_of
from core.errors import TooManyRequests
from core.telemetry import counter, gauge

if TYPE_CHECKING:
    from core.access import Principal
    from core.clock import Clock
    from core.settings import Settings

log = structlog.get_logger(__name__)

SHARE: Final = (
    1 / 16
)  # of a bucket: what a process may let through before it asks, and what it leases at once
LEASE_S: Final = 1.0  # an unused lease is given up after this, so that it does not pile up in many processes
DOWN_S: Final = 1.0  # how long Redis is let be after it did not answer

_ASKED: Final = counter("bankhub_limits_asked_total", "Requests that asked Redis about a limit", ("name",))
_REFUSED: Final = counter("bankhub_limits_refused_total", "Requests refused by a limit", ("name",))
_SHARED: Final = gauge("bankhub_limits_shared", "Whether limits are shared with other processes")


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket per caller: `burst` at once, `per_s` for ever."""

    burst: int
    per_s: float

    def scaled(self, times: float) -> Rate:
        """So many times as much; the limits that actions declare follow `rate_actions_scale`."""
        return self if times == 1.0 else Rate(max(1, round(self.burst * times)), self.per_s * times)


@dataclass(frozen=True, slots=True)
class Ask:
    """One question: take `cost` from the bucket, up to `extra` more to keep, and book what is `owed` anyway."""

    name: str
    key: Hashable
    rate: Rate
    cost: float
    extra: int
    owed: float


class StoreDown(Exception):
    """The shared buckets cannot be reached."""


class Store(Protocol):
    """Buckets that several processes share."""

    async def take(self, ask: Ask) -> tuple[float, float]:
        """(granted, left): granted is 0 or from `cost` to `cost + extra`. Raises `StoreDown`."""
        ...


class Quota(NamedTuple):
    """What is left of one limit; an upper bound, because others may take from it at the same time."""

    name: str
    rate: Rate
    left: float

    @property
    def policy(self) -> str:
        """The member of RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-11)."""
        return _policy(self.name, self.rate)

    @property
    def state(self) -> str:
        """The member of RateLimit: what remains, and in how many seconds all of it is there again."""
        until_full_s = ceil((self.rate.burst - self.left) / self.rate.per_s)
        return f'"{self.name}";r={max(0, int(self.left))};t={max(0, until_full_s)}'


@cache
def _policy(name: str, rate: Rate) -> str:
    return f'"{name}";q={rate.burst};w={ceil(rate.burst / rate.per_s)}'


class Exhausted(TooManyRequests):
    """Too many requests; try again later."""

    def __init__(self, quota: Quota, wait_s: float) -> None:
        super().__init__(retry_ms=max(1, int(wait_s * 1000) + 1))
        self.quota = quota


class _Bucket:
    """`level` is an upper bound of what the shared bucket holds, by what this process knows."""

    __slots__ = ("at_s", "lease", "lease_until_s", "level", "most", "share")

    def __init__(self, now_s: float, rate: Rate) -> None:
        self.level: float = rate.burst
        self.most = int(rate.burst * SHARE)
        self.share: float = self.most
        self.at_s = now_s
        self.lease = 0.0
        self.lease_until_s = 0.0


class Limits:
    """The limits of a process; local until `share` is called. At most `capacity` callers are remembered.

    A forgotten bucket is a full one here, not in Redis, so `capacity` must be well above the callers of a second.
    """

    def __init__(self, clock: Clock, capacity: int) -> None:
        self._clock = clock
        self._capacity = capacity
        self._buckets: OrderedDict[tuple[str, Hashable], _Bucket] = OrderedDict()
        self._store: Store | None = None
        self._down_until_s = 0.0

    def share(self, store: Store) -> None:
        """Share every bucket with the other processes from now on."""
        self._store = store
        _SHARED.set(1)

    def take_now(self, name: str, key: Hashable, rate: Rate, cost: float = 1.0) -> Quota | None:
        """Take `cost` if that can be decided here; None if Redis must be asked (`take` does).

        Raises `Exhausted` with the time until there is enough.
        """
        place, now_s = (name, key), self._clock.monotonic_s()
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = _Bucket(now_s, rate)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(place)
            _refill(bucket, rate, now_s)
        if bucket.level < cost:
            _REFUSED.labels(name).inc()
            raise Exhausted(Quota(name, rate, bucket.level), (cost - bucket.level) / rate.per_s)
        if self._store is not None and now_s >= self._down_until_s:
            if bucket.lease >= cost and now_s < bucket.lease_until_s:
                bucket.lease -= cost
            elif bucket.share >= cost:
                bucket.share -= cost
            else:
                return None
        bucket.level -= cost
        return Quota(name, rate, bucket.level)

    async def take(self, name: str, key: Hashable, rate: Rate, cost: float = 1.0) -> Quota:
        """Take `cost` from the bucket of `key` in the limit `name`. Raises `Exhausted`."""
        quota = self.take_now(name, key, rate, cost)
        if quota is not None:
            return quota
        assert self._store is not None
        bucket = self._buckets[name, key]
        owed, bucket.share = bucket.most - bucket.share, bucket.most  # booked below, so it may be used again
        _ASKED.labels(name).inc()
        try:
            granted, left = await self._store.take(Ask(name, key, rate, cost, bucket.most, owed))
        except StoreDown:
            if self._clock.monotonic_s() >= self._down_until_s:
                log.warning("limits.local_only")
                _SHARED.set(0)
            self._down_until_s = self._clock.monotonic_s() + DOWN_S
            return self._alone(name, key, rate, cost)
        if self._down_until_s:
            self._down_until_s = 0.0
            _SHARED.set(1)
        now_s = self._clock.monotonic_s()
        if granted < cost:
            bucket.level, bucket.at_s = min(bucket.level, left), now_s
            _REFUSED.labels(name).inc()
            raise Exhausted(Quota(name, rate, left), (cost - left) / rate.per_s)
        bucket.lease, bucket.lease_until_s = granted - cost, now_s + LEASE_S
        bucket.level, bucket.at_s = left + bucket.lease, now_s
        return Quota(name, rate, bucket.level)

    def _alone(self, name: str, key: Hashable, rate: Rate, cost: float) -> Quota:
        quota = self.take_now(name, key, rate, cost)
        assert quota is not None, "without Redis everything is decided here"
        return quota

    def __len__(self) -> int:
        return len(self._buckets)


class CallerLimits:
    """What every edge asks before it does anything for a caller: HTTP requests and the hub's CALLs count alike."""

    def __init__(self, limits: Limits, settings: Settings) -> None:
        self.limits = self._limits = limits
        self._address = Rate(settings.gateway_rate_burst, settings.gateway_rate_per_s)
        self._person = Rate(settings.rate_person_burst, settings.rate_person_per_s)
        self._hello = Rate(settings.rate_hello_burst, settings.rate_hello_per_s)
        self._device = Rate(settings.rate_device_burst, settings.rate_device_per_s)

    async def address(self, address: str) -> Quota:
        """A request from this address, whoever makes it. Raises `Exhausted`."""
        source, limits = source_of(address), self._limits
        return limits.take_now("address", source, self._address) or await limits.take(
            "address", source, self._address
        )

    async def hello(self, who: Principal) -> Quota:
        """A hub session of this person begins. Raises `Exhausted`."""
        return await self._limits.take("hello", who.person_id, self._hello)

    async def caller(self, who: Principal) -> Quota:
        """A request of this person on this device; the tighter of the two. Raises `Exhausted`."""
        limits, device = self._limits, (who.person_id, who.device)
        one = limits.take_now("device", device, self._device) or await limits.take(
            "device", device, self._device
        )
        other = limits.take_now("person", who.person_id, self._person) or await limits.take(
            "person", who.person_id, self._person
        )
        return one if one.left <= other.left else other


def _refill(bucket: _Bucket, rate: Rate, now_s: float) -> None:
    """What has come in since, by arithmetic: there is no timer."""
    gained = (now_s - bucket.at_s) * rate.per_s
    if gained > 0.0:
        bucket.level = min(rate.burst, bucket.level + gained)
        bucket.share = min(bucket.most, bucket.share + gained * SHARE)
        bucket.at_s = now_s


def headers(quota: Quota) -> dict[str, str]:
    """The fields that tell a caller of its limit."""
    return {"RateLimit-Policy": quota.policy, "RateLimit": quota.state}
