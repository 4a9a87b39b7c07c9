"""SQL of admission to the hub."""

from __future__ import annotations

from collections.abc import Collection

from core.db import Database, sql

ACTIVE_MEMBERS = sql(
    "SELECT m.enterprise_id, m.person_id FROM gateway_memberships m "
    "JOIN gateway_people p ON p.person_id = m.person_id "
    "JOIN gateway_enterprises e ON e.enterprise_id = m.enterprise_id "
    "WHERE m.state = 'active' AND p.state = 'active' AND e.state = 'active' AND m.person_id IN ($*)",
    exempt="one query for sessions of several enterprises; the pairs are compared with each principal's own",
)
OPEN_SESSIONS = sql(
    "SELECT session_id FROM gateway_sessions WHERE ended_at IS NULL AND session_id IN ($*)",
    exempt="one query for sessions of several enterprises; the ids come from verified tokens",
)


async def active_members(db: Database, person_ids: Collection[int]) -> set[tuple[int, int]]:
    """(enterprise, person) pairs of these persons that are in force now."""
    return {(row[0], row[1]) for row in await db.fetch_in(ACTIVE_MEMBERS, sorted(person_ids))}


async def open_sessions(db: Database, session_ids: Collection[int]) -> set[int]:
    """Which of these sessions have not ended."""
    return {row[0] for row in await db.fetch_in(OPEN_SESSIONS, sorted(session_ids))}
