"""SQL of people, enterprises and memberships."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from core.crypto.columns import Columns
from core.db import IN_MAX, Queries, Record, sql
from gateway.people.phones import PHONE

ACTIVE: Final = "active"
LEFT: Final = "left"

# --- people -----------------------------------------------------------------------------------------------------------

_PERSON = sql(
    "SELECT person_id, phone_sealed, login_name, full_name, state, registered_at FROM gateway_people "
    "WHERE person_id = $1"
)
_BY_LOGIN = sql(
    """
    SELECT person_id, password_hash, state FROM gateway_people
    WHERE login_name = $1 OR phone_index IN ($*)
    ORDER BY person_id LIMIT 1
    """
)
_BY_PHONE = sql("SELECT person_id FROM gateway_people WHERE phone_index IN ($*)")
_INSERT_PERSON = sql(
    """
    INSERT INTO gateway_people (person_id, login_name, full_name, password_hash, state, created_at, registered_at,
                                phone_sealed, phone_index, phone_key, phone_index_key)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    """
)
_REGISTER = sql(
    "UPDATE gateway_people SET full_name = $2, login_name = $3, password_hash = $4, registered_at = $5 "
    "WHERE person_id = $1 AND registered_at IS NULL AND state = $6"
)
_SET_PHONE = sql(
    """
    UPDATE gateway_people SET phone_sealed = $2, phone_index = $3, phone_key = $4, phone_index_key = $5
    WHERE person_id = $1
    """
)
_SET_STATE = sql("UPDATE gateway_people SET state = $2 WHERE person_id = $1 AND state <> $2")
_LOCK_PERSON = sql(
    "SELECT person_id, phone_sealed, full_name, password_hash, state, registered_at FROM gateway_people "
    "WHERE person_id = $1 FOR UPDATE"
)
_SET_PASSWORD = sql(
    "UPDATE gateway_people SET password_hash = $2 WHERE person_id = $1 AND password_hash = $3"
)


async def person(db: Queries, person_id: int) -> Record | None:
    """person_id, phone_sealed, login_name, full_name, state, registered_at."""
    return await db.fetchrow(_PERSON, person_id)


async def person_by_login(db: Queries, columns: Columns, login: str) -> Record | None:
    """person_id, password_hash, state of whoever has this phone or login name. A login name is never a number."""
    rows = await db.fetch_in(_BY_LOGIN, columns.indexes(PHONE, login), login)
    return rows[0] if rows else None


async def person_by_phone(db: Queries, columns: Columns, phone: str) -> int | None:
    """The id of whoever has this phone."""
    rows = await db.fetch_in(_BY_PHONE, columns.indexes(PHONE, phone))
    return rows[0][0] if rows else None


async def insert_person(
    db: Queries,
    columns: Columns,
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
    sealed = (None,) * 4 if phone is None else columns.seal(PHONE, person_id, phone)
    await db.execute(
        _INSERT_PERSON, person_id, login_name, name, password_hash, ACTIVE, now, registered_at, *sealed
    )


async def set_password(db: Queries, person_id: int, password_hash: str, *, before: str) -> bool:
    """Replace the password; False where it is another than `before` meanwhile."""
    return await db.execute(_SET_PASSWORD, person_id, password_hash, before) == 1


async def lock_knowing(db: Queries, person_id: int, password_hash: str | None) -> bool:
    """Whether this, which was verified a moment ago, is still the password. Nobody changes it meanwhile."""
    row = await lock_person(db, person_id)
    return row is not None and password_hash is not None and row["password_hash"] == password_hash


async def lock_person(db: Queries, person_id: int) -> Record | None:
    """person_id, phone_sealed, full_name, password_hash, state, registered_at; nobody else changes them meanwhile."""
    return await db.fetchrow(_LOCK_PERSON, person_id)


async def register(
    db: Queries, person_id: int, *, name: str, login_name: str | None, password_hash: str, now: datetime
) -> bool:
    """A guest becomes a registered person; False where that has happened. Raises `UniqueViolation`."""
    return await db.execute(_REGISTER, person_id, name, login_name, password_hash, now, ACTIVE) == 1


async def set_phone(db: Queries, columns: Columns, person_id: int, phone: str | None) -> None:
    """Another phone. Raises `UniqueViolation` where somebody has it."""
    sealed = (None,) * 4 if phone is None else columns.seal(PHONE, person_id, phone)
    await db.execute(_SET_PHONE, person_id, *sealed)


async def set_person_state(db: Queries, person_id: int, state: str) -> bool:
    """active or disabled; False where it is so already, or there is nobody."""
    return await db.execute(_SET_STATE, person_id, state) == 1


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
_ENTERPRISE = sql(
    "SELECT full_name, credit_code, state, kind, stage, created_at FROM gateway_enterprises WHERE enterprise_id = $1"
)
_SET_STAGE = sql("UPDATE gateway_enterprises SET stage = $2 WHERE enterprise_id = $1")
_KINDS = sql(
    """
    SELECT e.enterprise_id, e.kind FROM gateway_memberships m
    JOIN gateway_enterprises e ON e.enterprise_id = m.enterprise_id
    WHERE m.person_id = $1 AND m.state = $2
    """,
    exempt="where a person belongs at all decides whether the bank or an enterprise may take them in",
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


async def enterprise(db: Queries, enterprise_id: int) -> Record | None:
    """full_name, credit_code, state, kind, stage, created_at."""
    return await db.fetchrow(_ENTERPRISE, enterprise_id)


async def set_stage(db: Queries, enterprise_id: int, stage: str) -> None:
    """applied, verified or contracted."""
    await db.execute(_SET_STAGE, enterprise_id, stage)


async def kinds_of(db: Queries, person_id: int) -> dict[int, str]:
    """Kind by enterprise of a person's active memberships."""
    return {row["enterprise_id"]: row["kind"] for row in await db.fetch(_KINDS, person_id, ACTIVE)}


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
_LEFT_AT = sql("SELECT left_at FROM gateway_memberships WHERE enterprise_id = $1 AND person_id = $2")
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
    SELECT p.person_id, p.full_name, p.phone_sealed, m.title FROM gateway_memberships m
    JOIN gateway_people p ON p.person_id = m.person_id
    WHERE m.enterprise_id = $1 AND m.person_id > $2 AND m.state = $3 AND p.full_name LIKE $5 ESCAPE '!'
    ORDER BY m.person_id LIMIT $4
    """
)
_PAGE_WITHIN = sql(
    """
    SELECT p.person_id, p.full_name, p.phone_sealed, m.title FROM gateway_memberships m
    JOIN gateway_people p ON p.person_id = m.person_id
    WHERE m.enterprise_id = $1 AND m.person_id > $2 AND m.state = $3 AND p.full_name LIKE $5 ESCAPE '!'
      AND (m.person_id = $6 OR m.person_id IN (
        SELECT d.person_id FROM gateway_department_members d
        WHERE d.enterprise_id = $1 AND d.department_id IN ($*)
      ))
    ORDER BY m.person_id LIMIT $4
    """
)
_SOME = sql(
    """
    SELECT p.person_id, p.full_name, p.phone_sealed, m.title FROM gateway_memberships m
    JOIN gateway_people p ON p.person_id = m.person_id
    WHERE m.enterprise_id = $1 AND m.state = $2 AND m.person_id IN ($*)
    ORDER BY m.person_id
    """
)
_NAMES = sql(
    """
    SELECT p.person_id, p.full_name, m.state FROM gateway_memberships m
    JOIN gateway_people p ON p.person_id = m.person_id
    WHERE m.enterprise_id = $1 AND m.person_id IN ($*)
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
_SET_TITLE = sql("UPDATE gateway_memberships SET title = $3 WHERE enterprise_id = $1 AND person_id = $2")
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


