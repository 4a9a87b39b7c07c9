"""The bus between processes: fast, and allowed to lose everything.

Whoever is told something over the bus could have read it from the database: a lost message costs time, never truth. So
`publish` cannot fail and never waits, and losing messages is silent, except that `on_state` says when the bus went
away and came back, and then its users look into the database.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, Protocol

import structlog
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from core.rng import Rng, SystemRng
from core.telemetry import counter, gauge

log = structlog.get_logger(__name__)

Receive = Callable[[bytes], Awaitable[None] | None]
OnState = Callable[[bool], None]

PREFIX: Final = "bankhub:"  # of channels: others may use the same Redis
QUEUE_MESSAGES: Final = 10_000  # waiting to be written; a second of a very busy node
QUEUE_BYTES: Final = 32 << 20
BATCH: Final = 1_000  # publications in one write
CONNECT_S: Final = 2.0
ANSWER_S: Final = 3.0  # a Redis that does not answer for so long is gone
BEAT_S: Final = 1.0  # the bus sends itself something this often, to know that it works in both directions
PAUSE_S: Final = 0.05  # before the first try to connect again; doubled up to
PAUSE_MAX_S: Final = 2.0
START_S: Final = 2.0  # a process does not wait longer for its bus

_DROPPED = counter("bankhub_bus_dropped_total", "Publications dropped", ("why",))
_SENT = counter("bankhub_bus_sent_total", "Publications sent")
_RECEIVED = counter("bankhub_bus_received_total", "Publications received")
_UP = gauge("bankhub_bus_up", "Whether the bus works")


class _Done:
    """Already done: may be awaited, need not be."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_DONE: Final = _Done()


class Bus(Protocol):
    """Publish and subscribe between processes. Order is kept for each publisher and channel; nothing else is sure."""

    @property
    def is_up(self) -> bool:
        """Whether messages get through at the moment, as far as is known."""
        ...

    def publish(self, channel: str, payload: bytes) -> Awaitable[None]:
        """Send to all subscribers of a channel, our own included. Takes effect at the call; awaiting is optional.

        Dropped when the bus is down or its queue is full. Never raises, never waits.
        """
        ...

    async def subscribe(self, channel: str, receive: Receive) -> None:
        """Call `receive` with every payload from now on; returns when it is sure to get them, if the bus is up.

        A channel may have several receivers. What a receiver raises is logged.
        """
        ...

    def on_state(self, changed: OnState) -> None:
        """Call `changed(True)` after the bus came up with all subscriptions in place, `changed(False)` when it went."""
        ...


class _Receivers:
    """Who listens to what; shared by both buses."""

    def __init__(self) -> None:
        self.channels: dict[str, list[Receive]] = {}
        self._states: list[OnState] = []
        self._running: set[asyncio.Task[None]] = set()
        self.is_up = False

    def add(self, channel: str, receive: Receive) -> bool:
        """Returns whether the channel is new."""
        listening = self.channels.setdefault(channel, [])
        listening.append(receive)
        return len(listening) == 1

    def on_state(self, changed: OnState) -> None:
        self._states.append(changed)

    def deliver(self, channel: str, payload: bytes) -> None:
        for receive in self.channels.get(channel, ()):
            try:
                waiting = receive(payload)
                if inspect.isawaitable(waiting):
                    task = asyncio.ensure_future(_logged(waiting))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
            except Exception:
                log.exception("bus.receiver_failed")

    def set_state(self, up: bool) -> None:
        if up == self.is_up:
            return
        self.is_up = up
        for changed in self._states:
            try:
                changed(up)
            except Exception:
                log.exception("bus.state_receiver_failed")


async def _logged(waiting: Awaitable[None]) -> None:
    try:
        await waiting
    except Exception:
        log.exception("bus.receiver_failed")


