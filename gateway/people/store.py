"""SQL of who belongs to an enterprise, for those who are about to depend on it, and of phone numbers at rest."""

from __future__ import annotations

from collections.abc import Sequence

from core.db import Queries, Record, Transaction, sql

LOCK_MEMBERSHIPS = sql(
    "SELECT person_id FROM gateway_memberships WHERE enterprise_id = $1 AND state = 'active' AND person_id IN ($*) "
    "ORDER BY person_id FOR UPDATE"
)
ACTIVE_PEOPLE = sql("SELECT person_id FROM gateway_people WHERE state = 'active' AND person_id IN ($*)")


async def lock_active(tx: Transaction, enterprise_id: int, person_ids: Sequence[int]) -> set[int]:
    """The active members among these people (sorted by id), whose memberships nobody ends before `tx` does."""
    members = [row[0] for row in await tx.fetch_in(LOCK_MEMBERSHIPS, person_ids, enterprise_id)]
    return {row[0] for row in await tx.fetch_in(ACTIVE_PEOPLE, members)}


_OUTDATED = sql(
    """
    SELECT person_id, phone_sealed FROM gateway_people
    WHERE phone_key <> $1 OR phone_index_key <> $2
    ORDER BY person_id LIMIT $3 FOR UPDATE SKIP LOCKED
    """
)
_ANY_PHONE = sql(
    "SELECT person_id, phone_sealed FROM gateway_people WHERE phone_sealed IS NOT NULL ORDER BY person_id LIMIT 1"
)
_WITH_KEYS = sql(
    """
    SELECT phone_key, phone_index_key, COUNT(*) AS people FROM gateway_people
    WHERE phone_key IS NOT NULL GROUP BY phone_key, phone_index_key
    """
)


async def lock_outdated(tx: Transaction, key: int, index_key: int, limit: int) -> list[Record]:
    """person_id and phone_sealed of people whose number was sealed with other keys than these."""
    return await tx.fetch(_OUTDATED, key, index_key, limit)


async def any_phone(db: Queries) -> Record | None:
    """person_id and phone_sealed of somebody: to see whether the keys fit what is stored."""
    return await db.fetchrow(_ANY_PHONE)


async def phone_keys(db: Queries) -> list[tuple[int, int, int]]:
    """(column key, index key, people whose number was sealed with them): a key that is listed is still needed."""
    return [(row[0], row[1], row[2]) for row in await db.fetch(_WITH_KEYS)]
