"""SQL of what people have agreed to."""

from __future__ import annotations

from datetime import datetime

from core.db import Queries, Record, sql

_CONSENT = sql(
    "INSERT INTO gateway_consents (person_id, document, version, accepted_at) VALUES ($1, $2, $3, $4)"
)
_OF_PERSON = sql(
    "SELECT document, version, accepted_at FROM gateway_consents WHERE person_id = $1 ORDER BY accepted_at"
)


async def consent(db: Queries, person_id: int, document: str, version: str, now: datetime) -> None:
    """A person has agreed to this version of a document."""
    await db.execute(_CONSENT, person_id, document, version, now)


async def consents(db: Queries, person_id: int) -> list[Record]:
    """document, version, accepted_at, oldest first."""
    return await db.fetch(_OF_PERSON, person_id)