class RedisBus:
    """The bus over Redis or Valkey (a cluster too: every node of it passes publications on to the others).

    Two connections with RESP3: one reads subscriptions, one writes what was published since its last write. Both are
    given up together when either fails or nothing comes back, and made again with growing, jittered pauses.
    """

    def __init__(self, url: str, *, rng: Rng | None = None, prefix: str = PREFIX) -> None:
        self._rng = rng if rng is not None else SystemRng()
        self._prefix = prefix
        self._pool: Any = ConnectionPool.from_url(
            url, protocol=3, socket_connect_timeout=CONNECT_S, socket_timeout=ANSWER_S, socket_keepalive=True
        )
        self._receivers = _Receivers()
        self._beat = f"beat:{self._rng.token()[:16]}"
        self._beat_at_s = 0.0
        self._queue: list[tuple[str, str, bytes]] = []
        self._queue_bytes = 0
        self._queued = asyncio.Event()
        self._came_up = asyncio.Event()
        self._confirmed: dict[str, asyncio.Future[None]] = {}
        self._subscriber: Any = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        return self._receivers.is_up

    def on_state(self, changed: OnState) -> None:
        self._receivers.on_state(changed)

    async def start(self) -> None:
        """Connect, and keep connected until `stop`. Returns when the bus is up, or after `START_S` without it."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="core.bus")
        try:
            await asyncio.wait_for(self._came_up.wait(), START_S)
        except TimeoutError:
            log.warning("bus.not_there_at_start")

    async def stop(self) -> None:
        """Disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def publish(self, channel: str, payload: bytes) -> Awaitable[None]:
        if not self._receivers.is_up:
            _DROPPED.labels("down").inc()
        elif len(self._queue) >= QUEUE_MESSAGES or self._queue_bytes + len(payload) > QUEUE_BYTES:
            _DROPPED.labels("full").inc()
            self._give_up("queue_full")
        else:
            self._queue.append(("PUBLISH", self._prefix + channel, payload))
            self._queue_bytes += len(payload)
            self._queued.set()
        return _DONE

    async def subscribe(self, channel: str, receive: Receive) -> None:
        if self._receivers.add(channel, receive) and self._subscriber is not None:
            self._confirmed[channel] = asyncio.get_running_loop().create_future()
            try:
                await self._subscriber.send_command("SUBSCRIBE", self._prefix + channel, check_health=False)
            except (RedisError, OSError):
                self._give_up("subscribe_failed")
        if (waiting := self._confirmed.get(channel)) is not None:
            await asyncio.wait([waiting], timeout=ANSWER_S)

    # --- the connection -------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._session()
            except* (RedisError, OSError, TimeoutError) as errors:
                reason = type(errors.exceptions[0]).__name__
                log.info("bus.lost", reason=reason, was_up=self.is_up)
            finally:
                failures = 0 if self._receivers.is_up else failures + 1
                self._down()
            pause_s = min(PAUSE_MAX_S, PAUSE_S * 2 ** min(failures, 10))
            await asyncio.sleep(pause_s * (0.5 + self._rng.random() / 2))

    async def _session(self) -> None:
        """One pair of connections, until one of them fails."""
        subscriber, publisher = self._pool.make_connection(), self._pool.make_connection()
        try:
            await asyncio.gather(subscriber.connect(), publisher.connect())
            self._subscriber = subscriber
            for channel in (*self._receivers.channels, self._beat):
                self._confirmed[channel] = asyncio.get_running_loop().create_future()
            names = [self._prefix + channel for channel in self._confirmed]
            await subscriber.send_command("SUBSCRIBE", *names, check_health=False)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(subscriber))
                await asyncio.wait_for(asyncio.gather(*self._confirmed.values()), ANSWER_S)
                if self._subscriber is None:
                    raise ConnectionError("given up while it was being made")
                self._beat_at_s = asyncio.get_running_loop().time()
                self._up()
                group.create_task(self._write(publisher))
                group.create_task(self._keep_beating())
        finally:
            self._subscriber = None
            await subscriber.disconnect(nowait=True)
            await publisher.disconnect(nowait=True)

    async def _read(self, subscriber: Any) -> None:
        skip = len(self._prefix.encode())
        while not _cancelled():
            push = await subscriber.read_response(timeout=math.inf, push_request=True)
            if not isinstance(push, list) or len(push) < 3:
                continue
            kind, channel = push[0], push[1][skip:].decode()
            if kind == b"message":
                if channel == self._beat:
                    self._beat_at_s = asyncio.get_running_loop().time()
                else:
                    _RECEIVED.inc()
                    self._receivers.deliver(channel, push[2])
            elif kind == b"subscribe":
                confirmed = self._confirmed.pop(channel, None)
                if confirmed is not None and not confirmed.done():
                    confirmed.set_result(None)

    async def _write(self, publisher: Any) -> None:
        while not _cancelled():
            await self._queued.wait()
            self._queued.clear()
            while self._queue:
                batch, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                self._queue_bytes -= sum(len(payload) for _, _, payload in batch)
                await publisher.send_packed_command(publisher.pack_commands(batch), check_health=False)
                for _ in batch:
                    await publisher.read_response()
                _SENT.inc(len(batch))

    async def _keep_beating(self) -> None:
        """What nobody closes but nobody answers either, only this finds out."""
        loop = asyncio.get_running_loop()
        while True:
            self.publish(self._beat, b"")
            await asyncio.sleep(BEAT_S * (0.5 + self._rng.random()))
            if loop.time() - self._beat_at_s > ANSWER_S:
                raise TimeoutError("the bus does not bring back what was sent")

    def _give_up(self, reason: str) -> None:
        """End this pair of connections: what is lost must be known to be lost."""
        log.warning("bus.given_up", reason=reason)
        subscriber, self._subscriber = self._subscriber, None
        self._down()
        if subscriber is not None:
            task = asyncio.ensure_future(subscriber.disconnect(nowait=True))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _up(self) -> None:
        log.info("bus.up", channels=len(self._receivers.channels))
        _UP.set(1)
        self._came_up.set()
        self._receivers.set_state(True)

    def _down(self) -> None:
        self._queue.clear()
        self._queue_bytes = 0
        for waited_for in self._confirmed.values():
            if not waited_for.done():
                waited_for.set_result(None)
        self._confirmed.clear()
        _UP.set(0)
        self._receivers.set_state(False)


