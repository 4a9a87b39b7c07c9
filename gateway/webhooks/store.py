"""SQL of webhooks and their deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from core.db import Queries, Record, Transaction, sql

ACTIVE: Final = "active"
DISABLED: Final = "disabled"
WAITING, DELIVERED, FAILED = 0, 1, 2
_SENDER: Final = "the sender carries every tenant's deliveries, each to its own webhook"
_WEBHOOK: Final = (
    "webhook_id, enterprise_id, url, events, state, why, failing_since, secret_no, previous_until, created_at"
)
_DELIVERY: Final = "delivery_id, webhook_id, event_name, state, attempts, due_at, status, error, created_at"

_OF_ENTERPRISE = sql(f"SELECT {_WEBHOOK} FROM gateway_webhooks WHERE enterprise_id = $1 ORDER BY webhook_id")
_LOCK = sql(
    f"SELECT {_WEBHOOK} FROM gateway_webhooks WHERE enterprise_id = $1 AND webhook_id = $2 FOR UPDATE"
)
_INSERT = sql(
    """
    INSERT INTO gateway_webhooks (webhook_id, enterprise_id, url, events, state, secret_no, created_at)
    VALUES ($1, $2, $3, $4, 'active', 1, $5)
    """
)
_CHANGE = sql(
    "UPDATE gateway_webhooks SET url = $3, events = $4, state = $5, why = $6, failing_since = $7 "
    "WHERE enterprise_id = $1 AND webhook_id = $2"
)
_RENEW = sql(
    "UPDATE gateway_webhooks SET secret_no = secret_no + 1, previous_until = $3 "
    "WHERE enterprise_id = $1 AND webhook_id = $2"
)
_REMOVE = sql("DELETE FROM gateway_webhooks WHERE enterprise_id = $1 AND webhook_id = $2")
_REMOVE_DELIVERIES = sql(
    "DELETE FROM gateway_webhook_deliveries WHERE enterprise_id = $1 AND webhook_id = $2"
)

_INSERT_DELIVERY = sql(
    """
    INSERT INTO gateway_webhook_deliveries (delivery_id, enterprise_id, webhook_id, event_name, body, state, attempts,
                                            due_at, created_at)
    VALUES ($1, $2, $3, $4, $5, 0, 0, $6, $6)
    """
)
_DELIVERIES = sql(
    f"SELECT {_DELIVERY} FROM gateway_webhook_deliveries "
    "WHERE enterprise_id = $1 AND webhook_id = $2 AND delivery_id < $3 ORDER BY delivery_id DESC LIMIT $4"
)
_RESEND = sql(
    "UPDATE gateway_webhook_deliveries SET state = 0, attempts = 0, due_at = $3 "
    "WHERE enterprise_id = $1 AND delivery_id = $2"
)
_BEGIN_AGAIN = sql(
    "UPDATE gateway_webhook_deliveries SET due_at = $3 WHERE enterprise_id = $1 AND webhook_id = $2 AND state = 0"
)

_DUE = sql(
    """
    SELECT t.delivery_id, t.enterprise_id, t.webhook_id, t.body, t.attempts, t.url, t.secret_no, t.previous_until,
           t.failing_since
    FROM (
        SELECT d.delivery_id, d.enterprise_id, d.webhook_id, d.body, d.attempts, d.due_at, w.url, w.secret_no,
               w.previous_until, w.failing_since,
               ROW_NUMBER() OVER (PARTITION BY d.webhook_id ORDER BY d.due_at, d.delivery_id) AS place
        FROM gateway_webhook_deliveries d JOIN gateway_webhooks w ON w.webhook_id = d.webhook_id
        WHERE d.state = 0 AND d.due_at <= $1 AND w.state = 'active'
    ) t
    WHERE t.place <= $2 ORDER BY t.place, t.due_at, t.delivery_id LIMIT $3
    """,
    exempt=_SENDER,
)
_CLOSE = sql(
    "UPDATE gateway_webhook_deliveries SET state = $3, attempts = attempts + 1, due_at = $4, status = $5, error = $6 "
    "WHERE enterprise_id = $1 AND delivery_id = $2 AND state = 0"
)
_WORKS = sql(
    "UPDATE gateway_webhooks SET failing_since = NULL "
    "WHERE enterprise_id = $1 AND webhook_id = $2 AND failing_since IS NOT NULL"
)
_FAILS = sql(
    "UPDATE gateway_webhooks SET failing_since = $3 "
    "WHERE enterprise_id = $1 AND webhook_id = $2 AND failing_since IS NULL"
)
_DISABLE = sql(
    "UPDATE gateway_webhooks SET state = 'disabled', why = $3 "
    "WHERE enterprise_id = $1 AND webhook_id = $2 AND state = 'active'"
)
_PURGE = sql(
    "DELETE FROM gateway_webhook_deliveries WHERE created_at < $1",
    exempt="retention is the same for every tenant",
)


async def of_enterprise(db: Queries, enterprise_id: int) -> Sequence[Record]:
    """All columns of the enterprise's webhooks."""
    return await db.fetch(_OF_ENTERPRISE, enterprise_id)


