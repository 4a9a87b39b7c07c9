"""Who belongs to an enterprise: the gateway's implementation of `im.api.People`."""

from __future__ import annotations

from collections.abc import Sequence

from core.db import Transaction
from gateway.people import store


class ActivePeople:
    """Asks the memberships, and holds them until the transaction ends."""

    async def active(self, tx: Transaction, enterprise_id: int, person_ids: Sequence[int]) -> set[int]:
        """See `im.api.People`."""
        return await store.lock_active(tx, enterprise_id, sorted(set(person_ids)))
