"""Who belongs to an enterprise, for the packages below: the gateway's implementation of `im.api.People`."""

from __future__ import annotations

from collections.abc import Sequence

from core.db import Transaction
from gateway.identity import store


class Directory:
    """Asks the memberships, and holds on to what it answers until the caller's transaction ends."""

    async def active(self, tx: Transaction, enterprise_id: int, person_ids: Sequence[int]) -> set[int]:
        """See `im.api.People`: whoever is in the answer cannot leave the enterprise before `tx` ends."""
        return await store.hold_members(tx, enterprise_id, sorted(set(person_ids)))
