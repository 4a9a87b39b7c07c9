"""SENDs and AMENDs until they are answered: over lost answers, refusals that pass, and any number of connections."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from hub.client import wire
from hub.client.link import Disconnected, Link
from hub.client.wire import HubError, Sent

WINDOW: Final = 32  # sent and not yet answered; more would only meet the hub's limits
WAITING_MAX: Final = 1_000  # not yet answered, those of a long time without a connection included
ANSWER_S: Final = 10.0  # without an answer for so long, the frame is sent again with the same key
PAUSE_S: Final = 0.25  # after a refusal that names no time


@dataclass(eq=False, slots=True)
class _Pending:
    op: int
    fields: Sequence[Any]
    done: asyncio.Future[Sent]
    frame_id: int = 0  # 0: not on its way
    timer: asyncio.TimerHandle | None = None
    uncertain: bool = False  # an attempt was never answered


class Outbox:
    """What was not answered yet, in the order it was given."""

    def __init__(self) -> None:
        self._pending: list[_Pending] = []
        self._link: Link | None = None
        self._not_before_s = 0.0
        self._closed: BaseException | None = None

    def __len__(self) -> int:
        return len(self._pending)

    async def deliver(self, op: int, fields: Sequence[Any], timeout_s: float | None) -> Sent:
        """Returns when the hub has committed it.

        Raises `HubError` for a refusal that stays (see its `uncertain`), `TimeoutError` when it is not known by then
        (the key may be used again to find out), and what `close` was given.
        """
        if self._closed is not None:
            raise self._closed
        if len(self._pending) >= WAITING_MAX:
            raise HubError("too_many_requests", "too many messages wait to be sent", temporary=True)
        pending = _Pending(op, fields, asyncio.get_running_loop().create_future())
        self._pending.append(pending)
        self._pump()
        try:
            async with asyncio.timeout(timeout_s):
                return await pending.done
        finally:
            self._drop(pending)

    def attach(self, link: Link) -> None:
        """A new connection: everything unanswered goes out again, in order."""
        self._link = link
        self._not_before_s = 0.0
        self._pump()

    def detach(self) -> None:
        """The connection is gone; its answers were called with None."""
        self._link = None

    def close(self, error: BaseException) -> None:
        """Nothing will be sent any more."""
        self._closed = error
        for pending in self._pending:
            if not pending.done.done():
                pending.done.set_exception(error)

    # --- how ------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        link = self._link
        if link is None or not link.alive:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._not_before_s:
            return  # a timer is set
        on_way = sum(1 for pending in self._pending if pending.frame_id)
        for pending in self._pending:
            if on_way >= WINDOW:
                return
            if not pending.frame_id and not pending.done.done():
                self._issue(link, pending)
                on_way += 1

    def _issue(self, link: Link, pending: _Pending) -> None:
        def answered(frame: Sequence[Any] | None) -> None:
            self._answered(pending, frame)

        try:
            pending.frame_id = link.send(pending.op, *pending.fields, answer=answered)
        except HubError as error:
            pending.done.set_exception(error)
        except Disconnected:
            return
        else:
            loop = asyncio.get_running_loop()
            pending.timer = loop.call_later(ANSWER_S, self._again, link, pending)

    def _again(self, link: Link, pending: _Pending) -> None:
        """No answer on a living connection."""
        link.forget(pending.frame_id)
        pending.frame_id, pending.uncertain = 0, True
        self._pump()

    def _answered(self, pending: _Pending, frame: Sequence[Any] | None) -> None:
        pending.frame_id = 0
        if pending.timer is not None:
            pending.timer.cancel()
        if frame is None or pending.done.done():
            pending.uncertain = True
            return
        if frame[0] == wire.SENT:
            pending.done.set_result(wire.sent(frame))
            self._pump()
            return
        error = wire.error(frame)
        if not error.temporary:
            error.uncertain = pending.uncertain
            pending.done.set_exception(error)
            self._pump()
            return
        loop = asyncio.get_running_loop()
        pause_s = error.retry_ms / 1000 if error.retry_ms else PAUSE_S
        self._not_before_s = max(self._not_before_s, loop.time() + pause_s)
        loop.call_later(pause_s + 0.001, self._pump)

    def _drop(self, pending: _Pending) -> None:
        self._pending.remove(pending)
        if pending.timer is not None:
            pending.timer.cancel()
        if pending.frame_id and self._link is not None:
            self._link.forget(pending.frame_id)
        self._pump()
