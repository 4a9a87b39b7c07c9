"""SQL of contracts."""

from __future__ import annotations

from datetime import datetime

from core.db import Queries, Record, sql

_COLUMNS = (
    "c.enterprise_id, c.state, c.account_tail, c.reason, c.agreement, c.applied_by, c.signed_by, c.changed_at, "
    "e.full_name"
)
_LOCK = sql(
    "SELECT state, account_tail, changed_at FROM gateway_contracts WHERE enterprise_id = $1 FOR UPDATE"
)
_ONE = sql(
    f"""
    SELECT {_COLUMNS} FROM gateway_contracts c JOIN gateway_enterprises e ON e.enterprise_id = c.enterprise_id
    WHERE c.enterprise_id = $1
    """
)
_IN_STATE = sql(
    f"""
    SELECT {_COLUMNS} FROM gateway_contracts c JOIN gateway_enterprises e ON e.enterprise_id = c.enterprise_id
    WHERE c.state = $1 ORDER BY c.changed_at, c.enterprise_id LIMIT 200
    """,
    exempt="the bank's staff review the contracts of all enterprises",
)
_INSERT = sql(
    "INSERT INTO gateway_contracts (enterprise_id, state, account_tail, reason, agreement, applied_by, signed_by, "
    "signed_at, changed_at) VALUES ($1, $2, $3, NULL, NULL, $4, NULL, NULL, $5)"
)
_BEGIN = sql(
    "UPDATE gateway_contracts SET state = $2, account_tail = $3, reason = NULL, agreement = NULL, applied_by = $4, "
    "signed_by = NULL, signed_at = NULL, changed_at = $5 WHERE enterprise_id = $1"
)
_MOVE = sql("UPDATE gateway_contracts SET state = $2, reason = $3, changed_at = $4 WHERE enterprise_id = $1")
_SIGN = sql(
    "UPDATE gateway_contracts SET agreement = $2, signed_by = $3, signed_at = $4 WHERE enterprise_id = $1"
)


async def lock(db: Queries, enterprise_id: int) -> Record | None:
    """state, account_tail, changed_at; nobody else moves it meanwhile."""
    return await db.fetchrow(_LOCK, enterprise_id)


async def one(db: Queries, enterprise_id: int) -> Record | None:
    """The contract of an enterprise with its name."""
    return await db.fetchrow(_ONE, enterprise_id)


async def in_state(db: Queries, state: str) -> list[Record]:
    """At most 200, those that wait longest first."""
    return await db.fetch(_IN_STATE, state)


async def begin(
    db: Queries, enterprise_id: int, state: str, *, account_tail: str, by: int, now: datetime
) -> None:
    """Applied for, perhaps anew."""
    if not await db.execute(_BEGIN, enterprise_id, state, account_tail, by, now):
        await db.execute(_INSERT, enterprise_id, state, account_tail, by, now)


async def move(db: Queries, enterprise_id: int, state: str, reason: str | None, now: datetime) -> None:
    """It is in another state."""
    await db.execute(_MOVE, enterprise_id, state, reason, now)


async def sign(db: Queries, enterprise_id: int, agreement: str, by: int, now: datetime) -> None:
    """Who signed which agreement."""
    await db.execute(_SIGN, enterprise_id, agreement, by, now)
