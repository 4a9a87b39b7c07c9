"""SQL of sessions, refresh tokens and login failures."""

from __future__ import annotations

from datetime import datetime, timedelta

from core.clock import from_ms, to_ms
from core.db import Queries, Record, sql
from gateway.sessions.rules import NO_FAILURES, Failures

# --- sessions ---------------------------------------------------------------------------------------------------------

_OWN = "a session belongs to a person; the enterprise is only where it is at the moment"

_INSERT = sql(
    """
    INSERT INTO gateway_sessions (session_id, person_id, enterprise_id, device, platform, acr, by_code, jkt,
                                  created_at, used_at, expires_at, ended_at, ended_why)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, NULL, NULL)
    """
)
_LOCK = sql(
    """
    SELECT session_id, person_id, enterprise_id, device, platform, acr, jkt, expires_at, ended_at
    FROM gateway_sessions WHERE session_id = $1 FOR UPDATE
    """,
    exempt=_OWN,
)
_USE = sql(
    "UPDATE gateway_sessions SET used_at = $2, renewed_at = $2, enterprise_id = $3 WHERE session_id = $1",
    exempt=_OWN,
)
_END = sql(
    "UPDATE gateway_sessions SET ended_at = $2, ended_why = $3 WHERE session_id = $1 AND ended_at IS NULL",
    exempt=_OWN,
)
_OF_PERSON = sql(
    """
    SELECT session_id, enterprise_id, device, platform, jkt, created_at, used_at, expires_at FROM gateway_sessions
    WHERE person_id = $1 AND ended_at IS NULL AND expires_at > $2
    ORDER BY session_id DESC LIMIT 100
    """,
    exempt=_OWN,
)
_IN_ENTERPRISE = sql(
    """
    SELECT session_id, device FROM gateway_sessions
    WHERE person_id = $1 AND enterprise_id = $2 AND ended_at IS NULL AND expires_at > $3
    ORDER BY session_id FOR UPDATE
    """
)
_ALL_OPEN = sql(
    "SELECT session_id, enterprise_id, device FROM gateway_sessions "
    "WHERE person_id = $1 AND ended_at IS NULL AND expires_at > $2 ORDER BY session_id FOR UPDATE",
    exempt=_OWN,
)
_HELD = sql(
    "SELECT session_id, enterprise_id, device, acr, jkt, used_at FROM gateway_sessions "
    "WHERE person_id = $1 AND ended_at IS NULL AND expires_at > $2 ORDER BY session_id",
    exempt=_OWN,
)
_WITH_KEY = sql(
    """
    SELECT session_id, person_id, enterprise_id, device FROM gateway_sessions
    WHERE person_id = $1 AND jkt = $2 AND ended_at IS NULL ORDER BY session_id FOR UPDATE
    """,
    exempt=_OWN,
)
_RENEW = sql(
    "UPDATE gateway_sessions SET acr = $2, renewed_at = $3 WHERE session_id = $1 AND ended_at IS NULL",
    exempt=_OWN,
)
_LAST_ENTERPRISE = sql(
    "SELECT enterprise_id FROM gateway_sessions WHERE person_id = $1 ORDER BY used_at DESC, session_id DESC LIMIT 1",
    exempt=_OWN,
)
_KNOWN_DEVICE = sql(
    "SELECT session_id FROM gateway_sessions WHERE person_id = $1 AND device = $2 AND created_at > $3 "
    "ORDER BY session_id LIMIT 1",
    exempt=_OWN,
)
_KNOWN_KEY = sql(
    "SELECT session_id FROM gateway_sessions WHERE person_id = $1 AND jkt = $2 AND created_at > $3 "
    "ORDER BY session_id LIMIT 1",
    exempt=_OWN,
)
_BY_CODE = sql("SELECT by_code FROM gateway_sessions WHERE session_id = $1", exempt=_OWN)
_KNOWS_PASSWORD = sql("UPDATE gateway_sessions SET by_code = 0 WHERE session_id = $1", exempt=_OWN)
_RENEWED_SINCE = sql(
    "SELECT session_id, renewed_at FROM gateway_sessions WHERE renewed_at > $1 ORDER BY renewed_at",
    exempt="every edge must refuse the older tokens of every session that was renewed",
)
_ENDED_SINCE = sql(
    "SELECT session_id FROM gateway_sessions WHERE ended_at > $1 ORDER BY ended_at",
    exempt="every edge must refuse the tokens of every session that has ended",
)