async def left_at(db: Queries, enterprise_id: int, person_id: int) -> datetime | None:
    """When a former member left; None for who is one, or never was."""
    found: datetime | None = await db.fetchval(_LEFT_AT, enterprise_id, person_id)
    return found


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


async def members_page(
    db: Queries,
    enterprise_id: int,
    after: int,
    limit: int,
    *,
    name: str | None = None,
    departments: Iterable[int] | None = None,
    owner_id: int | None = None,
) -> list[Record]:
    """person_id, full_name, phone_sealed, title of the active members after `after`, by id.

    With `departments`, those in one of them (at most 512) and `owner_id`; with `name`, those whose name contains it.
    """
    pattern = "%" + "".join(f"!{char}" if char in "!%_" else char for char in name or "") + "%"
    if departments is None:
        return await db.fetch(_PAGE, enterprise_id, after, ACTIVE, limit, pattern)
    within = sorted(departments)[:IN_MAX] or [0]
    return await db.fetch_in(
        _PAGE_WITHIN, within, enterprise_id, after, ACTIVE, limit, pattern, owner_id or 0
    )


async def members(db: Queries, enterprise_id: int, person_ids: Sequence[int]) -> list[Record]:
    """The same of those among `person_ids` who are active members."""
    return await db.fetch_in(_SOME, person_ids, enterprise_id, ACTIVE)


async def names(db: Queries, enterprise_id: int, person_ids: Sequence[int]) -> list[Record]:
    """person_id, full_name and state of the membership, also of memberships that have ended."""
    return await db.fetch_in(_NAMES, person_ids, enterprise_id)


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
    await set_roles(db, enterprise_id, person_id, roles)


async def set_title(db: Queries, enterprise_id: int, person_id: int, title: str | None) -> None:
    """What a member is called there."""
    await db.execute(_SET_TITLE, enterprise_id, person_id, title)


async def set_roles(db: Queries, enterprise_id: int, person_id: int, roles: Iterable[str]) -> None:
    """Exactly these roles."""
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
