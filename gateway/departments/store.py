"""SQL of departments and who is in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.db import Queries, Record, sql
from gateway.api.identity import Placement

_ALL = sql(
    "SELECT department_id, parent_id, name, position FROM gateway_departments WHERE enterprise_id = $1 "
    "ORDER BY position, department_id"
)
_IN_THEM = sql(
    """
    SELECT d.department_id, d.person_id, d.is_head FROM gateway_department_members d
    JOIN gateway_memberships m ON m.enterprise_id = d.enterprise_id AND m.person_id = d.person_id
    WHERE d.enterprise_id = $1 AND m.state = 'active'
    ORDER BY d.department_id, d.person_id
    """
)
_OF_MANY = sql(
    "SELECT department_id, person_id, is_head FROM gateway_department_members "
    "WHERE enterprise_id = $1 AND person_id IN ($*) ORDER BY department_id"
)
_INSERT = sql(
    "INSERT INTO gateway_departments (department_id, enterprise_id, parent_id, name, position, created_at) "
    "VALUES ($1, $2, $3, $4, $5, $6)"
)
_CHANGE = sql(
    "UPDATE gateway_departments SET parent_id = $3, name = $4, position = $5 "
    "WHERE enterprise_id = $1 AND department_id = $2"
)
_DELETE = sql("DELETE FROM gateway_departments WHERE enterprise_id = $1 AND department_id = $2")
_USED = sql("SELECT COUNT(*) FROM gateway_department_members WHERE enterprise_id = $1 AND department_id = $2")
_LEAVE_ALL = sql("DELETE FROM gateway_department_members WHERE enterprise_id = $1 AND person_id = $2")
_PLACE = sql(
    "INSERT INTO gateway_department_members (enterprise_id, department_id, person_id, is_head) VALUES ($1, $2, $3, $4)"
)


async def everything(db: Queries, enterprise_id: int) -> list[Record]:
    """department_id, parent_id, name, position, in the order of showing."""
    return await db.fetch(_ALL, enterprise_id)


async def placements(db: Queries, enterprise_id: int) -> list[Record]:
    """department_id, person_id, is_head of every active member in a department."""
    return await db.fetch(_IN_THEM, enterprise_id)


async def of_many(db: Queries, enterprise_id: int, person_ids: Sequence[int]) -> dict[int, list[Placement]]:
    """Where these members are."""
    found: dict[int, list[Placement]] = {}
    for row in await db.fetch_in(_OF_MANY, person_ids, enterprise_id):
        one = Placement(department_id=row["department_id"], is_head=bool(row["is_head"]))
        found.setdefault(row["person_id"], []).append(one)
    return found


async def insert(
    db: Queries,
    enterprise_id: int,
    department_id: int,
    *,
    parent_id: int | None,
    name: str,
    position: int,
    now: datetime,
) -> None:
    """A new department."""
    await db.execute(_INSERT, department_id, enterprise_id, parent_id, name, position, now)


async def change(
    db: Queries, enterprise_id: int, department_id: int, *, parent_id: int | None, name: str, position: int
) -> bool:
    """Another name or place; False where there is none."""
    return await db.execute(_CHANGE, enterprise_id, department_id, parent_id, name, position) == 1


async def delete(db: Queries, enterprise_id: int, department_id: int) -> bool:
    """Remove it; False where there is none."""
    return await db.execute(_DELETE, enterprise_id, department_id) == 1


async def members(db: Queries, enterprise_id: int, department_id: int) -> int:
    """How many are in it."""
    found: int = await db.fetchval(_USED, enterprise_id, department_id)
    return found


async def set_placements(
    db: Queries, enterprise_id: int, person_id: int, placed: Sequence[tuple[int, bool]]
) -> None:
    """A member is in exactly these departments: (department, as its head)."""
    await db.execute(_LEAVE_ALL, enterprise_id, person_id)
    await db.executemany(
        _PLACE, [(enterprise_id, department_id, person_id, int(head)) for department_id, head in placed]
    )
