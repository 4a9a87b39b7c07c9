"""SQL of requests, families of tokens, and browsers that have logged in."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from core.db import Queries, Record, Transaction, UniqueViolation, sql

# --- families ---------------------------------------------------------------------------------------------------------

_OF_CLIENT: Final = "found by a secret that only its client has; the enterprise is what it tells us"

_INSERT_FAMILY = sql(
    """
    INSERT INTO gateway_app_families (family_id, enterprise_id, person_id, app_id, grant_id, session_id, scopes, acr,
                                      amr, authenticated_at, jkt, created_at, expires_at, ended_at, ended_why)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, NULL, NULL)
    """
)
_LOCK_FAMILY = sql(
    """
    SELECT family_id, enterprise_id, person_id, app_id, grant_id, session_id, scopes, acr, amr, authenticated_at, jkt,
           expires_at, ended_at
    FROM gateway_app_families WHERE family_id = $1 FOR UPDATE
    """,
    exempt=_OF_CLIENT,
)
_RESTS = sql(
    """
    SELECT f.family_id FROM gateway_app_families f
    JOIN gateway_app_grants g ON g.grant_id = f.grant_id AND g.ended_at IS NULL
    JOIN gateway_sessions s ON s.session_id = f.session_id AND s.ended_at IS NULL AND s.expires_at > $3
    WHERE f.family_id = $2 AND f.enterprise_id = $1 AND g.enterprise_id = $1 AND f.ended_at IS NULL
      AND f.expires_at > $3
    """,
    exempt="a session belongs to a person; family and grant are compared with the enterprise",
)
_END_FAMILY = sql(
    "UPDATE gateway_app_families SET ended_at = $2, ended_why = $3 WHERE family_id = $1 AND ended_at IS NULL",
    exempt=_OF_CLIENT,
)
_END_FAMILIES = sql(
    "UPDATE gateway_app_families SET ended_at = $2, ended_why = $3 WHERE app_id = $1 AND ended_at IS NULL",
    exempt="an app is in the hands of somebody else in every enterprise at once",
)
_BIND_FAMILY = sql("UPDATE gateway_app_families SET jkt = $2 WHERE family_id = $1", exempt=_OF_CLIENT)
_ENDED_SINCE = sql(
    "SELECT family_id FROM gateway_app_families WHERE ended_at > $1",
    exempt="every edge must refuse the tokens of every family that has ended",
)


_TOLD = sql(
    """
    SELECT DISTINCT f.app_id FROM gateway_app_families f
    JOIN gateway_apps a ON a.app_id = f.app_id AND a.state = 'active' AND a.backchannel_uri IS NOT NULL
    WHERE f.session_id = $1 AND EXISTS (
        SELECT 1 FROM gateway_app_refresh_tokens t WHERE t.family_id = f.family_id)
    ORDER BY f.app_id
    """,
    exempt="a session belongs to a person, who may have used apps in several enterprises with it",
)


async def told_of_session(db: Queries, session_id: int) -> list[int]:
    """The apps that came to tokens by this session and want to hear of its end."""
    return [row["app_id"] for row in await db.fetch(_TOLD, session_id)]


async def insert_family(
    db: Queries,
    family_id: int,
    *,
    enterprise_id: int,
    person_id: int,
    app_id: int,
    grant_id: int,
    session_id: int,
    scopes: Iterable[str],
    acr: int,
    amr: str | None,
    authenticated_at: datetime,
    jkt: str | None,
    now: datetime,
    expires_at: datetime,
) -> None:
    """What one consent gives to one client: a code, and later its tokens."""
    await db.execute(
        _INSERT_FAMILY,
        family_id,
        enterprise_id,
        person_id,
        app_id,
        grant_id,
        session_id,
        " ".join(sorted(scopes)),
        acr,
        amr,
        authenticated_at,
        jkt,
        now,
        expires_at,
    )


async def lock_family(db: Queries, family_id: int) -> Record | None:
    """All of a family; nobody else changes it meanwhile."""
    return await db.fetchrow(_LOCK_FAMILY, family_id)


async def still_rests(db: Queries, enterprise_id: int, family_id: int, now: datetime) -> bool:
    """Whether the family, its grant and its session are all in force."""
    return await db.fetchval(_RESTS, enterprise_id, family_id, now) is not None


async def end_family(db: Queries, family_id: int, why: str, now: datetime) -> bool:
    """End a family; False where it had ended before."""
    return await db.execute(_END_FAMILY, family_id, now, why) == 1


async def end_families(db: Queries, app_id: int, why: str, now: datetime) -> None:
    """End everything that an app came to for people, everywhere."""
    await db.execute(_END_FAMILIES, app_id, now, why)


async def bind_family(db: Queries, family_id: int, jkt: str) -> None:
    """From now on the family is good with this key only."""
    await db.execute(_BIND_FAMILY, family_id, jkt)


async def ended_since(db: Queries, since: datetime) -> list[int]:
    """Families that ended before their time."""
    return [row["family_id"] for row in await db.fetch(_ENDED_SINCE, since)]


# --- codes and refresh tokens -----------------------------------------------------------------------------------------

_INSERT_CODE = sql(
    """
    INSERT INTO gateway_app_codes (code_digest, family_id, app_id, redirect_uri, challenge, nonce, expires_at, used_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, NULL)
    """
)
_LOCK_CODE = sql(
    """
    SELECT family_id, app_id, redirect_uri, challenge, nonce, expires_at, used_at FROM gateway_app_codes
    WHERE code_digest = $1 FOR UPDATE
    """
)
_USE_CODE = sql("UPDATE gateway_app_codes SET used_at = $2 WHERE code_digest = $1")
_INSERT_REFRESH = sql(
    """
    INSERT INTO gateway_app_refresh_tokens (token_digest, family_id, issued_at, expires_at, rotated_at)
    VALUES ($1, $2, $3, $4, NULL)
    """
)
_LOCK_REFRESH = sql(
    "SELECT family_id, expires_at, rotated_at FROM gateway_app_refresh_tokens WHERE token_digest = $1 FOR UPDATE"
)
_ROTATE = sql("UPDATE gateway_app_refresh_tokens SET rotated_at = $2 WHERE token_digest = $1")


async def insert_code(
    db: Queries,
    digest: bytes,
    family_id: int,
    *,
    app_id: int,
    redirect_uri: str,
    challenge: str,
    nonce: str | None,
    expires_at: datetime,
) -> None:
    """Remember a code by its digest."""
    await db.execute(_INSERT_CODE, digest, family_id, app_id, redirect_uri, challenge, nonce, expires_at)


async def lock_code(db: Queries, digest: bytes) -> Record | None:
    """family_id, app_id, redirect_uri, challenge, nonce, expires_at, used_at; of two who have it one waits."""
    return await db.fetchrow(_LOCK_CODE, digest)


async def use_code(db: Queries, digest: bytes, now: datetime) -> None:
    """The code has been exchanged."""
    await db.execute(_USE_CODE, digest, now)


async def insert_refresh(
    db: Queries, digest: bytes, family_id: int, *, now: datetime, expires_at: datetime
) -> None:
    """Remember a refresh token by its digest."""
    await db.execute(_INSERT_REFRESH, digest, family_id, now, expires_at)


async def lock_refresh(db: Queries, digest: bytes) -> Record | None:
    """family_id, expires_at, rotated_at; of two who have it one waits."""
    return await db.fetchrow(_LOCK_REFRESH, digest)


async def rotate(db: Queries, digest: bytes, now: datetime) -> None:
    """The token has been exchanged for its successor."""
    await db.execute(_ROTATE, digest, now)


# --- pushed requests, and what is good once ---------------------------------------------------------------------------

_PUSH = sql(
    "INSERT INTO gateway_app_pushed_requests (request_digest, app_id, request, expires_at) VALUES ($1, $2, $3, $4)"
)
_PUSHED = sql(
    """
    SELECT request FROM gateway_app_pushed_requests
    WHERE request_digest = $1 AND app_id = $2 AND expires_at > $3 FOR UPDATE
    """
)
_USE_PUSHED = sql("DELETE FROM gateway_app_pushed_requests WHERE request_digest = $1")
_ONCE = sql("INSERT INTO gateway_app_once (id_digest, expires_at) VALUES ($1, $2)")


async def push(db: Queries, digest: bytes, app_id: int, request: str, expires_at: datetime) -> None:
    """Keep a checked request of this client."""
    await db.execute(_PUSH, digest, app_id, request, expires_at)


async def pushed(db: Queries, digest: bytes, app_id: int, now: datetime) -> str | None:
    """The request this client has pushed; of two who have its name one waits."""
    found: str | None = await db.fetchval(_PUSHED, digest, app_id, now)
    return found


async def use_pushed(db: Queries, digest: bytes) -> None:
    """A pushed request is good once."""
    await db.execute(_USE_PUSHED, digest)


async def first_time(tx: Transaction, digest: bytes, expires_at: datetime) -> bool:
    """Whether this id is used for the first time; remembered until then."""
    try:
        async with tx.savepoint():
            await tx.execute(_ONCE, digest, expires_at)
    except UniqueViolation:
        return False
    return True


# --- browsers ---------------------------------------------------------------------------------------------------------

_BROWSER = sql(
    """
    SELECT b.session_id, b.person_id, b.acr, b.amr, b.authenticated_at, p.full_name
    FROM gateway_app_browsers b
    JOIN gateway_sessions s ON s.session_id = b.session_id AND s.ended_at IS NULL AND s.expires_at > $2
    JOIN gateway_people p ON p.person_id = b.person_id AND p.state = 'active'
    WHERE b.cookie_digest = $1 AND b.used_at > $3 AND b.authenticated_at > $4
    """,
    exempt="a person logs in once for all of their enterprises",
)
_SESSION = sql(
    "SELECT person_id, enterprise_id, device, acr, created_at, ended_at FROM gateway_sessions WHERE session_id = $1",
    exempt="a session belongs to a person; the enterprise is only where it is at the moment",
)
_INSERT_BROWSER = sql(
    """
    INSERT INTO gateway_app_browsers (cookie_digest, session_id, person_id, acr, amr, authenticated_at, used_at)
    VALUES ($1, $2, $3, $4, $5, $6, $6)
    """
)
_USE_BROWSER = sql("UPDATE gateway_app_browsers SET used_at = $2 WHERE cookie_digest = $1")
_FORGET_BROWSER = sql("DELETE FROM gateway_app_browsers WHERE cookie_digest = $1")


async def browser(
    db: Queries, cookie: bytes, *, now: datetime, idle: timedelta, absolute: timedelta
) -> Record | None:
    """session_id, person_id, acr, amr, authenticated_at, full_name of who is logged in with this cookie."""
    return await db.fetchrow(_BROWSER, cookie, now, now - idle, now - absolute)


async def session(db: Queries, session_id: int) -> Record | None:
    """person_id, enterprise_id, device, acr, created_at, ended_at of a session."""
    return await db.fetchrow(_SESSION, session_id)


async def insert_browser(
    db: Queries, cookie: bytes, *, session_id: int, person_id: int, acr: int, amr: str, now: datetime
) -> None:
    """Somebody has logged in."""
    await db.execute(_INSERT_BROWSER, cookie, session_id, person_id, acr, amr, now)


async def use_browser(db: Queries, cookie: bytes, now: datetime) -> None:
    """Somebody is still there."""
    await db.execute(_USE_BROWSER, cookie, now)


async def forget_browser(db: Queries, cookie: bytes) -> None:
    """Nobody is logged in with this cookie any more."""
    await db.execute(_FORGET_BROWSER, cookie)


# --- forgetting -------------------------------------------------------------------------------------------------------

_PURGES: Final = (
    sql("DELETE FROM gateway_app_refresh_tokens WHERE expires_at < $1"),
    sql("DELETE FROM gateway_app_codes WHERE expires_at < $1"),
    sql("DELETE FROM gateway_app_pushed_requests WHERE expires_at < $1"),
    sql("DELETE FROM gateway_app_once WHERE expires_at < $1"),
    sql("DELETE FROM gateway_app_browsers WHERE used_at < $1"),
    sql(
        "DELETE FROM gateway_app_families WHERE expires_at < $1",
        exempt="what has expired is forgotten alike for every tenant",
    ),
)


async def purge(db: Queries, now: datetime) -> int:
    """Forget what no longer means anything: a day after its end, so that a late replay is still noticed."""
    return sum([await db.execute(statement, now - timedelta(days=1)) for statement in _PURGES])
