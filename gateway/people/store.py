"""SQL of who belongs to an enterprise, for those who are about to depend on it."""

from __future__ import annotations

from collections.abc import Sequence

from core.db import Transaction, sql

LOCK_MEMBERSHIPS = sql(
    "SELECT person_id FROM gateway_memberships WHERE enterprise_id = $1 AND state = 'active' AND person_id IN ($*) "
    "ORDER BY person_id FOR UPDATE"
)
ACTIVE_PEOPLE = sql("SELECT person_id FROM gateway_people WHERE state = 'active' AND person_id IN ($*)")


async def lock_active(tx: Transaction, enterprise_id: int, person_ids: Sequence[int]) -> set[int]:
    """The active members among these people (sorted by id), whose memberships nobody ends before `tx` does."""
    members = [row[0] for row in await tx.fetch_in(LOCK_MEMBERSHIPS, person_ids, enterprise_id)]
    return {row[0] for row in await tx.fetch_in(ACTIVE_PEOPLE, members)}