async def lock(tx: Transaction, enterprise_id: int, webhook_id: int) -> Record | None:
    """All columns of one; nobody else changes it meanwhile."""
    return await tx.fetchrow(_LOCK, enterprise_id, webhook_id)


async def insert(
    tx: Transaction, webhook_id: int, enterprise_id: int, url: str, events: Sequence[str], now: datetime
) -> None:
    """A new webhook, active."""
    await tx.execute(_INSERT, webhook_id, enterprise_id, url, " ".join(events), now)


async def change(
    tx: Transaction,
    enterprise_id: int,
    webhook_id: int,
    *,
    url: str,
    events: str,
    state: str,
    why: str | None,
    failing_since: datetime | None,
) -> None:
    """Write all that can change."""
    await tx.execute(_CHANGE, enterprise_id, webhook_id, url, events, state, why, failing_since)


async def renew(tx: Transaction, enterprise_id: int, webhook_id: int, previous_until: datetime) -> None:
    """The next secret from now on; the present one until then too."""
    await tx.execute(_RENEW, enterprise_id, webhook_id, previous_until)


async def remove(tx: Transaction, enterprise_id: int, webhook_id: int) -> bool:
    """With its deliveries; False where there is no such webhook."""
    await tx.execute(_REMOVE_DELIVERIES, enterprise_id, webhook_id)
    return bool(await tx.execute(_REMOVE, enterprise_id, webhook_id))


async def insert_delivery(
    tx: Transaction,
    delivery_id: int,
    enterprise_id: int,
    webhook_id: int,
    name: str,
    body: str,
    now: datetime,
) -> None:
    """Due at once."""
    await tx.execute(_INSERT_DELIVERY, delivery_id, enterprise_id, webhook_id, name, body, now)


async def deliveries(
    db: Queries, enterprise_id: int, webhook_id: int, before: int, limit: int
) -> Sequence[Record]:
    """The newest before `before`."""
    return await db.fetch(_DELIVERIES, enterprise_id, webhook_id, before, limit)


async def resend(tx: Transaction, enterprise_id: int, delivery_id: int, now: datetime) -> bool:
    """From its first attempt; False where there is no such delivery."""
    return bool(await tx.execute(_RESEND, enterprise_id, delivery_id, now))


async def begin_again(tx: Transaction, enterprise_id: int, webhook_id: int, now: datetime) -> None:
    """What waits is due now."""
    await tx.execute(_BEGIN_AGAIN, enterprise_id, webhook_id, now)


# --- the sender -------------------------------------------------------------------------------------------------------


async def due(db: Queries, now: datetime, each: int, limit: int) -> Sequence[Record]:
    """What is to be sent now, with what of its webhook is needed for that: at most `each` of a webhook, oldest first.

    The first of every webhook comes before the second of any: a long queue of one keeps no other one waiting.
    """
    return await db.fetch(_DUE, now, each, limit)


async def close(
    tx: Transaction,
    enterprise_id: int,
    delivery_id: int,
    state: int,
    due_at: datetime,
    status: int | None,
    error: str | None,
) -> None:
    """What became of an attempt."""
    await tx.execute(_CLOSE, enterprise_id, delivery_id, state, due_at, status, error)


async def works(tx: Transaction, enterprise_id: int, webhook_id: int) -> None:
    """Something got through."""
    await tx.execute(_WORKS, enterprise_id, webhook_id)


async def fails(tx: Transaction, enterprise_id: int, webhook_id: int, since: datetime) -> None:
    """Nothing has got through since then, or longer."""
    await tx.execute(_FAILS, enterprise_id, webhook_id, since)


async def disable(tx: Transaction, enterprise_id: int, webhook_id: int, why: str) -> bool:
    """False where it was disabled already, or removed."""
    return bool(await tx.execute(_DISABLE, enterprise_id, webhook_id, why))


async def purge(db: Queries, now: datetime, keep: timedelta) -> None:
    """Forget what happened long ago; what still waits then waits for a webhook that is disabled."""
    await db.execute(_PURGE, now - keep)
