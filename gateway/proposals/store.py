"""SQL of open proposals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.clock import to_ms
from core.db import Queries, sql
from gateway.proposals.rules import Proposal

_LOCK = sql(
    "SELECT decision, proposed_by, proposed_at FROM gateway_proposals WHERE kind = $1 AND object_id = $2 FOR UPDATE"
)
_SOME = sql(
    "SELECT object_id, decision, proposed_by, proposed_at FROM gateway_proposals WHERE kind = $1 AND object_id IN ($*)"
)
_UPDATE = sql(
    "UPDATE gateway_proposals SET decision = $3, proposed_by = $4, proposed_at = $5 WHERE kind = $1 AND object_id = $2"
)
_INSERT = sql(
    "INSERT INTO gateway_proposals (kind, object_id, decision, proposed_by, proposed_at) VALUES ($1, $2, $3, $4, $5)"
)
_DELETE = sql("DELETE FROM gateway_proposals WHERE kind = $1 AND object_id = $2")


async def lock(db: Queries, kind: str, object_id: int) -> Proposal | None:
    """The open proposal about this object."""
    row = await db.fetchrow(_LOCK, kind, object_id)
    return None if row is None else Proposal(row["decision"], row["proposed_by"], to_ms(row["proposed_at"]))


async def some(db: Queries, kind: str, object_ids: Sequence[int]) -> dict[int, Proposal]:
    """Open proposals about these objects."""
    return {
        row["object_id"]: Proposal(row["decision"], row["proposed_by"], to_ms(row["proposed_at"]))
        for row in await db.fetch_in(_SOME, object_ids, kind)
    }


async def put(db: Queries, kind: str, object_id: int, decision: str, by: int, now: datetime) -> None:
    """Note a proposal, in the place of another. Raises `UniqueViolation` where two were first."""
    if not await db.execute(_UPDATE, kind, object_id, decision, by, now):
        await db.execute(_INSERT, kind, object_id, decision, by, now)


async def clear(db: Queries, kind: str, object_id: int) -> None:
    """Nothing is proposed any more."""
    await db.execute(_DELETE, kind, object_id)
