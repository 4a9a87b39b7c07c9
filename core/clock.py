"""Time, injected: product code asks a `Clock`, so tests and the simulation own it."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import Final, Protocol
from zoneinfo import ZoneInfo

SHANGHAI: Final = ZoneInfo("Asia/Shanghai")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Wall time for people and rows, monotonic time for time-outs."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC. May step back when the host's clock is set."""
        ...

    def now(self) -> datetime:
        """The same as an aware UTC datetime, exact to the millisecond."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since some fixed point; never steps back."""
        ...


def from_ms(time_ms: int) -> datetime:
    """An aware UTC datetime of milliseconds since the epoch."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch of an aware datetime, rounded down."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def business_date(moment: datetime) -> date:
    """The bank's date of an aware datetime: the calendar day in Shanghai. The only place that decides it."""
    if moment.tzinfo is None:
        raise ValueError("a business date needs an aware datetime")
    return moment.astimezone(SHANGHAI).date()


class SystemClock:
    """The host's clock."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def now(self) -> datetime:
        return from_ms(self.now_ms())

    def monotonic_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to."""

    __slots__ = ("_monotonic_ms", "_now_ms")

    def __init__(self, now_ms: int = 1_767_225_600_000) -> None:  # 2026-01-01 00:00 UTC
        self._now_ms = now_ms
        self._monotonic_ms = 0

    def now_ms(self) -> int:
        return self._now_ms

    def now(self) -> datetime:
        return from_ms(self._now_ms)

    def monotonic_s(self) -> float:
        return self._monotonic_ms / 1000

    def advance(self, ms: int) -> None:
        """Let time pass. Raises `ValueError` for a negative span: that is what `step` is for."""
        if ms < 0:
            raise ValueError("time does not run backwards; step() sets the wall clock")
        self._now_ms += ms
        self._monotonic_ms += ms

    def step(self, ms: int) -> None:
        """Set the wall clock forward or back, as an operator or NTP would; monotonic time does not notice."""
        self._now_ms += ms
