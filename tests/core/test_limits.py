"""Limits: arithmetic without Redis, one bucket for several processes with it, and what happens when it goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from core import limits_store
from core.clock import ManualClock, SystemClock
from core.errors import TooManyRequests
from core.limits import SHARE, Ask, CallerLimits, Exhausted, Limits, Rate, StoreDown, headers
from core.limits_store import RedisBuckets
from core.settings import load
from tests.wire import Wire
from tests.world import somebody

SLOW = 0.001  # tokens a second: nothing comes back during a test


class Counting:
    """A store that counts what it is asked, and answers as an empty Redis would; or is away."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self.away = False
        self.left: dict[object, float] = {}

    async def take(self, ask: Ask) -> tuple[float, float]:
        if self.away:
            raise StoreDown
        self.asked.append(ask)
        left = self.left.get(ask.key, float(ask.rate.burst)) - ask.owed
        granted = 0.0 if left < ask.cost else ask.cost + max(0, min(ask.extra, int(left - ask.cost)))
        self.left[ask.key] = left - granted
        return granted, left - granted


async def _taken(limits: Limits, key: str, rate: Rate, most: int = 10_000) -> int:
    for n in range(most):
        try:
            await limits.take("test", key, rate)
        except Exhausted:
            return n
    return most


async def test_a_bucket_refills_by_the_clock() -> None:
    clock = ManualClock()
    limits, rate = Limits(clock, 3), Rate(burst=2, per_s=2.0)
    assert await _taken(limits, "a", rate) == 2
    with pytest.raises(TooManyRequests) as caught:
        await limits.take("test", "a", rate)
    assert caught.value.retry_ms is not None
    clock.advance(caught.value.retry_ms)
    await limits.take("test", "a", rate)
    for key in "bcde":
        await limits.take("test", key, rate)
    assert len(limits) == 3


async def test_whoever_asks_little_costs_redis_nothing() -> None:
    clock, store = ManualClock(), Counting()
    limits, rate = Limits(clock, 100), Rate(burst=160, per_s=40.0)
    limits.share(store)
    for _ in range(50):
        await limits.take("test", "quiet", rate)
        clock.advance(500)
    assert store.asked == []


async def test_whoever_asks_much_costs_redis_little_and_is_counted_exactly() -> None:
    clock, store = ManualClock(), Counting()
    limits, rate = Limits(clock, 100), Rate(burst=160, per_s=SLOW)
    limits.share(store)
    taken = await _taken(limits, "busy", rate)
    assert 160 <= taken <= 160 * (1 + SHARE)
    assert len(store.asked) <= 2 / SHARE
    asked = len(store.asked)
    for _ in range(1000):  # a flood that is refused asks nobody
        with pytest.raises(Exhausted):
            await limits.take("test", "busy", rate)
    assert len(store.asked) == asked


async def test_a_small_limit_is_exact() -> None:
    store = Counting()
    processes = [Limits(ManualClock(), 100) for _ in range(4)]
    for limits in processes:
        limits.share(store)
    rate = Rate(burst=10, per_s=SLOW)
    assert sum([await _taken(limits, "login", rate) for limits in processes]) == 10


async def test_without_redis_each_process_keeps_the_limit_itself() -> None:
    clock, store = ManualClock(), Counting()
    limits, rate = Limits(clock, 100), Rate(burst=10, per_s=SLOW)
    limits.share(store)
    store.away = True
    assert await _taken(limits, "a", rate) == 10
    store.away = False
    clock.advance(2000)
    assert await _taken(limits, "b", rate) == 10
    assert store.asked


def test_what_callers_are_told() -> None:
    rate = Rate(burst=60, per_s=2.0)
    error = Exhausted.__new__(Exhausted)
    from core.limits import Quota

    Exhausted.__init__(error, Quota("person", rate, 0.2), 0.4)
    assert error.retry_ms == 401
    told = headers(Quota("person", rate, 12.7))
    assert told == {"RateLimit-Policy": '"person";q=60;w=30', "RateLimit": '"person";r=12;t=24'}


async def test_a_device_cannot_use_up_what_its_owner_has() -> None:
    settings = load(
        {}, rate_person_burst=20, rate_person_per_s=SLOW, rate_device_burst=8, rate_device_per_s=SLOW
    )
    callers = CallerLimits(Limits(ManualClock(), 100), settings)
    for _ in range(8):
        await callers.caller(somebody(device="phone"))
    with pytest.raises(Exhausted) as caught:
        await callers.caller(somebody(device="phone"))
    assert caught.value.quota.name == "device"
    await callers.caller(somebody(device="tablet"))
    await callers.caller(somebody(device="phone", person_id=12))


# --- with the real Redis ----------------------------------------------------------------------------------------------


@pytest.fixture
async def processes(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Limits]]:
    """Three processes' limits on one Redis, which has time to answer: whoever gives up counts by itself."""
    monkeypatch.setattr(limits_store, "ANSWER_S", 10.0)
    made, stores = [], []
    for _ in range(3):
        limits, store = Limits(SystemClock(), 1000), RedisBuckets(redis_url, b"secret")
        limits.share(store)
        made.append(limits)
        stores.append(store)
    yield made
    for store in stores:
        await store.close()


@pytest.mark.requirement("W05")
@pytest.mark.parametrize("burst", [5, 64, 200])
async def test_several_processes_have_one_bucket(processes: list[Limits], burst: int) -> None:
    rate = Rate(burst, SLOW)
    counts = await asyncio.gather(*(_taken(limits, "one", rate) for limits in processes))
    assert burst <= sum(counts) <= burst + len(processes) * int(burst * SHARE)
    assert sum([await _taken(limits, "one", rate) for limits in processes]) == 0
    assert await _taken(processes[0], "other", rate) >= burst


async def test_buckets_refill_and_vanish_in_redis(processes: list[Limits], redis_url: str) -> None:
    from redis.asyncio import Redis

    rate = Rate(10, 100.0)
    assert await _taken(processes[0], "10.1.2.3", rate) >= 10
    async with Redis.from_url(redis_url) as redis:
        (key,) = await redis.keys("bankhub:limit:*")
        assert b"10.1.2.3" not in key
        assert 0 < await redis.pttl(key) <= 2000
    async with asyncio.timeout(5):
        while True:
            try:
                await processes[1].take("test", "10.1.2.3", rate)
                break
            except Exhausted as error:
                await asyncio.sleep((error.retry_ms or 10_000) / 1000)


async def test_a_restarted_redis_is_asked_again(processes: list[Limits], redis_url: str) -> None:
    from redis.asyncio import Redis

    rate = Rate(5, SLOW)
    await processes[0].take("test", "x", rate)
    async with Redis.from_url(redis_url) as redis:
        await redis.script_flush()
    assert await _taken(processes[0], "x", rate) == 4


async def test_a_redis_that_does_not_answer_holds_nobody_up(redis_url: str) -> None:
    wire, url = await Wire.before(redis_url)
    limits, store = Limits(SystemClock(), 1000), RedisBuckets(url, b"secret")
    limits.share(store)
    rate = Rate(5, SLOW)
    await limits.take("test", "x", rate)
    wire.silent = True
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await _taken(limits, "y", rate) == 5
    assert loop.time() - began < 1.0
    await store.close()
    await wire.close()
