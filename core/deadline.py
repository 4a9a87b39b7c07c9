"""A caller's deadline around the work that is done for it."""

from __future__ import annotations

import asyncio
from types import TracebackType

from core.errors import DeadlineExceeded


class deadline:  # noqa: N801 - reads as a function: with deadline(seconds)
    """Let this task do something for at most `seconds`, then cancel it there and raise `DeadlineExceeded`.

    As `asyncio.timeout`, without a coroutine at both ends and without what nobody here needs: every call has one, and
    this costs half. A cancellation by somebody else stays one.
    """

    __slots__ = ("_cancelling", "_expired", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._expired = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._timer = loop.call_later(max(0.0, self._seconds), self._expire)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise DeadlineExceeded from error

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()
