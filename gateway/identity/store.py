"""SQL of people, enterprises and memberships."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from core.db import Queries, Record, sql

ACTIVE: Final = "active"
LEFT: Final = "left"

# --- people -----------------------------------------------------------------------------------------------------------

_PERSON = sql(
    "SELECT person_id, phone, login_name, full_name, state, registered_at FROM gateway_people WHERE person_id = $1"
)
_BY_LOGIN = sql(
    """
    SELECT person_id, password_hash, state FROM gateway_people
    WHERE phone = CAST($1 AS VARCHAR(64)) OR login_name = CAST($1 AS VARCHAR(64))
    ORDER BY person_id LIMIT 1
    """
)
_BY_PHONE = sql("SELECT person_id FROM gateway_people WHERE phone = $1")
_INSERT_PERSON = sql(
    """
    INSERT INTO gateway_people (person_id, phone, login_name, full_name, password_hash, state, created_at,
                                registered_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    """
)
_SET_PASSWORD = sql("UPDATE gateway_people SET password_hash = $2 WHERE person_id = $1")


async def person(db: Queries, person_id: int) -> Record | None:
    """person_id, phone, login_name, full_name, state, registered_at."""
    return await db.fetchrow(_PERSON, person_id)


async def person_by_login(db: Queries, login: str) -> Record | None:
    """person_id, password_hash, state of whoever has this phone or login name. A login name is never a number."""
    return await db.fetchrow(_BY_LOGIN, login)


async def person_by_phone(db: Queries, phone: str) -> int | None:
    """The id of whoever has this phone."""
    found: int | None = await db.fetchval(_BY_PHONE, phone)
    return found


async def insert_person(
    db: Queries,
    person_id: int,
    *,
    phone: str | None,
    login_name: str | None,
    name: str,
    password_hash: str | None,
    now: datetime,
) -> None:
    """Raises `UniqueViolation` where the phone or the login name is taken."""
    registered_at = None if password_hash is None else now
    await db.execute(
        _INSERT_PERSON, person_id, phone, login_name, name, password_hash, ACTIVE, now, registered_at
    )


async def set_password(db: Queries, person_id: int, password_hash: str) -> None:
    """Replace the password."""
    await db.execute(_SET_PASSWORD, person_id, password_hash)


# --- enterprises ------------------------------------------------------------------------------------------------------

_BY_CODE = sql(
    "SELECT enterprise_id FROM gateway_enterprises WHERE credit_code = $1",
    exempt="looks for the tenant itself, by its public code",
)
_INSERT_ENTERPRISE = sql(
    """
    INSERT INTO gateway_enterprises (enterprise_id, full_name, credit_code, state, created_at, kind, stage)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    """
)
_LOCK_ENTERPRISE = sql("SELECT enterprise_id FROM gateway_enterprises WHERE enterprise_id = $1 FOR UPDATE")


async def enterprise_by_code(db: Queries, credit_code: str) -> int | None:
    """The id of the enterprise with this unified social credit code."""
    found: int | None = await db.fetchval(_BY_CODE, credit_code)
    return found


async def insert_enterprise(
    db: Queries,
    enterprise_id: int,
    *,
    name: str,
    credit_code: str,
    now: datetime,
    kind: str = "enterprise",
    stage: str = "applied",
) -> None:
    """Raises `UniqueViolation` where the code is taken."""
    await db.execute(_INSERT_ENTERPRISE, enterprise_id, name, credit_code, ACTIVE, now, kind, stage)


async def lock_enterprise(db: Queries, enterprise_id: int) -> None:
    """Let changes of this enterprise's memberships happen one after the other."""
    await db.execute(_LOCK_ENTERPRISE, enterprise_id)


# --- memberships ------------------------------------------------------------------------------------------------------

_OF_PERSON = sql(
    """
    SELECT e.enterprise_id, e.full_name FROM gateway_memberships m
    JOIN gateway_enterprises e ON e.enterprise_id = m.enterprise_id
    WHERE m.person_id = $1 AND m.state = $2 AND e.state = $2
    ORDER BY e.enterprise_id
    """,
    exempt="a person's own memberships, in whichever enterprises",
)
_ROLES_OF_PERSON = sql(
    "SELECT enterprise_id, role FROM gateway_member_roles WHERE person_id = $1 ORDER BY enterprise_id, role",
    exempt="a person's own roles, in whichever enterprises",
)
_STATE = sql("SELECT state FROM gateway_memberships WHERE enterprise_id = $1 AND person_id = $2")
_LOCK_STATE = sql(
    "SELECT state FROM gateway_memberships WHERE enterprise_id = $1 AND person_id = $2 FOR UPDATE"
)
_ROLES = sql(
    "SELECT role FROM gateway_member_roles WHERE enterprise_id = $1 AND person_id = $2 ORDER BY role"
)
_HOLDERS = sql(
    """
    SELECT r.person_id FROM gateway_member_roles r
    JOIN gateway_memberships m ON m.enterprise_id = r.enterprise_id AND m.person_id = r.person_id
    WHERE r.enterprise_id = $1 AND r.role = $2 AND m.state = $3
    ORDER BY r.person_id
    """
)
_PAGE = sql(
    """
    SELECT p.person_id, p.full_name, p.phone, m.title FROM gateway_memberships m
    JOIN gateway_people p ON p.person_id = m.person_id
    WHERE m.enterprise_id = $1 AND m.person_id > $2 AND m.state = $3
    ORDER BY m.person_id LIMIT $4
    """
)
_SOME = sql(
    """
    SELECT p.person_id, p.full_name, p.phone, m.title FROM gateway_memberships m
    JOIN gateway_people p ON p.person_id = m.person_id
    WHERE m.enterprise_id = $1 AND m.state = $2 AND m.person_id IN ($*)
    ORDER BY m.person_id
    """
)
_ROLES_OF_SOME = sql(
    """
    SELECT person_id, role FROM gateway_member_roles
    WHERE enterprise_id = $1 AND person_id IN ($*)
    ORDER BY person_id, role
    """
)
_INSERT_MEMBERSHIP = sql(
    """
    INSERT INTO gateway_memberships (enterprise_id, person_id, title, state, joined_at, left_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    """
)
_REJOIN = sql(
    """
    UPDATE gateway_memberships SET state = $3, title = $4, joined_at = $5, left_at = NULL
    WHERE enterprise_id = $1 AND person_id = $2
    """
)
_LEAVE = sql(
    """
    UPDATE gateway_memberships SET state = $3, left_at = $4
    WHERE enterprise_id = $1 AND person_id = $2 AND state = $5
    """
)
_LEFT_SINCE = sql(
    "SELECT person_id, enterprise_id FROM gateway_memberships WHERE left_at > $1 AND state = $2 ORDER BY left_at",
    exempt="every edge must refuse the tokens of every membership that has ended",
)
_DROP_ROLES = sql("DELETE FROM gateway_member_roles WHERE enterprise_id = $1 AND person_id = $2")
_INSERT_ROLE = sql("INSERT INTO gateway_member_roles (enterprise_id, person_id, role) VALUES ($1, $2, $3)")


async def enterprises_of(db: Queries, person_id: int) -> list[tuple[int, str, list[str]]]:
    """(enterprise, its name, the person's roles) for every active membership, by enterprise."""
    roles: dict[int, list[str]] = {}
    for row in await db.fetch(_ROLES_OF_PERSON, person_id):
        roles.setdefault(row["enterprise_id"], []).append(row["role"])
    return [
        (row["enterprise_id"], row["full_name"], roles.get(row["enterprise_id"], []))
        for row in await db.fetch(_OF_PERSON, person_id, ACTIVE)
    ]


async def membership_state(db: Queries, enterprise_id: int, person_id: int) -> str | None:
    """active, left, or None where there never was one."""
    state: str | None = await db.fetchval(_STATE, enterprise_id, person_id)
    return state


async def lock_membership(db: Queries, enterprise_id: int, person_id: int) -> bool:
    """Whether it is active, which nobody changes meanwhile: a token and the end of a membership do not cross."""
    state: str | None = await db.fetchval(_LOCK_STATE, enterprise_id, person_id)
    return state == ACTIVE


async def roles_of(db: Queries, enterprise_id: int, person_id: int) -> list[str]:
    """The roles of a member, sorted."""
    return [row["role"] for row in await db.fetch(_ROLES, enterprise_id, person_id)]


async def holders(db: Queries, enterprise_id: int, role: str) -> list[int]:
    """The active members who have a role."""
    return [row["person_id"] for row in await db.fetch(_HOLDERS, enterprise_id, role, ACTIVE)]


async def members_page(db: Queries, enterprise_id: int, after: int, limit: int) -> list[Record]:
    """person_id, full_name, phone, title of the active members after `after`, by id."""
    return await db.fetch(_PAGE, enterprise_id, after, ACTIVE, limit)


async def members(db: Queries, enterprise_id: int, person_ids: Sequence[int]) -> list[Record]:
    """The same of those among `person_ids` who are active members."""
    return await db.fetch_in(_SOME, person_ids, enterprise_id, ACTIVE)


async def roles_of_many(db: Queries, enterprise_id: int, person_ids: Sequence[int]) -> dict[int, list[str]]:
    """The roles of some members, sorted."""
    roles: dict[int, list[str]] = {}
    for row in await db.fetch_in(_ROLES_OF_SOME, person_ids, enterprise_id):
        roles.setdefault(row["person_id"], []).append(row["role"])
    return roles


async def join(
    db: Queries, enterprise_id: int, person_id: int, *, title: str | None, roles: Iterable[str], now: datetime
) -> None:
    """Make a person a member, again if need be, with exactly these roles."""
    if not await db.execute(_REJOIN, enterprise_id, person_id, ACTIVE, title, now):
        await db.execute(_INSERT_MEMBERSHIP, enterprise_id, person_id, title, ACTIVE, now, None)
    await db.execute(_DROP_ROLES, enterprise_id, person_id)
    await db.executemany(_INSERT_ROLE, [(enterprise_id, person_id, role) for role in sorted(set(roles))])


async def leave(db: Queries, enterprise_id: int, person_id: int, now: datetime) -> bool:
    """End an active membership and its roles; False where there was none."""
    if not await db.execute(_LEAVE, enterprise_id, person_id, LEFT, now, ACTIVE):
        return False
    await db.execute(_DROP_ROLES, enterprise_id, person_id)
    return True


async def left_since(db: Queries, since: datetime) -> list[tuple[int, int]]:
    """(person, enterprise) of memberships that have ended and not begun again."""
    return [(row["person_id"], row["enterprise_id"]) for row in await db.fetch(_LEFT_SINCE, since, LEFT)]
