"""SQL of what a person holds in an enterprise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from core.db import Queries, Record, sql

_HELD: Final = """
    SELECT p.person_id, p.state AS person_state, p.registered_at, e.state AS enterprise_state, e.kind, e.stage,
           m.state AS membership_state, r.role, g.permission, g.reach, g.amount_fen
    FROM gateway_people p
    LEFT JOIN gateway_memberships m ON m.person_id = p.person_id AND m.enterprise_id = $1
    LEFT JOIN gateway_enterprises e ON e.enterprise_id = m.enterprise_id
    LEFT JOIN gateway_member_roles r ON r.enterprise_id = m.enterprise_id AND r.person_id = m.person_id
    LEFT JOIN gateway_role_grants g ON g.enterprise_id = r.enterprise_id AND g.role = r.role
"""
_HELD_BY_ONE = sql(f"{_HELD} WHERE p.person_id = $2")
_HELD_BY = sql(f"{_HELD} WHERE p.person_id IN ($*)")
_DEPARTMENTS = sql("SELECT department_id, parent_id FROM gateway_departments WHERE enterprise_id = $1")
_MINE = sql(
    "SELECT department_id FROM gateway_department_members WHERE enterprise_id = $1 AND person_id = $2"
)

_APP = sql(
    """
    SELECT i.scopes, a.state AS app_state, e.state AS enterprise_state, e.stage FROM gateway_app_installations i
    JOIN gateway_apps a ON a.app_id = i.app_id
    JOIN gateway_enterprises e ON e.enterprise_id = i.enterprise_id
    WHERE i.enterprise_id = $1 AND i.app_id = $2 AND i.ended_at IS NULL AND (i.expires_at IS NULL OR i.expires_at > $3)
    """,
    exempt="an app may be another enterprise's: the bank's, published for all",
)


async def app(db: Queries, enterprise_id: int, app_id: int, now: datetime) -> Record | None:
    """scopes, app_state, enterprise_state, stage of an installation that is in force."""
    return await db.fetchrow(_APP, enterprise_id, app_id, now)


async def held(db: Queries, enterprise_id: int, person_id: int) -> Sequence[Record]:
    """A row for each role and each grant of it, with the states of person, membership and enterprise in every one.

    person_state, registered_at, enterprise_state, kind, stage, membership_state, role, permission, reach, amount_fen.
    No row: there is no such person.
    """
    return await db.fetch(_HELD_BY_ONE, enterprise_id, person_id)


async def held_by(db: Queries, enterprise_id: int, people: Sequence[int]) -> dict[int, list[Record]]:
    """The same of several, by person."""
    found: dict[int, list[Record]] = {}
    for row in await db.fetch_in(_HELD_BY, people, enterprise_id):
        found.setdefault(row["person_id"], []).append(row)
    return found


async def departments(db: Queries, enterprise_id: int) -> list[tuple[int, int | None]]:
    """(department, its parent) of the whole enterprise."""
    return [(row[0], row[1]) for row in await db.fetch(_DEPARTMENTS, enterprise_id)]


async def departments_of(db: Queries, enterprise_id: int, person_id: int) -> frozenset[int]:
    """The departments a person is in."""
    return frozenset(row[0] for row in await db.fetch(_MINE, enterprise_id, person_id))


# --- an enterprise's own roles ----------------------------------------------------------------------------------------

_ROLES = sql("SELECT role, name FROM gateway_roles WHERE enterprise_id = $1 ORDER BY name")
_GRANTS = sql(
    "SELECT role, permission, reach, amount_fen FROM gateway_role_grants WHERE enterprise_id = $1 "
    "ORDER BY role, permission"
)
_HOLDERS = sql(
    """
    SELECT r.role, COUNT(*) FROM gateway_member_roles r
    JOIN gateway_memberships m ON m.enterprise_id = r.enterprise_id AND m.person_id = r.person_id
    WHERE r.enterprise_id = $1 AND m.state = 'active' GROUP BY r.role
    """
)
_INSERT_ROLE = sql(
    "INSERT INTO gateway_roles (enterprise_id, role, name, created_at) VALUES ($1, $2, $3, $4)"
)
_RENAME_ROLE = sql("UPDATE gateway_roles SET name = $3 WHERE enterprise_id = $1 AND role = $2")
_DELETE_ROLE = sql("DELETE FROM gateway_roles WHERE enterprise_id = $1 AND role = $2")
_DELETE_GRANTS = sql("DELETE FROM gateway_role_grants WHERE enterprise_id = $1 AND role = $2")
_INSERT_GRANT = sql(
    "INSERT INTO gateway_role_grants (enterprise_id, role, permission, reach, amount_fen) VALUES ($1, $2, $3, $4, $5)"
)


async def own_roles(db: Queries, enterprise_id: int) -> dict[str, str]:
    """Name by role of the enterprise's own roles, by name."""
    return {row["role"]: row["name"] for row in await db.fetch(_ROLES, enterprise_id)}


async def own_grants(db: Queries, enterprise_id: int) -> Sequence[Record]:
    """role, permission, reach, amount_fen of the enterprise's own roles."""
    return await db.fetch(_GRANTS, enterprise_id)


async def holders(db: Queries, enterprise_id: int) -> dict[str, int]:
    """How many active members have each role, own or built-in."""
    return {row[0]: row[1] for row in await db.fetch(_HOLDERS, enterprise_id)}


async def insert_role(db: Queries, enterprise_id: int, role: str, name: str, now: datetime) -> None:
    """Raises `UniqueViolation` where the name is taken."""
    await db.execute(_INSERT_ROLE, enterprise_id, role, name, now)


async def rename_role(db: Queries, enterprise_id: int, role: str, name: str) -> bool:
    """False where there is no such role. Raises `UniqueViolation` where the name is taken."""
    return bool(await db.execute(_RENAME_ROLE, enterprise_id, role, name))


async def delete_role(db: Queries, enterprise_id: int, role: str) -> bool:
    """With its grants; False where there is no such role."""
    await db.execute(_DELETE_GRANTS, enterprise_id, role)
    return bool(await db.execute(_DELETE_ROLE, enterprise_id, role))


async def set_grants(
    db: Queries, enterprise_id: int, role: str, grants: Iterable[tuple[str, int, int | None]]
) -> None:
    """Make these (permission, reach, amount) the grants of a role."""
    await db.execute(_DELETE_GRANTS, enterprise_id, role)
    await db.executemany(_INSERT_GRANT, [(enterprise_id, role, *grant) for grant in grants])
