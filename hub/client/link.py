"""One connection: frames out in batches, answers to whoever asked, pings both ways."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import websockets
from websockets.asyncio.client import ClientConnection

from hub.client import wire
from hub.client.rules import batches
from hub.client.wire import HubError, Welcome

PONG_S: Final = 8.0  # for the answer to our PING, as long as the hub gives us
SIGNALS_MAX: Final = 32  # frames waiting to be written; more signals are dropped

Answer = Callable[[Sequence[Any] | None], None]
"""Called once with the answering frame, or with None when the connection ended before it came."""


class Disconnected(Exception):
    """The connection ended before the answer came: whether the hub did it is unknown."""


class Link:
    """A connection that WELCOME has been received on. `run` reads until it ends."""

    def __init__(
        self, ws: ClientConnection, welcome: Welcome, on_push: Callable[[Sequence[Any]], None]
    ) -> None:
        self.welcome = welcome
        self.bye: wire.Bye | None = None
        self.alive = True
        self.rtt_s: float | None = None
        self._ws = ws
        self._on_push = on_push
        self._ids = itertools.count(2)
        self._answers: dict[int, Answer] = {}
        self._out: list[tuple[Sequence[Any], int]] = []
        self._wake = asyncio.Event()
        self._heard_s = asyncio.get_running_loop().time()

    # --- out ------------------------------------------------------------------------------------------------------

    def send(self, op: int, *fields: Any, answer: Answer | None = None) -> int:
        """Queues a frame; its id. Raises `HubError` for a frame that the hub would not take."""
        frame_id = next(self._ids) & 0xFFFF_FFFF or next(self._ids)
        frame = (op, frame_id, *fields)
        size = wire.frame_size(frame)
        limit = int(self.welcome.limits.get("frame_bytes", 64 * 1024))
        if size > limit:
            raise HubError("too_large", f"a frame is at most {limit} bytes, this one has {size}")
        if answer is not None:
            if not self.alive:
                raise Disconnected
            self._answers[frame_id] = answer
        self._queue(frame, size)
        return frame_id

    def signal(self, *fields: Any) -> bool:
        """Queues a SIGNAL unless much waits already; whether it did."""
        if len(self._out) >= SIGNALS_MAX:
            return False
        self.send(wire.SIGNAL, *fields)
        return True

    async def ask(self, op: int, *fields: Any, timeout_s: float = 15.0) -> Sequence[Any]:
        """Sends a frame and waits for its answer. Raises `HubError`, `Disconnected`, `TimeoutError`."""
        answered: asyncio.Future[Sequence[Any] | None] = asyncio.get_running_loop().create_future()

        def answer(frame: Sequence[Any] | None) -> None:
            if not answered.done():
                answered.set_result(frame)

        frame_id = self.send(op, *fields, answer=answer)
        try:
            async with asyncio.timeout(timeout_s):
                frame = await answered
        finally:
            self._answers.pop(frame_id, None)
        if frame is None:
            raise Disconnected
        if frame[0] == wire.ERROR:
            raise wire.error(frame)
        return frame

    def forget(self, frame_id: int) -> None:
        """Nobody waits for this answer any more."""
        self._answers.pop(frame_id, None)

    def _queue(self, frame: Sequence[Any], size: int) -> None:
        if self.alive:
            self._out.append((frame, size))
            self._wake.set()

    async def _write(self) -> None:
        limits = self.welcome.limits
        count = int(limits.get("frames_per_message", wire.FRAMES_PER_MESSAGE))
        size = int(limits.get("message_bytes", wire.MESSAGE_BYTES))
        while True:
            await self._wake.wait()
            self._wake.clear()
            out, self._out = self._out, []
            for frames in batches(out, count, size):
                await self._ws.send(wire.pack(frames))

    # --- in -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Reads until the connection ends. Raises `BadServer`."""
        tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._keep_alive())]
        try:
            with suppress(websockets.ConnectionClosed):
                async for message in self._ws:
                    self._heard_s = asyncio.get_running_loop().time()
                    for frame in wire.unpack(message):
                        self._received(frame)
        finally:
            self.alive = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            answers, self._answers = self._answers, {}
            for answer in answers.values():
                answer(None)

    def _received(self, frame: Sequence[Any]) -> None:
        op, frame_id = frame[0], frame[1]
        if op == wire.PING and frame_id == 0:
            pong = (wire.PING, 0, *frame[2:3])
            self._queue(pong, 16)
        elif op == wire.BYE:
            self.bye = wire.bye(frame)
        elif frame_id == 0:
            self._on_push(frame)
        elif (answer := self._answers.pop(frame_id, None)) is not None:
            answer(frame)

    async def _keep_alive(self) -> None:
        """PINGs a silent hub; one that does not answer is left."""
        loop = asyncio.get_running_loop()
        while True:
            silent_s = loop.time() - self._heard_s
            if silent_s < self.welcome.ping_s:
                await asyncio.sleep(self.welcome.ping_s - silent_s)
                continue
            began = loop.time()
            try:
                await self.ask(wire.PING, None, timeout_s=PONG_S)
                self.rtt_s = loop.time() - began
            except TimeoutError:
                if loop.time() - self._heard_s >= PONG_S:
                    self.abort()
                    return
            except (HubError, Disconnected):
                return

    def abort(self) -> None:
        """Cuts the connection without a word."""
        self._ws.transport.abort()

    async def close(self) -> None:
        """Says good-bye and waits for the hub's close frame."""
        await self._ws.close()
