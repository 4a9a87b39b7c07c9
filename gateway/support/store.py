"""SQL of what the bank's staff see of people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.db import Queries, Record, sql

_PERSON = sql(
    "SELECT person_id, phone_sealed, full_name, state, registered_at, created_at FROM gateway_people "
    "WHERE person_id = $1 FOR UPDATE"
)
_ENTERPRISES = sql(
    """
    SELECT e.full_name FROM gateway_memberships m JOIN gateway_enterprises e ON e.enterprise_id = m.enterprise_id
    WHERE m.person_id = $1 AND m.state = 'active' ORDER BY e.enterprise_id
    """,
    exempt="where a person belongs is what support is asked about",
)
_SESSIONS = sql(
    "SELECT COUNT(*) FROM gateway_sessions WHERE person_id = $1 AND ended_at IS NULL AND expires_at > $2",
    exempt="a session belongs to a person; the enterprise is only where it is at the moment",
)


async def person(db: Queries, person_id: int) -> Record | None:
    """person_id, phone_sealed, full_name, state, registered_at, created_at; nobody else changes it meanwhile."""
    return await db.fetchrow(_PERSON, person_id)


async def enterprises(db: Queries, person_id: int) -> list[str]:
    """Names of the enterprises a person belongs to."""
    return [row["full_name"] for row in await db.fetch(_ENTERPRISES, person_id)]


async def sessions(db: Queries, person_id: int, now: datetime) -> int:
    """How many are open."""
    found: int = await db.fetchval(_SESSIONS, person_id, now)
    return found


# --- why --------------------------------------------------------------------------------------------------------------

_NOTE = sql(
    "INSERT INTO gateway_reasons (reason_id, enterprise_id, person_id, kind, object_id, reason, given_at) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7)"
)
_ABOUT = sql(
    "SELECT person_id, kind, reason, given_at FROM gateway_reasons WHERE object_id = $1 AND kind IN ($*) "
    "ORDER BY reason_id DESC LIMIT 200",
    exempt="what the bank's staff did about a person is asked for by the person's id, whoever of them did it",
)


async def note(
    db: Queries,
    reason_id: int,
    *,
    enterprise_id: int,
    by: int,
    kind: str,
    object_id: int,
    reason: str,
    now: datetime,
) -> None:
    """Why somebody of the staff did something about an object; beside the audit record, which has no words."""
    await db.execute(_NOTE, reason_id, enterprise_id, by, kind, object_id, reason, now)


async def about(db: Queries, object_id: int, kinds: Sequence[str]) -> list[Record]:
    """person_id, kind, reason, given_at, newest first."""
    return await db.fetch_in(_ABOUT, kinds, object_id)
