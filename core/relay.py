"""The relay: gives events out to their consumers, runs the handlers of this process, tries again, parks.

Every process that has services runs one. It is woken by a commit of its own process, by the bus for those of others,
and polls in case neither came. A delivery in work is leased by moving its `due_at` forward; when the process dies it
falls due again, and if the effect had been committed the consumer's inbox row says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog
from pydantic import ValidationError

from core import outbox
from core.db import Transaction, sql
from core.errors import BankhubError
from core.failpoints import failpoint
from core.telemetry import counter, histogram, new_trace, parse_trace

if TYPE_CHECKING:
    from core.bus import Bus
    from core.clock import Clock
    from core.db import Database
    from core.rng import Rng
    from core.runtime import Runtime

log = structlog.get_logger(__name__)

CHANNEL: Final = "core.outbox"
POLL_S: Final = 1.0  # for what nobody woke us for
PARALLEL: Final = 8  # handlers at once; each holds a database connection, of 20 that requests need too
GIVE_OUT: Final = 200  # events of one round
LEASE_S: Final = 60.0
DEADLINE_S: Final = 45.0  # of a handler: it has ended before its lease does
ATTEMPTS: Final = 12  # then it is parked; with the pauses below about 40 minutes
PAUSE_S: Final = 1.0  # before the second attempt, doubled each time, up to
PAUSE_MAX_S: Final = 600.0
LOST_S: Final = 3600.0  # a due time further ahead was written by a clock that was wrong
REFRESH_S: Final = 3600.0  # how often consumers are said to be there
DRAIN_S: Final = 10.0

_NEW = sql(
    "SELECT event_id, enterprise_id, event_name, order_key, order_no FROM core_outbox "
    "WHERE state = 0 ORDER BY event_id LIMIT $1 FOR UPDATE SKIP LOCKED",
    exempt=outbox.RELAY,
)
_CONSUMERS = sql(
    "SELECT event_name, consumer FROM core_consumers WHERE seen_at > $1 AND event_name IN ($*) ORDER BY consumer"
)
_GIVEN_OUT = sql("UPDATE core_outbox SET state = 1 WHERE event_id IN ($*)", exempt=outbox.RELAY)
_DUE = sql(
    """
    SELECT d.consumer, d.event_id, d.attempts FROM core_deliveries d
    WHERE d.state = 0 AND (d.due_at <= $1 OR d.due_at > $2)
    AND (d.order_key IS NULL
         OR (NOT EXISTS (SELECT 1 FROM core_deliveries e WHERE e.consumer = d.consumer AND e.order_key = d.order_key
                         AND e.order_no < d.order_no AND e.state <> 1)
             AND NOT EXISTS (SELECT 1 FROM core_outbox o WHERE o.order_key = d.order_key
                             AND o.order_no < d.order_no AND o.state = 0)))
    AND d.consumer IN ($*)
    ORDER BY d.due_at, d.event_id LIMIT $3 FOR UPDATE SKIP LOCKED
    """,
    exempt=outbox.RELAY,
)
_LEASE = sql(
    "UPDATE core_deliveries SET due_at = $3, attempts = attempts + 1, changed_at = $4 "
    "WHERE consumer = $1 AND event_id = $2",
    exempt=outbox.RELAY,
)
_BODIES = sql(
    "SELECT event_id, enterprise_id, event_name, body, traceparent, created_at FROM core_outbox "
    "WHERE event_id IN ($*)",
    exempt=outbox.RELAY,
)
_DONE = sql(
    "UPDATE core_deliveries SET state = 1, reason = NULL, changed_at = $3 "
    "WHERE consumer = $1 AND event_id = $2 AND state <> 1",
    exempt=outbox.RELAY,
)
_FAILED = sql(
    "UPDATE core_deliveries SET state = $3, due_at = $4, reason = $5, changed_at = $6 "
    "WHERE consumer = $1 AND event_id = $2 AND state = 0",
    exempt=outbox.RELAY,
)
_HANDLED = sql("SELECT 1 FROM core_inbox WHERE consumer = $1 AND event_id = $2", exempt=outbox.RELAY)
_HANDLE = sql(
    "INSERT INTO core_inbox (consumer, event_id, enterprise_id, handled_at) VALUES ($1, $2, $3, $4)"
)

_DELIVERIES: Final = (
    "consumer", "event_id", "enterprise_id", "order_key", "order_no", "state", "attempts", "due_at", "changed_at",
)  # fmt: skip

_COUNT = counter("bankhub_deliveries_total", "Deliveries of events by outcome", ("consumer", "outcome"))
_LAG = histogram("bankhub_delivery_lag_seconds", "From the commit of an event to its handling")


class Poison(Exception):
    """This event can never be handled: it is parked without further attempts."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one consumer."""

    consumer: str
    event_id: int
    enterprise_id: int
    event_name: str
    body: str  # JSON of the event
    traceparent: str | None
    attempt: int  # from 1
    created_at: datetime


