"""SQL of one-time codes."""

from __future__ import annotations

from datetime import datetime, timedelta

from core.clock import from_ms, to_ms
from core.db import Queries, Transaction, UniqueViolation, sql
from gateway.codes.rules import Sent, Stored

_LOCK = sql("SELECT code_digest, tries, expires_at FROM gateway_codes WHERE slot_digest = $1 FOR UPDATE")
_INSERT = sql(
    "INSERT INTO gateway_codes (slot_digest, code_digest, tries, issued_at, expires_at) VALUES ($1, $2, 0, $3, $4)"
)
_REPLACE = sql(
    "UPDATE gateway_codes SET code_digest = $2, tries = 0, issued_at = $3, expires_at = $4 WHERE slot_digest = $1"
)
_TRIED = sql("UPDATE gateway_codes SET tries = tries + 1 WHERE slot_digest = $1")
_USE = sql("DELETE FROM gateway_codes WHERE slot_digest = $1")
_PURGE = sql("DELETE FROM gateway_codes WHERE expires_at < $1")

_LOCK_COUNT = sql("SELECT sent, window_at, last_at FROM gateway_code_counts WHERE key_digest = $1 FOR UPDATE")
_INSERT_COUNT = sql(
    "INSERT INTO gateway_code_counts (key_digest, sent, window_at, last_at) VALUES ($1, $2, $3, $4)"
)
_UPDATE_COUNT = sql(
    "UPDATE gateway_code_counts SET sent = $2, window_at = $3, last_at = $4 WHERE key_digest = $1"
)
_PURGE_COUNTS = sql("DELETE FROM gateway_code_counts WHERE last_at < $1")


async def lock(tx: Transaction, slot: bytes) -> Stored | None:
    """The code of this slot, which nobody else tries meanwhile."""
    row = await tx.fetchrow(_LOCK, slot)
    return None if row is None else Stored(row["code_digest"], row["tries"], to_ms(row["expires_at"]))


async def put(tx: Transaction, slot: bytes, code_digest: bytes, now: datetime, expires_at: datetime) -> None:
    """A new code for this slot; one before it is worth nothing any more."""
    if await tx.execute(_REPLACE, slot, code_digest, now, expires_at):
        return
    try:
        async with tx.savepoint():
            await tx.execute(_INSERT, slot, code_digest, now, expires_at)
    except UniqueViolation:
        await tx.execute(_REPLACE, slot, code_digest, now, expires_at)


async def tried(tx: Transaction, slot: bytes) -> None:
    """One more wrong try."""
    await tx.execute(_TRIED, slot)


async def use(tx: Transaction, slot: bytes) -> None:
    """The code is used up."""
    await tx.execute(_USE, slot)


async def lock_count(tx: Transaction, key: bytes) -> Sent | None:
    """What was sent under this key."""
    row = await tx.fetchrow(_LOCK_COUNT, key)
    return None if row is None else Sent(row["sent"], to_ms(row["window_at"]), to_ms(row["last_at"]))


async def put_count(tx: Transaction, key: bytes, counted: Sent, *, new: bool) -> None:
    """Write what was counted. Raises `UniqueViolation` where another first one was faster."""
    statement = _INSERT_COUNT if new else _UPDATE_COUNT
    await tx.execute(statement, key, counted.count, from_ms(counted.window_ms), from_ms(counted.last_ms))


async def purge(db: Queries, now: datetime) -> int:
    """Forget what no longer means anything."""
    return await db.execute(_PURGE, now) + await db.execute(_PURGE_COUNTS, now - timedelta(days=2))
