"""One timer for all connections: a wheel of one-second slots instead of a timer each.

Centrifugo measured 0.94 against 0.41 of a core for 200,000 idle connections with this one change.
"""

from __future__ import annotations

from typing import Protocol

SLOTS = 64


class Watched(Protocol):
    """Something the wheel looks after."""

    wheel_slot: int

    def check(self, now_s: float) -> float:
        """Does what is due; returns seconds until the next look, 0 for never again."""
        ...


class Wheel:
    """`turn()` is called about once a second by the owner."""

    __slots__ = ("_at", "_slots")

    def __init__(self) -> None:
        self._slots: list[dict[Watched, None]] = [{} for _ in range(SLOTS)]
        self._at = 0

    def add(self, watched: Watched, delay_s: float) -> None:
        """Looks at `watched` in about `delay_s` seconds (1 to 63)."""
        slot = (self._at + min(max(int(delay_s + 0.999), 1), SLOTS - 1)) % SLOTS
        watched.wheel_slot = slot
        self._slots[slot][watched] = None

    def remove(self, watched: Watched) -> None:
        """Forgets `watched`."""
        self._slots[watched.wheel_slot].pop(watched, None)

    def move(self, watched: Watched, delay_s: float) -> None:
        """Looks at `watched` at another time than planned."""
        self.remove(watched)
        self.add(watched, delay_s)

    def turn(self, now_s: float) -> None:
        """Moves on by one slot and checks everything in it."""
        self._at = (self._at + 1) % SLOTS
        due, self._slots[self._at] = self._slots[self._at], {}
        for watched in due:
            delay_s = watched.check(now_s)
            if delay_s > 0:
                self.add(watched, delay_s)
