"""A bus that loses, repeats and mixes up what it carries: the hub must not need it to be better."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable
from dataclasses import dataclass

from core.bus import Bus, OnState, Receive

ENVIRONMENT = "FAULT_BUS"


@dataclass(frozen=True, slots=True)
class Badness:
    """Probabilities per message and receiver. `late_s`: how much later at most, which mixes up the order."""

    seed: int = 0
    lost: float = 0.05
    doubled: float = 0.1
    late: float = 0.15
    late_s: float = 0.3

    def __str__(self) -> str:
        return f"{self.seed}:{self.lost}:{self.doubled}:{self.late}:{self.late_s}"

    @classmethod
    def parse(cls, text: str) -> Badness:
        seed, *numbers = text.split(":")
        return cls(int(seed), *map(float, numbers))


class BadBus:
    """`Bus` around another one; what is published goes out, what arrives may suffer."""

    def __init__(self, bus: Bus, badness: Badness) -> None:
        self._bus, self._badness = bus, badness
        self._chance = random.Random(badness.seed)
        self._running: set[asyncio.Future[None]] = set()

    @property
    def is_up(self) -> bool:
        return self._bus.is_up

    def publish(self, channel: str, payload: bytes) -> Awaitable[None]:
        return self._bus.publish(channel, payload)

    def on_state(self, changed: OnState) -> None:
        self._bus.on_state(changed)

    async def subscribe(self, channel: str, receive: Receive) -> None:
        def suffer(payload: bytes) -> None:
            badness, chance = self._badness, self._chance
            if chance.random() < badness.lost:
                return
            for _ in range(2 if chance.random() < badness.doubled else 1):
                if chance.random() < badness.late:
                    loop = asyncio.get_running_loop()
                    loop.call_later(chance.uniform(0, badness.late_s), self._give, receive, payload)
                else:
                    self._give(receive, payload)

        await self._bus.subscribe(channel, suffer)

    def _give(self, receive: Receive, payload: bytes) -> None:
        waiting = receive(payload)
        if inspect.isawaitable(waiting):
            task: asyncio.Future[None] = asyncio.ensure_future(waiting)
            self._running.add(task)
            task.add_done_callback(self._running.discard)