async def insert(
    db: Queries,
    session_id: int,
    *,
    person_id: int,
    enterprise_id: int,
    device: str,
    platform: str,
    acr: int,
    by_code: bool,
    jkt: str | None,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Begin a session."""
    await db.execute(
        _INSERT,
        session_id,
        person_id,
        enterprise_id,
        device,
        platform or None,
        acr,
        int(by_code),
        jkt,
        now,
        expires_at,
    )


async def lock(db: Queries, session_id: int) -> Record | None:
    """session_id, person_id, enterprise_id, device, platform, acr, jkt, expires_at, ended_at.

    Nobody else changes it meanwhile.
    """
    return await db.fetchrow(_LOCK, session_id)


async def use(db: Queries, session_id: int, enterprise_id: int, now: datetime) -> None:
    """The session goes on, in this enterprise, with new tokens; access tokens from before `now` are worth nothing."""
    await db.execute(_USE, session_id, now, enterprise_id)


async def end(db: Queries, session_id: int, why: str, now: datetime) -> bool:
    """End a session; False where it had ended before."""
    return await db.execute(_END, session_id, now, why) == 1


async def of_person(db: Queries, person_id: int, now: datetime) -> list[Record]:
    """The newest hundred live sessions of a person."""
    return await db.fetch(_OF_PERSON, person_id, now)


async def lock_in_enterprise(db: Queries, person_id: int, enterprise_id: int, now: datetime) -> list[Record]:
    """session_id and device of the live sessions that a person has in this enterprise."""
    return await db.fetch(_IN_ENTERPRISE, person_id, enterprise_id, now)


async def lock_all(db: Queries, person_id: int, now: datetime) -> list[Record]:
    """session_id, enterprise_id and device of every live session of a person."""
    return await db.fetch(_ALL_OPEN, person_id, now)


async def held(db: Queries, person_id: int, now: datetime) -> list[Record]:
    """session_id, enterprise_id, device, acr, jkt, used_at of every live session of a person; nothing is locked."""
    return await db.fetch(_HELD, person_id, now)


async def lock_with_key(db: Queries, person_id: int, jkt: str) -> list[Record]:
    """session_id, person_id, enterprise_id and device of a person's live sessions that are bound to this key."""
    return await db.fetch(_WITH_KEY, person_id, jkt)


async def renew(db: Queries, session_id: int, acr: int, now: datetime) -> None:
    """Another factor has strengthened the session; access tokens from before `now` are worth nothing."""
    await db.execute(_RENEW, session_id, acr, now)


async def began_by_code(db: Queries, session_id: int) -> bool:
    """Whether nothing but a code to the phone was shown in it so far."""
    return bool(await db.fetchval(_BY_CODE, session_id))


async def knows_password(db: Queries, session_id: int) -> None:
    """Its password is known in it, too."""
    await db.execute(_KNOWS_PASSWORD, session_id)


async def last_enterprise(db: Queries, person_id: int) -> int | None:
    """Where the person was last."""
    found: int | None = await db.fetchval(_LAST_ENTERPRISE, person_id)
    return found


async def knows_device(db: Queries, person_id: int, device: str, since: datetime) -> bool:
    """Whether the person has logged in from this device."""
    return await db.fetchval(_KNOWN_DEVICE, person_id, device, since) is not None


async def knows_key(db: Queries, person_id: int, jkt: str, since: datetime) -> bool:
    """Whether the person has logged in with this key."""
    return await db.fetchval(_KNOWN_KEY, person_id, jkt, since) is not None


async def renewed_since(db: Queries, since: datetime) -> list[tuple[int, int]]:
    """(session, ms since the epoch) of sessions whose older access tokens are worth nothing."""
    return [(row[0], to_ms(row[1])) for row in await db.fetch(_RENEWED_SINCE, since)]


async def ended_since(db: Queries, since: datetime) -> list[int]:
    """Sessions that ended before their time."""
    return [row["session_id"] for row in await db.fetch(_ENDED_SINCE, since)]


# --- refresh tokens ---------------------------------------------------------------------------------------------------

_INSERT_TOKEN = sql(
    """
    INSERT INTO gateway_refresh_tokens (token_digest, session_id, issued_at, expires_at, rotated_at,
                                        successor_digest)
    VALUES ($1, $2, $3, $4, NULL, NULL)
    """
)
_TOKEN_SESSION = sql("SELECT session_id FROM gateway_refresh_tokens WHERE token_digest = $1")
_TOKEN = sql(
    """
    SELECT t.expires_at, t.rotated_at, s.rotated_at AS successor_rotated_at FROM gateway_refresh_tokens t
    LEFT JOIN gateway_refresh_tokens s ON s.token_digest = t.successor_digest
    WHERE t.token_digest = $1
    """
)
_ROTATE = sql(
    "UPDATE gateway_refresh_tokens SET rotated_at = $2, successor_digest = $3 WHERE token_digest = $1"
)
_PURGE_TOKENS = sql("DELETE FROM gateway_refresh_tokens WHERE expires_at < $1")


async def insert_token(
    db: Queries, digest: bytes, session_id: int, *, now: datetime, expires_at: datetime
) -> None:
    """Remember a refresh token by its digest."""
    await db.execute(_INSERT_TOKEN, digest, session_id, now, expires_at)


async def session_of_token(db: Queries, digest: bytes) -> int | None:
    """The session a refresh token belongs to."""
    found: int | None = await db.fetchval(_TOKEN_SESSION, digest)
    return found


async def token(db: Queries, digest: bytes) -> Record | None:
    """expires_at, rotated_at, successor_rotated_at. Lock the session first."""
    return await db.fetchrow(_TOKEN, digest)


async def rotate(db: Queries, digest: bytes, successor: bytes, now: datetime) -> None:
    """The token has been exchanged for its successor."""
    await db.execute(_ROTATE, digest, now, successor)


async def purge(db: Queries, now: datetime) -> int:
    """Forget refresh tokens and failures that no longer mean anything."""
    return await db.execute(_PURGE_TOKENS, now) + await db.execute(_PURGE_FAILURES, now - timedelta(days=1))


# --- login failures ---------------------------------------------------------------------------------------------------

_FAILURES = sql("SELECT failures, last_at, blocked_until FROM gateway_login_failures WHERE key_digest = $1")
_LOCK_FAILURES = sql(
    "SELECT failures, last_at, blocked_until FROM gateway_login_failures WHERE key_digest = $1 FOR UPDATE"
)
_INSERT_FAILURES = sql(
    "INSERT INTO gateway_login_failures (key_digest, failures, last_at, blocked_until) VALUES ($1, $2, $3, $4)"
)
_UPDATE_FAILURES = sql(
    "UPDATE gateway_login_failures SET failures = $2, last_at = $3, blocked_until = $4 WHERE key_digest = $1"
)
_CLEAR = sql("DELETE FROM gateway_login_failures WHERE key_digest = $1")
_PURGE_FAILURES = sql("DELETE FROM gateway_login_failures WHERE last_at < $1")


def _failures(row: Record | None) -> Failures:
    if row is None:
        return NO_FAILURES
    until = row["blocked_until"]
    return Failures(row["failures"], to_ms(row["last_at"]), 0 if until is None else to_ms(until))


async def failures(db: Queries, key: bytes, *, lock: bool = False) -> Failures:
    """Failures under a key; with `lock`, nobody else counts meanwhile (unless there is no row yet)."""
    return _failures(await db.fetchrow(_LOCK_FAILURES if lock else _FAILURES, key))


async def put_failures(db: Queries, key: bytes, counted: Failures, *, before: Failures) -> None:
    """Write what was counted on top of `before`, which was read with `lock`.

    Raises `UniqueViolation` when there was no row to lock and another first failure was faster.
    """
    until = from_ms(counted.blocked_until_ms) if counted.blocked_until_ms else None
    statement = _INSERT_FAILURES if before is NO_FAILURES else _UPDATE_FAILURES
    await db.execute(statement, key, counted.count, from_ms(counted.last_ms), until)


async def clear_failures(db: Queries, key: bytes) -> None:
    """The right password was given: start again."""
    await db.execute(_CLEAR, key)
