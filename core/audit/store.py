"""SQL of the audit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from typing import Any, Final

from core.audit.chain import Head, Seal, empty
from core.audit.rows import Row, stored
from core.db import Queries, Record, Transaction, UniqueViolation, sql

FIRST: Final = -(1 << 63)
"""The lowest id there can be. Ours are positive; a forger's need not be."""

_COLUMNS: Final = len(fields(Row))
_CHAINS: Final = "chains are made and checked for every tenant, each with its own filter where rows are read"

_INSERT = sql(
    """
    INSERT INTO core_audit (audit_id, enterprise_id, person_id, session_id, client_id, device, address, edge, action,
                            outcome, object_id, request_digest, before_digest, after_digest, trace_id, happened_at,
                            key_version, mac, seq)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, 0)
    """
)
_WAITING_TENANTS = sql(
    "SELECT enterprise_id FROM core_audit WHERE seq = 0 GROUP BY enterprise_id ORDER BY enterprise_id",
    exempt=_CHAINS,
)
_WAITING = sql(
    """
    SELECT audit_id, enterprise_id, person_id, session_id, client_id, device, address, edge, action, outcome, object_id,
           request_digest, before_digest, after_digest, trace_id, happened_at, key_version, mac
    FROM core_audit WHERE enterprise_id = $1 AND seq = 0 AND audit_id >= $2 ORDER BY audit_id LIMIT $3
    """
)
_CHAINED = sql(
    """
    SELECT audit_id, enterprise_id, person_id, session_id, client_id, device, address, edge, action, outcome, object_id,
           request_digest, before_digest, after_digest, trace_id, happened_at, key_version, mac, seq, digest
    FROM core_audit WHERE enterprise_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq, audit_id LIMIT $4
    """
)
_PLACE = sql("UPDATE core_audit SET seq = $3, digest = $4 WHERE audit_id = $1 AND enterprise_id = $2")
_COUNT = sql("SELECT COUNT(*) FROM core_audit WHERE enterprise_id = $1 AND seq <> 0 AND seq <= $2")
_BEYOND = sql(
    """
    SELECT COUNT(*) FROM core_audit a WHERE a.enterprise_id = $1 AND a.seq > COALESCE(
        (SELECT MAX(s.last_seq) FROM core_audit_seals s WHERE s.enterprise_id = $1), 0)
    """
)
_TENANTS = sql(
    """
    SELECT enterprise_id FROM core_audit WHERE enterprise_id >= $1
    UNION SELECT enterprise_id FROM core_audit_seals WHERE enterprise_id >= $1
    UNION SELECT enterprise_id FROM core_audit_heads WHERE enterprise_id >= $1
    ORDER BY enterprise_id
    """,
    exempt=_CHAINS,
)
_LOCK_HEAD = sql(
    """
    SELECT enterprise_id, seal_no, last_seq, digest, seal_digest, exported_no FROM core_audit_heads
    WHERE enterprise_id = $1 ORDER BY enterprise_id LIMIT 1 FOR UPDATE SKIP LOCKED
    """
)
_HEAD = sql(
    """
    SELECT h.enterprise_id, h.seal_no, h.last_seq, h.digest, h.seal_digest, h.exported_no, s.seal_no AS sealed_no,
           s.last_seq AS sealed_seq, s.digest AS sealed_digest
    FROM core_audit_heads h
    LEFT JOIN core_audit_seals s ON s.enterprise_id = h.enterprise_id AND s.seal_no = (
        SELECT MAX(t.seal_no) FROM core_audit_seals t WHERE t.enterprise_id = $1)
    WHERE h.enterprise_id = $1
    """
)
_NEW_HEAD = sql(
    """
    INSERT INTO core_audit_heads (enterprise_id, seal_no, last_seq, digest, seal_digest, exported_no)
    VALUES ($1, $2, $3, $4, $5, $6)
    """
)
_MOVE_HEAD = sql(
    "UPDATE core_audit_heads SET seal_no = $2, last_seq = $3, digest = $4, seal_digest = $5 WHERE enterprise_id = $1"
)
_NEW_SEAL = sql(
    """
    INSERT INTO core_audit_seals (enterprise_id, seal_no, last_seq, digest, previous, sealed_at, key_version, signature)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    """
)
_SEALS = sql(
    """
    SELECT enterprise_id, seal_no, last_seq, digest, previous, sealed_at, key_version, signature
    FROM core_audit_seals WHERE enterprise_id = $1 AND seal_no > $2 ORDER BY seal_no LIMIT $3
    """
)
_SEAL_COUNT = sql("SELECT COUNT(*) FROM core_audit_seals WHERE enterprise_id = $1")
_UNEXPORTED = sql(
    "SELECT enterprise_id FROM core_audit_heads WHERE exported_no < seal_no ORDER BY enterprise_id",
    exempt=_CHAINS,
)
_EXPORTED_NO = sql("SELECT exported_no FROM core_audit_heads WHERE enterprise_id = $1")
_EVERY_EXPORTED = sql(
    "SELECT enterprise_id, exported_no FROM core_audit_heads WHERE exported_no > 0", exempt=_CHAINS
)
_EXPORTED = sql("UPDATE core_audit_heads SET exported_no = $2 WHERE enterprise_id = $1 AND exported_no < $2")

