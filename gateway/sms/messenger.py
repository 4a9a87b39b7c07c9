"""Sends short messages in the background: no answer waits for the platform, so its pace tells nobody anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from core.errors import BankhubError
from core.telemetry import counter
from gateway.ports import SmsSender

log = structlog.get_logger(__name__)

_SENT: Final = counter(
    "bankhub_sms_total", "Short messages, by template and outcome", ("template", "outcome")
)
_AT_ONCE: Final = 8  # platforms count connections
_CLOSE_S: Final = 5.0  # what was accepted may still go out at the end


class Messenger:
    """A bounded queue before a `SmsSender`. What does not fit is dropped and counted: its owner asks again."""

    def __init__(self, sender: SmsSender, waiting: int) -> None:
        self._sender = sender
        self._queue: asyncio.Queue[tuple[str, str, Mapping[str, str]]] = asyncio.Queue(waiting)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to send."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._work(), name="gateway.sms") for _ in range(_AT_ONCE)]

    def post(self, phone: str, template: str, params: Mapping[str, str]) -> None:
        """Send soon. For after a commit."""
        try:
            self._queue.put_nowait((phone, template, params))
        except asyncio.QueueFull:
            _SENT.labels(template, "dropped").inc()
            log.error("sms.dropped", template=template)

    async def settled(self) -> None:
        """Wait until nothing waits."""
        await self._queue.join()

    async def close(self) -> None:
        """Send what was accepted, as far as a few seconds reach; end."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.settled()
        except TimeoutError:
            log.warning("sms.left", messages=self._queue.qsize())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sender.close()

    async def _work(self) -> None:
        while True:
            phone, template, params = await self._queue.get()
            try:
                await self._sender.send(phone, template, params)
            except BankhubError as error:
                _SENT.labels(template, error.code).inc()
                log.warning("sms.failed", template=template, code=error.code)
            except Exception:
                _SENT.labels(template, "internal").inc()
                log.exception("sms.failed", template=template)
            else:
                _SENT.labels(template, "ok").inc()
            finally:
                self._queue.task_done()
