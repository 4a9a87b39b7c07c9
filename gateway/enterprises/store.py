"""SQL of applications and of requests to join."""

from __future__ import annotations

from datetime import datetime

from core.db import Queries, Record, sql

# --- applications -----------------------------------------------------------------------------------------------------

_COLUMNS = "application_id, person_id, full_name, credit_code, state, reason, made_id, created_at"
_INSERT = sql(
    "INSERT INTO gateway_applications (application_id, person_id, full_name, credit_code, state, reason, made_id, "
    "created_at, changed_at) VALUES ($1, $2, $3, $4, 'applied', NULL, NULL, $5, $5)"
)
_LOCK = sql(f"SELECT {_COLUMNS} FROM gateway_applications WHERE application_id = $1 FOR UPDATE")
_OF_PERSON = sql(
    f"SELECT {_COLUMNS} FROM gateway_applications WHERE person_id = $1 ORDER BY application_id DESC LIMIT 100"
)
_OPEN = sql("SELECT credit_code FROM gateway_applications WHERE person_id = $1 AND state = 'applied'")
_PAGE = sql(
    f"SELECT {_COLUMNS} FROM gateway_applications WHERE state = $1 AND application_id > $2 "
    "ORDER BY application_id LIMIT $3"
)
_DECIDE = sql(
    "UPDATE gateway_applications SET state = $2, reason = $3, made_id = $4, changed_at = $5 WHERE application_id = $1"
)


async def insert(
    db: Queries, application_id: int, *, person_id: int, name: str, credit_code: str, now: datetime
) -> None:
    """A new application."""
    await db.execute(_INSERT, application_id, person_id, name, credit_code, now)


async def lock(db: Queries, application_id: int) -> Record | None:
    """An application that nobody else decides meanwhile."""
    return await db.fetchrow(_LOCK, application_id)


async def of_person(db: Queries, person_id: int) -> list[Record]:
    """The newest hundred of a person."""
    return await db.fetch(_OF_PERSON, person_id)


async def open_of(db: Queries, person_id: int) -> list[str]:
    """The credit codes of a person's applications that wait to be decided."""
    return [row["credit_code"] for row in await db.fetch(_OPEN, person_id)]


async def page(db: Queries, state: str, after: int, limit: int) -> list[Record]:
    """Those in a state, by id."""
    return await db.fetch(_PAGE, state, after, limit)


async def decide(
    db: Queries, application_id: int, state: str, reason: str | None, made_id: int | None, now: datetime
) -> None:
    """It has been decided."""
    await db.execute(_DECIDE, application_id, state, reason, made_id, now)


# --- enterprises, for the bank ----------------------------------------------------------------------------------------

_ENTERPRISES = sql(
    "SELECT enterprise_id, full_name, credit_code, stage, created_at FROM gateway_enterprises "
    "WHERE enterprise_id > $1 AND kind = 'enterprise' ORDER BY enterprise_id LIMIT $2",
    exempt="the bank's staff look at all enterprises: names and stages, nothing that they do",
)
_COUNTS = sql(
    "SELECT enterprise_id, COUNT(*) AS members FROM gateway_memberships "
    "WHERE state = 'active' AND enterprise_id IN ($*) GROUP BY enterprise_id"
)


async def enterprises(db: Queries, after: int, limit: int) -> list[Record]:
    """enterprise_id, full_name, credit_code, stage, created_at, by id."""
    return await db.fetch(_ENTERPRISES, after, limit)


async def member_counts(db: Queries, enterprise_ids: list[int]) -> dict[int, int]:
    """How many belong to each."""
    return {row["enterprise_id"]: row["members"] for row in await db.fetch_in(_COUNTS, enterprise_ids)}


# --- requests to join -------------------------------------------------------------------------------------------------

_ASK = sql(
    "INSERT INTO gateway_join_requests (request_id, enterprise_id, person_id, message, state, created_at, decided_by, "
    "decided_at) VALUES ($1, $2, $3, $4, 'open', $5, NULL, NULL)"
)
_ASKED = sql(
    "SELECT COUNT(*) FROM gateway_join_requests WHERE enterprise_id = $1 AND person_id = $2 AND state = 'open'"
)
_REQUESTS = sql(
    """
    SELECT r.request_id, r.person_id, r.message, r.state, r.created_at, p.full_name, p.phone_sealed
    FROM gateway_join_requests r JOIN gateway_people p ON p.person_id = r.person_id
    WHERE r.enterprise_id = $1 AND r.state = 'open' ORDER BY r.request_id DESC LIMIT 100
    """
)
_LOCK_REQUEST = sql(
    "SELECT request_id, person_id, state FROM gateway_join_requests WHERE enterprise_id = $1 AND request_id = $2 "
    "FOR UPDATE"
)
_DECIDE_REQUEST = sql(
    "UPDATE gateway_join_requests SET state = $3, decided_by = $4, decided_at = $5 "
    "WHERE enterprise_id = $1 AND request_id = $2"
)


async def ask(
    db: Queries, enterprise_id: int, request_id: int, *, person_id: int, message: str | None, now: datetime
) -> None:
    """Somebody wants to join."""
    await db.execute(_ASK, request_id, enterprise_id, person_id, message or None, now)


async def has_asked(db: Queries, enterprise_id: int, person_id: int) -> bool:
    """Whether a request of this person is open."""
    return bool(await db.fetchval(_ASKED, enterprise_id, person_id))


async def requests(db: Queries, enterprise_id: int) -> list[Record]:
    """request_id, person_id, message, state, created_at, full_name, phone_sealed of what is open."""
    return await db.fetch(_REQUESTS, enterprise_id)


async def lock_request(db: Queries, enterprise_id: int, request_id: int) -> Record | None:
    """request_id, person_id, state; nobody else decides it meanwhile."""
    return await db.fetchrow(_LOCK_REQUEST, enterprise_id, request_id)


async def decide_request(
    db: Queries, enterprise_id: int, request_id: int, state: str, by: int, now: datetime
) -> None:
    """It has been decided."""
    await db.execute(_DECIDE_REQUEST, enterprise_id, request_id, state, by, now)
