"""SQL of what people have agreed to."""

from __future__ import annotations

from datetime import datetime

from core.db import Queries, sql

_CONSENT = sql(
    "INSERT INTO gateway_consents (person_id, document, version, accepted_at) VALUES ($1, $2, $3, $4)"
)


async def consent(db: Queries, person_id: int, document: str, version: str, now: datetime) -> None:
    """A person has agreed to this version of a document."""
    await db.execute(_CONSENT, person_id, document, version, now)
