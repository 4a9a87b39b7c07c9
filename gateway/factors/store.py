"""SQL of second factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

from core.crypto.columns import Column, Columns
from core.db import Queries, Record, Transaction, sql
from gateway.factors.rules import shown_secret, unshown

SECRET: Final = Column("gateway_totp", "secret")

_TOTP = sql("SELECT secret_sealed, last_step, confirmed_at FROM gateway_totp WHERE person_id = $1 FOR UPDATE")
_HAS = sql("SELECT 1 FROM gateway_totp WHERE person_id = $1 AND confirmed_at IS NOT NULL")
_INSERT = sql(
    """
    INSERT INTO gateway_totp (person_id, secret_sealed, secret_key, last_step, enrolled_at, confirmed_at)
    VALUES ($1, $2, $3, 0, $4, NULL)
    """
)
_DELETE = sql("DELETE FROM gateway_totp WHERE person_id = $1")
_CONFIRM = sql("UPDATE gateway_totp SET confirmed_at = $2 WHERE person_id = $1")
_ADVANCE = sql("UPDATE gateway_totp SET last_step = $2 WHERE person_id = $1 AND last_step < $2")
_OUTDATED = sql(
    "SELECT person_id, secret_sealed FROM gateway_totp WHERE secret_key <> $1 ORDER BY person_id LIMIT $2 FOR UPDATE"
)
_RESEAL = sql("UPDATE gateway_totp SET secret_sealed = $2, secret_key = $3 WHERE person_id = $1")
_KEYS = sql("SELECT secret_key, COUNT(*) AS secrets FROM gateway_totp GROUP BY secret_key")

_DROP_CODES = sql("DELETE FROM gateway_recovery_codes WHERE person_id = $1")
_INSERT_CODE = sql(
    "INSERT INTO gateway_recovery_codes (person_id, code_digest, used_at) VALUES ($1, $2, NULL)"
)
_USE_CODE = sql(
    "UPDATE gateway_recovery_codes SET used_at = $3 WHERE person_id = $1 AND code_digest = $2 AND used_at IS NULL"
)
_CODES_LEFT = sql("SELECT COUNT(*) FROM gateway_recovery_codes WHERE person_id = $1 AND used_at IS NULL")

_INSERT_TICKET = sql(
    "INSERT INTO gateway_login_tickets (ticket_digest, person_id, bound_digest, sms, expires_at, guarded) "
    "VALUES ($1, $2, $3, $4, $5, $6)"
)
_TICKET = sql(
    "SELECT person_id, bound_digest, sms, expires_at, guarded FROM gateway_login_tickets "
    "WHERE ticket_digest = $1 FOR UPDATE"
)
_USE_TICKET = sql("DELETE FROM gateway_login_tickets WHERE ticket_digest = $1")
_DROP_TICKETS = sql("DELETE FROM gateway_login_tickets WHERE person_id = $1")
_PURGE_TICKETS = sql("DELETE FROM gateway_login_tickets WHERE expires_at < $1")


class Guard(IntEnum):
    """What was shown for a ticket that everybody gets, while too many guess."""

    RIGHT = 1
    WRONG = 2


@dataclass(frozen=True, slots=True)
class Totp:
    """A secret as the database has it."""

    secret: bytes
    last_step: int
    confirmed: bool


async def lock(tx: Transaction, columns: Columns, person_id: int) -> Totp | None:
    """The person's secret, whose codes nobody else tries meanwhile."""
    row = await tx.fetchrow(_TOTP, person_id)
    if row is None:
        return None
    secret = unshown(columns.open(SECRET, person_id, bytes(row["secret_sealed"])))
    return Totp(secret, row["last_step"], row["confirmed_at"] is not None)


async def has_totp(db: Queries, person_id: int) -> bool:
    """Whether it is a factor of this person's."""
    return await db.fetchval(_HAS, person_id) is not None


async def replace(db: Queries, columns: Columns, person_id: int, secret: bytes, now: datetime) -> None:
    """A new secret that is to be confirmed; the one before is gone."""
    sealed = columns.seal(SECRET, person_id, shown_secret(secret))
    await db.execute(_DELETE, person_id)
    await db.execute(_INSERT, person_id, sealed.sealed, sealed.key_version, now)


async def confirm(db: Queries, person_id: int, now: datetime) -> None:
    """Its codes have arrived: from now on it is a factor."""
    await db.execute(_CONFIRM, person_id, now)


async def advance(db: Queries, person_id: int, step: int) -> bool:
    """A code of this step was accepted; False where one of it, or of a later one, was before."""
    return bool(await db.execute(_ADVANCE, person_id, step))


async def remove(db: Queries, person_id: int) -> bool:
    """No factor any more, and no recovery codes for it."""
    await db.execute(_DROP_CODES, person_id)
    return bool(await db.execute(_DELETE, person_id))


async def reseal(tx: Transaction, columns: Columns, limit: int) -> int:
    """Seal secrets with the current key that were sealed with another; how many."""
    rows: list[Record] = await tx.fetch(_OUTDATED, columns.versions[0], limit)
    for row in rows:
        person_id = row["person_id"]
        sealed = columns.seal(SECRET, person_id, columns.open(SECRET, person_id, bytes(row["secret_sealed"])))
        await tx.execute(_RESEAL, person_id, sealed.sealed, sealed.key_version)
    return len(rows)


async def secret_keys(db: Queries) -> list[tuple[int, int]]:
    """(key version, secrets sealed with it): a key that is listed is still needed."""
    return [(row[0], row[1]) for row in await db.fetch(_KEYS)]


# --- recovery codes ---------------------------------------------------------------------------------------------------


async def put_codes(db: Queries, person_id: int, digests: Sequence[bytes]) -> None:
    """These, and none from before."""
    await db.execute(_DROP_CODES, person_id)
    for digest in digests:
        await db.execute(_INSERT_CODE, person_id, digest)


async def use_code(db: Queries, person_id: int, digest: bytes, now: datetime) -> bool:
    """Whether it was one, and not used before; it is now."""
    return bool(await db.execute(_USE_CODE, person_id, digest, now))


async def codes_left(db: Queries, person_id: int) -> int:
    """How many recovery codes are good."""
    found: int = await db.fetchval(_CODES_LEFT, person_id)
    return found


# --- logins that wait -------------------------------------------------------------------------------------------------


async def put_ticket(
    db: Queries,
    digest: bytes,
    person_id: int,
    bound: bytes,
    *,
    sms: bool,
    expires_at: datetime,
    guarded: Guard | None = None,
) -> None:
    """Somebody has shown one thing; or, guarded, may have."""
    await db.execute(_INSERT_TICKET, digest, person_id, bound, int(sms), expires_at, guarded)


async def lock_ticket(tx: Transaction, digest: bytes) -> Record | None:
    """person_id, bound_digest, sms, expires_at, guarded."""
    return await tx.fetchrow(_TICKET, digest)


async def use_ticket(db: Queries, digest: bytes) -> None:
    """It has begun its session."""
    await db.execute(_USE_TICKET, digest)


async def drop_tickets(db: Queries, person_id: int) -> None:
    """Whoever has shown one thing of this person shows it anew."""
    await db.execute(_DROP_TICKETS, person_id)


async def purge(db: Queries, now: datetime) -> int:
    """Forget tickets that nobody came back with."""
    return await db.execute(_PURGE_TICKETS, now)
