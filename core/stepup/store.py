"""SQL of step-ups. Evidence is only ever added: no statement changes or removes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime

from core.clock import from_ms, to_ms
from core.crypto.keyring import Keyring
from core.crypto.sm4 import NotAuthentic
from core.db import Queries, Record, Transaction, sql
from core.errors import Invalid
from core.rng import Rng
from core.stepup.evidence import Evidence, seal, unseal
from core.stepup.rules import Challenge, Kept

_INSERT = sql(
    """
    INSERT INTO core_stepups (challenge_id, enterprise_id, person_id, session_id, action, ways, nonce, command_digest,
                              key_version, message_sealed, issued_at, expires_at, proven_at, spent_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, NULL)
    """
)
_LOCK = sql(
    """
    SELECT challenge_id, enterprise_id, person_id, session_id, action, ways, nonce, command_digest, key_version,
           message_sealed, expires_at, proven_at, spent_at
    FROM core_stepups WHERE challenge_id = $1 AND enterprise_id = $2 FOR UPDATE
    """
)
_PROVE = sql("UPDATE core_stepups SET proven_at = $3 WHERE challenge_id = $1 AND enterprise_id = $2")
_SPEND = sql("UPDATE core_stepups SET spent_at = $3 WHERE challenge_id = $1 AND enterprise_id = $2")
_PURGE = sql(
    "DELETE FROM core_stepups WHERE expires_at < $1", exempt="retention is the same for every tenant"
)

_INSERT_EVIDENCE = sql(
    """
    INSERT INTO core_evidence (challenge_id, enterprise_id, person_id, action, algorithm, point, signature, digest,
                               key_version, message_sealed, proven_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    """
)
_EVIDENCE = sql(
    """
    SELECT challenge_id, enterprise_id, person_id, action, algorithm, point, signature, digest, key_version,
           message_sealed, proven_at
    FROM core_evidence WHERE challenge_id > $1 AND challenge_id <= $2 ORDER BY challenge_id LIMIT $3
    """,
    exempt="verifying evidence is the operator's, over all tenants",
)
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Waiting:
    """A challenge that is to be proved."""

    kept: Kept
    ways: tuple[str, ...]
    message: bytes


async def insert(
    db: Queries,
    keys: Keyring,
    rng: Rng,
    challenge: Challenge,
    *,
    ways: tuple[str, ...],
    command_digest: bytes,
    message: bytes,
) -> None:
    """Keep a challenge; the message is sealed for its row."""
    version, sealed = seal(keys, rng, message, _place(challenge.challenge_id))
    await db.execute(
        _INSERT,
        challenge.challenge_id,
        challenge.enterprise_id,
        challenge.person_id,
        challenge.session_id,
        challenge.action,
        ",".join(ways),
        challenge.nonce,
        command_digest,
        version,
        sealed,
        from_ms(challenge.issued_ms),
        from_ms(challenge.expires_ms),
    )


async def lock(tx: Transaction, challenge_id: int, enterprise_id: int) -> Kept | None:
    """The challenge, which nobody proves or spends before `tx` ends."""
    row = await tx.fetchrow(_LOCK, challenge_id, enterprise_id)
    return None if row is None else _kept(row)


async def lock_waiting(
    tx: Transaction, keys: Keyring, challenge_id: int, enterprise_id: int
) -> Waiting | None:
    """The same with its message."""
    row = await tx.fetchrow(_LOCK, challenge_id, enterprise_id)
    if row is None:
        return None
    message = unseal(keys, row["key_version"], bytes(row["message_sealed"]), _place(challenge_id))
    return Waiting(_kept(row), tuple(row["ways"].split(",")), message)


async def prove(db: Queries, keys: Keyring, rng: Rng, evidence: Evidence) -> None:
    """The challenge is proven; keep what proves it. In the transaction that locked it."""
    await db.execute(_PROVE, evidence.challenge_id, evidence.enterprise_id, evidence.proven_at)
    version, sealed = seal(keys, rng, evidence.message, evidence.place())
    await db.execute(
        _INSERT_EVIDENCE,
        evidence.challenge_id,
        evidence.enterprise_id,
        evidence.person_id,
        evidence.action,
        evidence.algorithm,
        evidence.point,
        evidence.signature,
        evidence.digest,
        version,
        sealed,
        evidence.proven_at,
    )


async def spend(db: Queries, challenge_id: int, enterprise_id: int, now: datetime) -> None:
    """The action it was for is being done: it is good for nothing more."""
    await db.execute(_SPEND, challenge_id, enterprise_id, now)


async def purge(db: Queries, before: datetime) -> int:
    """Forget challenges that ended before; evidence stays."""
    return await db.execute(_PURGE, before)


async def every_evidence(
    db: Queries, keys: Keyring, only: int | None = None
) -> AsyncIterator[tuple[int, Evidence | None]]:
    """Every piece in order, or one: its id, and None for a row that is not as it was written."""
    after, last = (0, (1 << 63) - 1) if only is None else (only - 1, only)
    while rows := await db.fetch(_EVIDENCE, after, last, _PAGE):
        for row in rows:
            after = row["challenge_id"]
            yield after, _evidence(keys, row)


def _evidence(keys: Keyring, row: Record) -> Evidence | None:
    found = Evidence(
        challenge_id=row["challenge_id"],
        enterprise_id=row["enterprise_id"],
        person_id=row["person_id"],
        action=row["action"],
        algorithm=row["algorithm"],
        point=None if row["point"] is None else bytes(row["point"]),
        signature=None if row["signature"] is None else bytes(row["signature"]),
        message=b"",
        proven_at=row["proven_at"],
    )
    try:
        message = unseal(keys, row["key_version"], bytes(row["message_sealed"]), found.place())
    except (NotAuthentic, Invalid):
        return None
    found = replace(found, message=message)
    return found if found.digest == bytes(row["digest"]) else None


def _kept(row: Record) -> Kept:
    return Kept(
        enterprise_id=row["enterprise_id"],
        person_id=row["person_id"],
        session_id=row["session_id"],
        action=row["action"],
        nonce=bytes(row["nonce"]),
        command_digest=bytes(row["command_digest"]),
        expires_ms=to_ms(row["expires_at"]),
        proven=row["proven_at"] is not None,
        spent=row["spent_at"] is not None,
    )


def _place(challenge_id: int) -> bytes:
    return f"core_stepups {challenge_id}".encode()
