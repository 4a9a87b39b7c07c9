"""The shared buckets of `core.limits` in Redis, Valkey, or a cluster of them.

A bucket is one key with one number: when it will be full again (the theoretical arrival time of GCRA, in microseconds
of Redis' own clock, so that nodes' clocks do not matter). A script call touches that one key only, which any cluster
can run. Keys are keyed digests: neither an address nor a phone number can be read out of Redis.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import Any, Final

import structlog
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, RedisError

from core.limits import Ask, StoreDown

log = structlog.get_logger(__name__)

PREFIX: Final = "bankhub:limit:"
ANSWER_S: Final = 0.25  # a limit is not worth waiting longer for; then this process decides alone for a while

# KEYS: the bucket. ARGV: microseconds a token takes, burst, cost, extra, owed. Gives granted and left, times 1000.
_SCRIPT: Final = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local each, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local extra, owed = tonumber(ARGV[4]), tonumber(ARGV[5])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
full = math.min(full + owed * each, now + 2 * burst * each)
local left = burst - (full - now) / each
local granted = 0
if left >= cost then
  granted = cost + math.max(0, math.min(extra, math.floor(left - cost)))
  full = full + granted * each
  left = left - granted
end
if granted > 0 or owed > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1000)
end
return {math.floor(granted * 1000), math.floor(left * 1000)}
"""


class RedisBuckets:
    """Asks in batches: everything that is asked in one turn of the loop goes out in one pipeline."""

    def __init__(self, url: str, secret: bytes, *, cluster: bool = False) -> None:
        options: dict[str, Any] = {"socket_timeout": ANSWER_S, "socket_connect_timeout": ANSWER_S}
        self._redis: Any = (
            RedisCluster.from_url(url, **options)
            if cluster
            else Redis.from_url(url, max_connections=4, **options)
        )
        self._secret = secret[:32]
        self._sha = ""
        self._waiting: list[tuple[Ask, asyncio.Future[tuple[float, float]]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def take(self, ask: Ask) -> tuple[float, float]:
        """See `core.limits.Store`."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[float, float]] = loop.create_future()
        self._waiting.append((ask, answer))
        if self._flushing is None:
            self._flushing = loop.create_task(self._flush(), name="core.limits")
        return await answer

    async def close(self) -> None:
        """Let go of the connections."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self._redis.aclose()

    def key_of(self, ask: Ask) -> str:
        """The name of a bucket in Redis."""
        digest = blake2b(repr((ask.name, ask.key)).encode(), digest_size=16, key=self._secret)
        return f"{PREFIX}{{{digest.hexdigest()}}}"

    async def _flush(self) -> None:
        await asyncio.sleep(0)  # the others of this turn come along
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    async with asyncio.timeout(2 * ANSWER_S):
                        answers = await self._ask([ask for ask, _ in batch])
                except (RedisError, OSError, TimeoutError) as error:
                    log.info("limits.no_answer", reason=type(error).__name__)
                    answers = [None] * len(batch)
                for (_, waiting), answer in zip(batch, answers, strict=True):
                    if waiting.done():
                        continue
                    if answer is None:
                        waiting.set_exception(StoreDown())
                    else:
                        waiting.set_result((answer[0] / 1000, answer[1] / 1000))
        finally:
            self._flushing = None
            for _, waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(StoreDown())
            self._waiting = []

    async def _ask(self, asks: list[Ask]) -> list[Any]:
        answers = await self._ask_once(asks)
        if any(isinstance(answer, NoScriptError) for answer in answers):  # Redis was restarted
            self._sha = ""
            answers = await self._ask_once(asks)
        return [None if isinstance(answer, Exception) else answer for answer in answers]

    async def _ask_once(self, asks: list[Ask]) -> list[Any]:
        if not self._sha:
            self._sha = await self._redis.script_load(_SCRIPT)
        pipeline = self._redis.pipeline(transaction=False)
        for ask in asks:
            each_us = 1_000_000 / ask.rate.per_s
            pipeline.evalsha(
                self._sha, 1, self.key_of(ask), each_us, ask.rate.burst, ask.cost, ask.extra, ask.owed
            )
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers
