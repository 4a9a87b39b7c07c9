"""The transactional outbox: an event is a row of the transaction that caused it, and is handled because it is there.

    core_outbox       what happened; written by `append` in the transaction of the action
    core_consumers    who wants which events; every process says so of its handlers when it starts
    core_deliveries   one row for each event and consumer, made when a relay gives the event out
    core_inbox        consumer and event, written in the transaction of the handler's effect: it happens once

`core.relay` moves rows along. A consumer gets the events committed after it was first registered. Events that share an
`order_key` reach a consumer in the order of their commits, and wait behind one that fails or is parked.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from core.clock import SystemClock, from_ms
from core.db import Database, Transaction, UniqueViolation, sql

if TYPE_CHECKING:
    from core.actions import Event
    from core.clock import Clock
    from core.ids import Ids
    from core.telemetry import Trace

NEW, GIVEN_OUT = 0, 1  # of core_outbox
WAITING, DONE, PARKED = 0, 1, 2  # of core_deliveries

AT_ONCE: Final = from_ms(0)  # due at once by every clock, also one that is behind the one that wrote it
FORGET_CONSUMER: Final = timedelta(days=7)  # of which no process has said that it has it
KEEP_DONE: Final = timedelta(days=7)
KEEP_INBOX: Final = timedelta(days=90)  # far longer than a delivery could still be repeated
SWEEP: Final = 1_000  # rows of one transaction

_OPERATOR: Final = "an operator's view over all tenants: ids and names of errors, no contents"
RELAY: Final = "the relay carries every tenant's events; handlers get the tenant from the event"

_OUTBOX: Final = (
    "event_id", "enterprise_id", "event_name", "body", "order_key", "order_no", "traceparent", "state", "created_at",
)  # fmt: skip

_NEXT_ORDER = sql(
    "UPDATE core_outbox_orders SET last_no = last_no + $2, changed_at = $3 WHERE order_key = $1"
)
_FIRST_ORDER = sql("INSERT INTO core_outbox_orders (order_key, last_no, changed_at) VALUES ($1, $2, $3)")
_ORDER = sql("SELECT last_no FROM core_outbox_orders WHERE order_key = $1")

_SEEN = sql("UPDATE core_consumers SET seen_at = $3 WHERE event_name = $1 AND consumer = $2")
_REGISTER = sql("INSERT INTO core_consumers (event_name, consumer, seen_at) VALUES ($1, $2, $3)")

_PARKED = sql(
    """
    SELECT d.event_id, d.consumer, o.event_name, d.enterprise_id, d.attempts, d.reason, o.created_at, d.changed_at
    FROM core_deliveries d JOIN core_outbox o ON o.event_id = d.event_id
    WHERE d.state = 2 ORDER BY d.event_id, d.consumer LIMIT $1
    """,
    exempt=_OPERATOR,
)
_RESEND = sql(
    "UPDATE core_deliveries SET state = 0, attempts = 0, due_at = $2, changed_at = $3 "
    "WHERE event_id = $1 AND state = 2",
    exempt=_OPERATOR,
)
_DISCARD = sql(
    "UPDATE core_deliveries SET state = 1, reason = 'discarded', changed_at = $2 WHERE event_id = $1 AND state = 2",
    exempt=_OPERATOR,
)

_OLD_EVENTS = sql(
    """
    SELECT o.event_id FROM core_outbox o
    WHERE o.state = 1 AND o.created_at < $1
    AND NOT EXISTS (SELECT 1 FROM core_deliveries d WHERE d.event_id = o.event_id AND d.state <> 1)
    ORDER BY o.created_at LIMIT $2
    """,
    exempt=RELAY,
)
_FORGET_DELIVERIES = sql("DELETE FROM core_deliveries WHERE event_id IN ($*)", exempt=RELAY)
_FORGET_EVENTS = sql("DELETE FROM core_outbox WHERE event_id IN ($*)", exempt=RELAY)
_FORGET_INBOX = sql("DELETE FROM core_inbox WHERE handled_at < $1", exempt=RELAY)
_FORGET_ORDERS = sql(
    """
    DELETE FROM core_outbox_orders WHERE changed_at < $1
    AND NOT EXISTS (SELECT 1 FROM core_outbox o WHERE o.order_key = core_outbox_orders.order_key)
    """,
    exempt=RELAY,
)
_FORGET_CONSUMERS = sql("DELETE FROM core_consumers WHERE seen_at < $1")


_wakers: weakref.WeakSet[Waker] = weakref.WeakSet()


class Waker:
    """Somebody in this process to be woken when an event has been committed here."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        _wakers.add(self)


def _wake() -> None:
    for waker in list(_wakers):
        with suppress(RuntimeError):  # of a loop that is closed
            waker.wake()


async def append(
    tx: Transaction, events: Sequence[Event], *, ids: Ids, clock: Clock, trace: Trace
) -> list[int]:
    """Write events in the caller's transaction, in order; their ids. Relays are woken by its commit."""
    now = clock.now()
    keys = [event.order_key() for event in events]
    numbers = await _order_numbers(tx, [key for key in keys if key is not None], now)
    rows = []
    for event, key in zip(events, keys, strict=True):
        number = None
        if key is not None:
            number = numbers[key]
            numbers[key] += 1
        body, traceparent = event.model_dump_json(), trace.traceparent
        rows.append(
            (ids.next(), event.enterprise_id, event.event_name, body, key, number, traceparent, NEW, now)
        )
    await tx.insert_many("core_outbox", _OUTBOX, rows)
    tx.on_commit(_wake)
    return [row[0] for row in rows]


async def _order_numbers(tx: Transaction, keys: Sequence[str], now: datetime) -> dict[str, int]:
    """The first of the numbers that each key gets, as many as it occurs.

    The key's row stays locked until the commit, so numbers follow commits. Keys are locked in order of their names.
    """
    first: dict[str, int] = {}
    for key, many in sorted(Counter(keys).items()):
        if await tx.execute(_NEXT_ORDER, key, many, now) == 0:
            try:
                async with tx.savepoint():
                    await tx.execute(_FIRST_ORDER, key, many, now)
            except UniqueViolation:
                await tx.execute(_NEXT_ORDER, key, many, now)
        first[key] = await tx.fetchval(_ORDER, key) - many + 1
    return first


async def register(db: Database, clock: Clock, consumers: Mapping[str, str]) -> None:
    """Say that these consumers (name to event name) exist: events committed from now on are kept for them."""
    now = clock.now()
    for consumer, event_name in sorted(consumers.items()):
        if await db.execute(_SEEN, event_name, consumer, now) == 0:
            try:
                await db.execute(_REGISTER, event_name, consumer, now)
            except UniqueViolation:
                await db.execute(_SEEN, event_name, consumer, now)


# --- for operators --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parked:
    """A delivery that failed for good: which event, for whom, how often, and the name of the last error."""

    event_id: int
    consumer: str
    event_name: str
    enterprise_id: int
    attempts: int
    reason: str
    created_at: datetime
    parked_at: datetime


async def parked(db: Database, limit: int = 100) -> list[Parked]:
    """The oldest parked deliveries."""
    return [Parked(*row) for row in await db.fetch(_PARKED, limit)]


async def resend(db: Database, event_id: int, *, clock: Clock | None = None) -> int:
    """Send a parked event again to all consumers it is parked for; how many. Those that handled it do not get it."""
    return await db.execute(_RESEND, event_id, AT_ONCE, (clock or SystemClock()).now())


async def discard(db: Database, event_id: int, *, clock: Clock | None = None) -> int:
    """Give a parked event up, for all consumers it is parked for; how many. What waits behind it goes on."""
    return await db.execute(_DISCARD, event_id, (clock or SystemClock()).now())


async def sweep(db: Database, now: datetime) -> int:
    """Forget what was done long ago; how many events."""
    swept = 0
    while True:
        old = [row[0] for row in await db.fetch(_OLD_EVENTS, now - KEEP_DONE, SWEEP)]
        if not old:
            break
        await db.run(_forget, old)
        swept += len(old)
    await db.execute(_FORGET_INBOX, now - KEEP_INBOX)
    await db.execute(_FORGET_ORDERS, now - KEEP_DONE)
    await db.execute(_FORGET_CONSUMERS, now - FORGET_CONSUMER)
    return swept


async def _forget(tx: Transaction, event_ids: Sequence[int]) -> None:
    await tx.execute_in(_FORGET_DELIVERIES, event_ids)
    await tx.execute_in(_FORGET_EVENTS, event_ids)


def names(consumers: Iterable[str]) -> list[str]:
    """Consumers in one order, so that all processes prepare the same statement."""
    return sorted(set(consumers))
