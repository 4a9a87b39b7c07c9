"""SQL of what a person holds in an enterprise."""

from __future__ import annotations

from collections.abc import Sequence

from core.db import Queries, Record, sql

_HELD = sql(
    """
    SELECT p.state AS person_state, p.registered_at, e.state AS enterprise_state, e.kind, e.stage,
           m.state AS membership_state, r.role, g.permission, g.reach, g.amount_fen
    FROM gateway_people p
    LEFT JOIN gateway_memberships m ON m.person_id = p.person_id AND m.enterprise_id = $1
    LEFT JOIN gateway_enterprises e ON e.enterprise_id = m.enterprise_id
    LEFT JOIN gateway_member_roles r ON r.enterprise_id = m.enterprise_id AND r.person_id = m.person_id
    LEFT JOIN gateway_role_grants g ON g.enterprise_id = r.enterprise_id AND g.role = r.role
    WHERE p.person_id = $2
    """
)
_DEPARTMENTS = sql("SELECT department_id, parent_id FROM gateway_departments WHERE enterprise_id = $1")
_MINE = sql(
    "SELECT department_id FROM gateway_department_members WHERE enterprise_id = $1 AND person_id = $2"
)


async def held(db: Queries, enterprise_id: int, person_id: int) -> Sequence[Record]:
    """A row for each role and each grant of it, with the states of person, membership and enterprise in every one.

    person_state, registered_at, enterprise_state, kind, stage, membership_state, role, permission, reach, amount_fen.
    No row: there is no such person.
    """
    return await db.fetch(_HELD, enterprise_id, person_id)


async def departments(db: Queries, enterprise_id: int) -> list[tuple[int, int | None]]:
    """(department, its parent) of the whole enterprise."""
    return [(row[0], row[1]) for row in await db.fetch(_DEPARTMENTS, enterprise_id)]


async def departments_of(db: Queries, enterprise_id: int, person_id: int) -> frozenset[int]:
    """The departments a person is in."""
    return frozenset(row[0] for row in await db.fetch(_MINE, enterprise_id, person_id))