Claim = Callable[[Transaction], Awaitable[bool]]
Deliver = Callable[[Delivery, Claim], Awaitable[object]]
"""Handle a delivery: in one transaction call the claim (False: handled before, do nothing) and the handler."""


class Relay:
    """See the module. `consumers` are those of this process: name to event name."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        rng: Rng,
        *,
        consumers: Mapping[str, str],
        deliver: Deliver,
        bus: Bus | None = None,
        parallel: int = PARALLEL,
        attempts: int = ATTEMPTS,
        poll_s: float = POLL_S,
    ) -> None:
        self._db, self._clock, self._rng, self._bus = db, clock, rng, bus
        self._consumers = dict(consumers)
        self._deliver = deliver
        self._parallel, self._attempts, self._poll_s = parallel, attempts, poll_s
        self._wake = asyncio.Event()
        self._waker: outbox.Waker | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._outcomes: list[tuple[Delivery, BaseException | None]] = []
        self._closing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._refreshed_s = 0.0
        self._stopping = False

    async def start(self) -> None:
        """Register the consumers, then deliver until `stop`."""
        await self._refresh()
        loop = asyncio.get_running_loop()
        self._waker = outbox.Waker(lambda: loop.call_soon_threadsafe(self._wake.set))
        if self._bus is not None:
            await self._bus.subscribe(CHANNEL, lambda payload: self._wake.set())
        self._task = loop.create_task(self._run(), name="core.relay")

    async def stop(self) -> None:
        """Take nothing more, and give what is in work `DRAIN_S` to end."""
        self._waker = None
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=DRAIN_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=DRAIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def run_once(self) -> int:
        """Give out and handle what is due now; how many deliveries were attempted. For tests and commands."""
        taken = await self._db.run(self._take, self._parallel)
        await asyncio.gather(*(self._one(delivery) for delivery in taken))
        return len(taken)

    # --- the loop -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            free = self._parallel - len(self._running)
            taken: list[Delivery] = []
            try:
                if self._clock.monotonic_s() - self._refreshed_s > REFRESH_S:
                    await self._refresh()
                if free:
                    taken = await self._db.run(self._take, free)
            except Exception as error:
                log.warning("outbox.relay_waits", reason=type(error).__name__)
                await asyncio.sleep(self._poll_s)
                continue
            for delivery in taken:
                task = asyncio.get_running_loop().create_task(self._one(delivery))
                self._running.add(task)
                task.add_done_callback(self._ended)
            if len(taken) < free or not free:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._poll_s * (0.5 + self._rng.random()))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("outbox.bookkeeping_failed", exc_info=error)

    async def _refresh(self) -> None:
        await outbox.register(self._db, self._clock, self._consumers)
        self._refreshed_s = self._clock.monotonic_s()

    # --- taking ---------------------------------------------------------------------------------------------------

    async def _take(self, tx: Transaction, limit: int) -> list[Delivery]:
        now = self._clock.now()
        await self._give_out(tx, now)
        if not self._consumers:
            return []
        lost = now + timedelta(seconds=LOST_S)
        due = await tx.fetch_in(_DUE, outbox.names(self._consumers), now, lost, limit)
        if not due:
            return []
        dead = [row for row in due if row["attempts"] >= self._attempts]
        await tx.executemany(
            _FAILED,
            [(row["consumer"], row["event_id"], outbox.PARKED, now, "never came back", now) for row in dead],
        )
        due = [row for row in due if row["attempts"] < self._attempts]
        until = now + timedelta(seconds=LEASE_S)
        await tx.executemany(_LEASE, [(row["consumer"], row["event_id"], until, now) for row in due])
        bodies = {
            row["event_id"]: row
            for row in await tx.fetch_in(_BODIES, sorted({row["event_id"] for row in due}))
        }
        return [
            Delivery(
                consumer=row["consumer"],
                event_id=row["event_id"],
                enterprise_id=bodies[row["event_id"]]["enterprise_id"],
                event_name=bodies[row["event_id"]]["event_name"],
                body=bodies[row["event_id"]]["body"],
                traceparent=bodies[row["event_id"]]["traceparent"],
                attempt=row["attempts"] + 1,
                created_at=bodies[row["event_id"]]["created_at"],
            )
            for row in due
        ]

    async def _give_out(self, tx: Transaction, now: datetime) -> None:
        """Make deliveries of new events, for all consumers anywhere."""
        new = await tx.fetch(_NEW, GIVE_OUT)
        if not new:
            return
        since = now - outbox.FORGET_CONSUMER
        wanted: dict[str, list[str]] = {}
        for row in await tx.fetch_in(_CONSUMERS, sorted({row["event_name"] for row in new}), since):
            wanted.setdefault(row["event_name"], []).append(row["consumer"])
        deliveries = [
            (consumer, row["event_id"], row["enterprise_id"], row["order_key"], row["order_no"], outbox.WAITING, 0,
             outbox.AT_ONCE, now)
            for row in new
            for consumer in wanted.get(row["event_name"], ())
        ]  # fmt: skip
        await tx.insert_many("core_deliveries", _DELIVERIES, deliveries)
        await tx.execute_in(_GIVEN_OUT, [row["event_id"] for row in new])
        if len(new) == GIVE_OUT:
            tx.on_commit(self._wake.set)
        if self._bus is not None and any(delivery[0] not in self._consumers for delivery in deliveries):
            bus = self._bus
            tx.on_commit(lambda: bus.publish(CHANNEL, b""))

    # --- handling -------------------------------------------------------------------------------------------------

    async def _one(self, delivery: Delivery) -> None:
        failure: BaseException | None = None
        try:
            await self._deliver(delivery, lambda tx: self._claim(tx, delivery))
        except Exception as error:
            failure = error
        else:
            await failpoint("outbox.mid_delivery")
            _LAG.observe(max(0.0, (self._clock.now() - delivery.created_at).total_seconds()))
        await self._close(delivery, failure)

    async def _claim(self, tx: Transaction, delivery: Delivery) -> bool:
        if await tx.fetchval(_HANDLED, delivery.consumer, delivery.event_id) is not None:
            return False
        await tx.execute(
            _HANDLE, delivery.consumer, delivery.event_id, delivery.enterprise_id, self._clock.now()
        )
        return True

    async def _close(self, delivery: Delivery, failure: BaseException | None) -> None:
        """Write down how it went; what ends while another is being written shares the next transaction."""
        self._outcomes.append((delivery, failure))
        async with self._closing:
            outcomes, self._outcomes = self._outcomes, []
            if outcomes:
                await self._db.run(self._write_outcomes, outcomes)

    async def _write_outcomes(
        self, tx: Transaction, outcomes: list[tuple[Delivery, BaseException | None]]
    ) -> None:
        now = self._clock.now()
        outcomes = sorted(outcomes, key=lambda outcome: (outcome[0].consumer, outcome[0].event_id))
        done = [(d.consumer, d.event_id, now) for d, failure in outcomes if failure is None]
        failed = [self._failed(d, failure, now) for d, failure in outcomes if failure is not None]
        await tx.executemany(_DONE, done)
        await tx.executemany(_FAILED, failed)
        tx.on_commit(self._wake.set)

    def _failed(
        self, d: Delivery, failure: BaseException, now: datetime
    ) -> tuple[str, int, int, datetime, str, datetime]:
        reason = _reason(failure)
        park = d.attempt >= self._attempts or isinstance(failure, Poison)
        _COUNT.labels(d.consumer, "parked" if park else "failed").inc()
        (log.error if park else log.warning)(
            "outbox.parked" if park else "outbox.failed",
            event_id=d.event_id,
            consumer=d.consumer,
            attempt=d.attempt,
            reason=reason,
            exc_info=failure,
        )
        pause_s = min(PAUSE_MAX_S, PAUSE_S * 2 ** (d.attempt - 1)) * (0.5 + self._rng.random() / 2)
        state = outbox.PARKED if park else outbox.WAITING
        return d.consumer, d.event_id, state, now + timedelta(seconds=pause_s), reason, now


def _reason(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return (f"{error.code}: {name}" if isinstance(error, BankhubError) else name)[:200]


def relay_of(runtime: Runtime) -> Relay:
    """The relay of a process: its consumers are the event handlers of its services."""
    handlers = {h.name: h for listening in runtime.registry.handlers.values() for h in listening}

    async def deliver(delivery: Delivery, claim: Claim) -> object:
        handler = handlers[delivery.consumer]
        try:
            event = handler.event.model_validate_json(delivery.body)
        except ValidationError as error:
            raise Poison(f"{delivery.event_name} cannot be read") from error
        trace = parse_trace(delivery.traceparent) or new_trace(runtime.rng)
        deadline = runtime.clock.monotonic_s() + DEADLINE_S
        return await runtime.calls.dispatcher.deliver(
            handler, event, trace=trace, deadline=deadline, claim=claim
        )

    return Relay(
        runtime.db,
        runtime.clock,
        runtime.rng,
        consumers={name: handler.event.event_name for name, handler in handlers.items()},
        deliver=deliver,
        bus=runtime.bus,
    )
