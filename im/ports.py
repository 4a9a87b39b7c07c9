"""What im asks of the packages above it; the composition root hands the implementations in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from core.db import Transaction


class People(Protocol):
    """Who belongs to an enterprise."""

    async def active(self, tx: Transaction, enterprise_id: int, person_ids: Sequence[int]) -> set[int]:
        """Those of these people who belong to the enterprise now, and will until `tx` ends.

        Without that promise somebody could be added to a conversation just behind the end of their membership.
        """