# --- rows -------------------------------------------------------------------------------------------------------------


async def insert(db: Queries, rows: Sequence[Row]) -> None:
    """Write rows, in one round trip."""
    if len(rows) == 1:
        await db.execute(_INSERT, *stored(rows[0]))
    elif rows:
        await db.executemany(_INSERT, [stored(row) for row in rows])


async def waiting_tenants(db: Queries) -> list[int]:
    """Tenants with rows that are not in the chain yet."""
    return [row[0] for row in await db.fetch(_WAITING_TENANTS)]


async def waiting(db: Queries, enterprise_id: int, limit: int, first: int = FIRST) -> list[Row]:
    """Rows that are not in the chain yet, by id, from `first` on."""
    return [_row(record) for record in await db.fetch(_WAITING, enterprise_id, first, limit)]


async def place(tx: Transaction, rows: Iterable[tuple[Row, int, bytes]]) -> None:
    """Give rows their number and digest. Whoever does holds the head."""
    await tx.executemany(
        _PLACE, [(row.audit_id, row.enterprise_id, seq, digest) for row, seq, digest in rows]
    )


async def chained(
    db: Queries, enterprise_id: int, after: int, upto: int, limit: int
) -> list[tuple[Row, int, bytes | None]]:
    """(row, its number, its digest) by number."""
    found = await db.fetch(_CHAINED, enterprise_id, after, upto, limit)
    return [(_row(record), record[_COLUMNS], _bytes(record[_COLUMNS + 1])) for record in found]


async def count(db: Queries, enterprise_id: int, upto: int) -> int:
    """How many rows have a number up to this one."""
    return int(await db.fetchval(_COUNT, enterprise_id, upto))


async def beyond(db: Queries, enterprise_id: int) -> int:
    """How many rows have a number that no seal covers: none, ever, because both are written together."""
    return int(await db.fetchval(_BEYOND, enterprise_id))


async def tenants(db: Queries) -> list[int]:
    """Every tenant that anything is recorded of."""
    return [row[0] for row in await db.fetch(_TENANTS, FIRST)]


# --- heads and seals --------------------------------------------------------------------------------------------------


async def lock_head(tx: Transaction, enterprise_id: int) -> Head | None:
    """The head, for this transaction alone; None while somebody else has it."""
    record = await tx.fetchrow(_LOCK_HEAD, enterprise_id)
    if record is not None:
        return Head(record[0], record[1], record[2], bytes(record[3]), bytes(record[4]), record[5])
    if await tx.fetchval(_EXPORTED_NO, enterprise_id) is not None:
        return None
    head = empty(enterprise_id)
    try:
        async with tx.savepoint():
            await tx.execute(_NEW_HEAD, *astuple(head))
    except UniqueViolation:
        return None
    return head


async def move_head(tx: Transaction, seal: Seal) -> None:
    """Write a seal, and that the chain goes on behind it."""
    await tx.execute(_NEW_SEAL, *astuple(seal))
    await tx.execute(
        _MOVE_HEAD, seal.enterprise_id, seal.seal_no, seal.last_seq, seal.digest, seal.own_digest()
    )


async def head_beside_seal(db: Queries, enterprise_id: int) -> tuple[Head, tuple[int, int, bytes]] | None:
    """The head, and (number, last row, digest) of the last seal, as of one moment."""
    record = await db.fetchrow(_HEAD, enterprise_id)
    if record is None:
        return None
    head = Head(record[0], record[1], record[2], bytes(record[3]), bytes(record[4]), record[5])
    if record["sealed_no"] is None:
        return head, (0, 0, empty(enterprise_id).digest)
    return head, (record["sealed_no"], record["sealed_seq"], bytes(record["sealed_digest"]))


async def seals(db: Queries, enterprise_id: int, after: int, limit: int) -> list[Seal]:
    """Seals by number."""
    return [
        Seal(r[0], r[1], r[2], bytes(r[3]), bytes(r[4]), r[5], r[6], bytes(r[7]))
        for r in await db.fetch(_SEALS, enterprise_id, after, limit)
    ]


async def count_seals(db: Queries, enterprise_id: int) -> int:
    """How many there are."""
    return int(await db.fetchval(_SEAL_COUNT, enterprise_id))


async def unexported(db: Queries) -> list[int]:
    """Tenants with seals that have not left the database."""
    return [row[0] for row in await db.fetch(_UNEXPORTED)]


async def exported_no(db: Queries, enterprise_id: int) -> int:
    """The last seal that has left the database."""
    return int(await db.fetchval(_EXPORTED_NO, enterprise_id) or 0)


async def every_exported(db: Queries) -> dict[int, int]:
    """The last seal of each tenant that has left the database."""
    return {row[0]: row[1] for row in await db.fetch(_EVERY_EXPORTED)}


async def mark_exported(db: Queries, enterprise_id: int, seal_no: int) -> None:
    """Seals up to this one have left the database."""
    await db.execute(_EXPORTED, enterprise_id, seal_no)


def _row(record: Record) -> Row:
    values: list[Any] = [
        bytes(v) if isinstance(v, memoryview | bytearray) else v for v in list(record)[:_COLUMNS]
    ]
    return Row(*values)


def _bytes(value: bytes | None) -> bytes | None:
    return None if value is None else bytes(value)
