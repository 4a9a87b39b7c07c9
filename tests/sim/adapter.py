"""The simulated loop, in one place: simloop (MIT, Python 3.12 and newer), which draws every choice from a seed.

Everything else of the simulation asks here, so that another simulator could take its place.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from simloop import Host, SimLoop
from simloop._net import _current_host
from simloop._run import finish, run_once

from core.clock import from_ms
from core.rng import SeededRng

EPOCH_MS = 1_767_225_600_000  # 2026-01-01 UTC: when every simulation begins


class SimClock:
    """`core.clock.Clock` on virtual time. `ahead_ms` is how wrong this machine's wall clock is; it may be set."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return EPOCH_MS + self.ahead_ms + int(self._loop.time() * 1000)

    def now(self) -> datetime:
        return from_ms(self.now_ms())

    def monotonic_s(self) -> float:
        return float(self._loop.time())


class Simulation:
    """One run's world: hosts, time and chance."""

    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.seed = int(loop.seed)
        self.chance = random.Random(f"scenario-{loop.seed}")
        self.rng = SeededRng(loop.seed)
        self._clocks: dict[str, SimClock] = {}
        loop.net.set_defaults(latency=(0.0005, 0.02))
        loop.net.set_flow_control(enabled=True)

    def host(self, name: str) -> Host:
        """A machine."""
        return self.loop.net.host(name)

    def clock(self, name: str) -> SimClock:
        """A machine's clock; it outlives crashes."""
        return self._clocks.setdefault(name, SimClock(self.loop))

    def alive(self, name: str) -> bool:
        """Whether a machine has not crashed."""
        return bool(self.loop.net._alive.get(name, True))

    def crash(self, name: str) -> None:
        """The machine is silent from now on. Its tasks are cancelled one step later: doubles must not trust them."""
        self.loop.net.crash(name)

    def restart(self, name: str) -> None:
        """The machine is there again, empty."""
        self.loop.net.restart(name)

    def partition(self, one: str, other: str) -> None:
        """Nothing arrives between two machines until `heal`; what was sent arrives then, as TCP would have it."""
        self.loop.net.partition([one], [other])

    def heal(self) -> None:
        """Ends every partition."""
        self.loop.net.heal()

    def here(self) -> str:
        """The machine whose code runs now."""
        return str(_current_host.get())


def run(
    seed: int, scenario: Callable[[Simulation], Coroutine[Any, Any, Any]]
) -> tuple[Any, Exception | None, str]:
    """Runs a scenario; its result, the error that ended it, and the hash of everything that happened."""
    loop = SimLoop(seed)
    result: list[Any] = []

    async def whole() -> None:
        result.append(await scenario(Simulation(loop)))

    error = run_once(loop, whole)
    trace = loop.trace_hash()
    finish(loop)
    return (result[0] if result else None), error, trace