def _cancelled() -> bool:
    """Whether this task was told to end: on Python 3.11 a time-out inside the driver may swallow the cancellation."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class MemoryNetwork:
    """What `MemoryBus`es of one test or simulation are connected by; it can fail like the real one."""

    def __init__(self) -> None:
        self.is_up = True
        self.members: list[MemoryBus] = []
        self.fate: Callable[[str, bytes], int] = lambda channel, payload: 1
        """How many times a publication arrives at one member: 0 is lost, 2 is repeated."""

    def set_up(self, up: bool) -> None:
        """Take the network away, or bring it back; members learn of it."""
        self.is_up = up
        for member in self.members:
            member.receivers.set_state(up)


class MemoryBus:
    """The bus within one process, for the simulation and for tests. tests/contract holds it to the real one."""

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network
        self.receivers = _Receivers()

    async def start(self) -> None:
        """Join the network."""
        self._network.members.append(self)
        self.receivers.set_state(self._network.is_up)

    async def stop(self) -> None:
        """Leave it."""
        if self in self._network.members:
            self._network.members.remove(self)
        self.receivers.set_state(False)

    @property
    def is_up(self) -> bool:
        return self.receivers.is_up

    def on_state(self, changed: OnState) -> None:
        self.receivers.on_state(changed)

    def publish(self, channel: str, payload: bytes) -> Awaitable[None]:
        if self.is_up:
            loop = asyncio.get_running_loop()
            for member in self._network.members:
                if channel in member.receivers.channels:
                    for _ in range(self._network.fate(channel, payload)):
                        loop.call_soon(member.arrive, channel, payload)
        return _DONE

    def arrive(self, channel: str, payload: bytes) -> None:
        """A publication has come through the network."""
        if self.is_up:
            self.receivers.deliver(channel, payload)

    async def subscribe(self, channel: str, receive: Receive) -> None:
        self.receivers.add(channel, receive)
