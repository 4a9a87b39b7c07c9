"""SQL of invitations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from core.clock import to_ms
from core.db import Queries, Record, sql
from gateway.api.identity import Placement
from gateway.invitations.rules import Invitation

_COLUMNS = (
    "invitation_id, enterprise_id, roles, departments, title, uses_max, uses, created_by, created_at, expires_at, "
    "revoked_at"
)
_INSERT = sql(
    "INSERT INTO gateway_invitations (invitation_id, enterprise_id, code_digest, roles, departments, title, uses_max, "
    "uses, created_by, created_at, expires_at, revoked_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $10, NULL)"
)
_ONE = sql(f"SELECT {_COLUMNS} FROM gateway_invitations WHERE enterprise_id = $1 AND invitation_id = $2")
_LATEST = sql(
    f"SELECT {_COLUMNS} FROM gateway_invitations WHERE enterprise_id = $1 ORDER BY invitation_id DESC LIMIT 100"
)
_BY_CODE = sql(
    f"SELECT {_COLUMNS} FROM gateway_invitations WHERE code_digest = $1",
    exempt="the code is the way into an enterprise that its bearer does not belong to yet",
)
_LOCK = sql(
    f"SELECT {_COLUMNS} FROM gateway_invitations WHERE enterprise_id = $1 AND invitation_id = $2 FOR UPDATE"
)
_REVOKE = sql(
    "UPDATE gateway_invitations SET revoked_at = $3 "
    "WHERE enterprise_id = $1 AND invitation_id = $2 AND revoked_at IS NULL"
)
_USE = sql("UPDATE gateway_invitations SET uses = uses + 1 WHERE enterprise_id = $1 AND invitation_id = $2")


async def insert(
    db: Queries,
    enterprise_id: int,
    invitation_id: int,
    *,
    code_digest: bytes,
    roles: Sequence[str],
    departments: Sequence[Placement],
    title: str | None,
    uses_max: int,
    by: int,
    now: datetime,
    expires_at: datetime,
) -> None:
    """A new invitation."""
    await db.execute(
        _INSERT,
        invitation_id,
        enterprise_id,
        code_digest,
        json.dumps(sorted(set(roles))),
        json.dumps([[one.department_id, one.is_head] for one in departments]),
        title,
        uses_max,
        by,
        now,
        expires_at,
    )


async def one(db: Queries, enterprise_id: int, invitation_id: int) -> Record | None:
    """One of an enterprise's invitations."""
    return await db.fetchrow(_ONE, enterprise_id, invitation_id)


async def latest(db: Queries, enterprise_id: int) -> list[Record]:
    """The newest hundred."""
    return await db.fetch(_LATEST, enterprise_id)


async def by_code(db: Queries, code_digest: bytes) -> Record | None:
    """Whatever state it is in."""
    return await db.fetchrow(_BY_CODE, code_digest)


async def lock(db: Queries, enterprise_id: int, invitation_id: int) -> Record | None:
    """Nobody else uses it meanwhile."""
    return await db.fetchrow(_LOCK, enterprise_id, invitation_id)


async def revoke(db: Queries, enterprise_id: int, invitation_id: int, now: datetime) -> bool:
    """False where there is none, or it has been revoked."""
    return await db.execute(_REVOKE, enterprise_id, invitation_id, now) == 1


async def use(db: Queries, enterprise_id: int, invitation_id: int) -> None:
    """One more has come in by it."""
    await db.execute(_USE, enterprise_id, invitation_id)


def standing(row: Record) -> Invitation:
    """What the rules ask of a row."""
    return Invitation(row["uses"], row["uses_max"], to_ms(row["expires_at"]), row["revoked_at"] is not None)


def roles_of(row: Record) -> list[str]:
    """The roles it gives."""
    return list(json.loads(row["roles"]))


def departments_of(row: Record) -> list[Placement]:
    """The departments it puts people in."""
    return [
        Placement(department_id=department_id, is_head=head)
        for department_id, head in json.loads(row["departments"])
    ]
