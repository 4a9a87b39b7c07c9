"""SQL of copies of personal data and of forgetting.

The gateway's tables with a `person_id` are all here, or in `rules.KEPT` with the reason why they stay.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from core.db import Queries, Record, Sql, sql

# --- tasks ------------------------------------------------------------------------------------------------------------

_INSERT = sql(
    "INSERT INTO gateway_privacy_tasks (task_id, person_id, kind, state, created_at, done_at, expires_at, "
    "result_sealed) VALUES ($1, $2, $3, 'waiting', $4, NULL, NULL, NULL)"
)
_OF_PERSON = sql(
    "SELECT task_id, kind, state, created_at, done_at, expires_at FROM gateway_privacy_tasks "
    "WHERE person_id = $1 ORDER BY task_id DESC LIMIT 50"
)
_TASK = sql(
    "SELECT task_id, person_id, kind, state, created_at, done_at, expires_at, result_sealed "
    "FROM gateway_privacy_tasks WHERE task_id = $1"
)
_RECENT = sql(
    "SELECT COUNT(*) FROM gateway_privacy_tasks WHERE person_id = $1 AND kind = $2 AND created_at > $3"
)
_DONE = sql(
    "UPDATE gateway_privacy_tasks SET state = 'done', done_at = $2, expires_at = $3, result_sealed = $4 "
    "WHERE task_id = $1"
)
_DROP_OLD = sql(
    "UPDATE gateway_privacy_tasks SET result_sealed = NULL WHERE expires_at < $1 AND result_sealed IS NOT NULL"
)
_DROP_RESULTS = sql("UPDATE gateway_privacy_tasks SET result_sealed = NULL WHERE person_id = $1")


async def insert(db: Queries, task_id: int, person_id: int, kind: str, now: datetime) -> None:
    """Something was asked for."""
    await db.execute(_INSERT, task_id, person_id, kind, now)


async def tasks(db: Queries, person_id: int) -> list[Record]:
    """task_id, kind, state, created_at, done_at, expires_at, newest first."""
    return await db.fetch(_OF_PERSON, person_id)


async def task(db: Queries, task_id: int) -> Record | None:
    """One of them, with who asked and its result."""
    return await db.fetchrow(_TASK, task_id)


async def recent(db: Queries, person_id: int, kind: str, since: datetime) -> int:
    """How many were asked for since then."""
    found: int = await db.fetchval(_RECENT, person_id, kind, since)
    return found


async def done(
    db: Queries, task_id: int, now: datetime, expires_at: datetime | None, sealed: bytes | None
) -> None:
    """It has been done."""
    await db.execute(_DONE, task_id, now, expires_at, sealed)


async def drop_old(db: Queries, now: datetime) -> int:
    """Forget copies whose time is over."""
    return await db.execute(_DROP_OLD, now)


# --- a copy -----------------------------------------------------------------------------------------------------------

_OWN = "a person's own data, in whichever enterprises"
_PERSON = sql(
    "SELECT person_id, phone_sealed, login_name, full_name, state, created_at, registered_at FROM gateway_people "
    "WHERE person_id = $1"
)
_TOPICS: Final[dict[str, Sql]] = {
    "memberships": sql(
        """
        SELECT m.enterprise_id, e.full_name AS enterprise, m.title, m.state, m.joined_at, m.left_at
        FROM gateway_memberships m JOIN gateway_enterprises e ON e.enterprise_id = m.enterprise_id
        WHERE m.person_id = $1 ORDER BY m.enterprise_id
        """,
        exempt=_OWN,
    ),
    "roles": sql(
        "SELECT enterprise_id, role FROM gateway_member_roles WHERE person_id = $1 ORDER BY enterprise_id, role",
        exempt=_OWN,
    ),
    "departments": sql(
        """
        SELECT d.enterprise_id, d.name, m.is_head FROM gateway_department_members m
        JOIN gateway_departments d ON d.department_id = m.department_id
        WHERE m.person_id = $1 ORDER BY d.department_id
        """,
        exempt=_OWN,
    ),
    "consents": sql(
        "SELECT document, version, accepted_at FROM gateway_consents WHERE person_id = $1 ORDER BY accepted_at"
    ),
    "sessions": sql(
        "SELECT enterprise_id, device, platform, created_at, used_at, ended_at, ended_why FROM gateway_sessions "
        "WHERE person_id = $1 ORDER BY session_id",
        exempt=_OWN,
    ),
    "devices": sql(
        "SELECT device, name, platform, algorithm, bound_at, used_at, revoked_at FROM gateway_devices "
        "WHERE person_id = $1 ORDER BY bound_at"
    ),
    "applications": sql(
        "SELECT full_name, credit_code, state, reason, created_at FROM gateway_applications WHERE person_id = $1 "
        "ORDER BY application_id"
    ),
    "join_requests": sql(
        "SELECT enterprise_id, message, state, created_at, decided_at FROM gateway_join_requests "
        "WHERE person_id = $1 ORDER BY request_id",
        exempt=_OWN,
    ),
    "apps": sql(
        """
        SELECT g.enterprise_id, a.title, g.scopes, g.granted_at, g.ended_at FROM gateway_app_grants g
        JOIN gateway_apps a ON a.app_id = g.app_id
        WHERE g.person_id = $1 ORDER BY g.grant_id
        """,
        exempt=_OWN,
    ),
    "audit": sql(
        "SELECT enterprise_id, device, address, action, outcome, happened_at FROM core_audit WHERE person_id = $1 "
        "ORDER BY audit_id DESC LIMIT 10000",
        exempt=_OWN,
    ),
}


async def person(db: Queries, person_id: int) -> Record | None:
    """person_id, phone_sealed, login_name, full_name, state, created_at, registered_at."""
    return await db.fetchrow(_PERSON, person_id)


async def topics(db: Queries, person_id: int) -> dict[str, list[dict[str, Any]]]:
    """Rows about a person by topic, as they are."""
    return {
        topic: [dict(row) for row in await db.fetch(statement, person_id)]
        for topic, statement in _TOPICS.items()
    }


# --- forgetting -------------------------------------------------------------------------------------------------------

_ANONYMISE = sql(
    """
    UPDATE gateway_people SET phone_sealed = NULL, phone_index = NULL, phone_key = NULL, phone_index_key = NULL,
           login_name = NULL, full_name = $2, password_hash = NULL, state = 'erased'
    WHERE person_id = $1
    """
)
_ALL_OF = "everything of a person who wants to be forgotten, in whichever enterprises"
_FORGET: Final = (
    sql("DELETE FROM gateway_sessions WHERE person_id = $1", exempt=_ALL_OF),
    sql("DELETE FROM gateway_devices WHERE person_id = $1"),
    sql("DELETE FROM gateway_totp WHERE person_id = $1"),
    sql("DELETE FROM gateway_recovery_codes WHERE person_id = $1"),
    sql("DELETE FROM gateway_login_tickets WHERE person_id = $1"),
    sql("DELETE FROM gateway_app_browsers WHERE person_id = $1"),
    sql("UPDATE gateway_memberships SET title = NULL WHERE person_id = $1", exempt=_ALL_OF),
    sql("UPDATE gateway_join_requests SET message = NULL WHERE person_id = $1", exempt=_ALL_OF),
    _DROP_RESULTS,
)
_WITHDRAW: Final = (
    sql("DELETE FROM gateway_join_requests WHERE person_id = $1 AND state = 'open'", exempt=_ALL_OF),
    sql("DELETE FROM gateway_applications WHERE person_id = $1 AND state <> 'verified'"),
)


async def anonymise(db: Queries, person_id: int, name: str) -> None:
    """Who it was is not known any more, and asks for nothing; the id stays as a pseudonym."""
    await db.execute(_ANONYMISE, person_id, name)
    for statement in _WITHDRAW:
        await db.execute(statement, person_id)


async def forget(db: Queries, person_id: int) -> int:
    """Delete or blank the rest; how many rows."""
    return sum([await db.execute(statement, person_id) for statement in _FORGET])
