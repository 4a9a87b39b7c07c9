"""Opens the inbox stream of a member, once."""

from __future__ import annotations

from collections.abc import Sequence

from core.clock import Clock
from core.db import Database, Transaction, UniqueViolation
from core.ids import Ids
from hub.membership import store

CACHE_MAX = 200_000


class SqlInboxes:
    """`Inboxes` on the database; remembers which exist, because they are never closed."""

    def __init__(self, db: Database, clock: Clock, ids: Ids) -> None:
        self._db, self._clock, self._ids = db, clock, ids
        self._open: set[tuple[int, int]] = set()

    async def ensure(self, members: Sequence[tuple[int, int]]) -> None:
        """See `hub.node.ports.Inboxes`."""
        missing = [m for m in dict.fromkeys(members) if m not in self._open]
        if not missing:
            return
        known = await store.with_inbox(self._db, [person for _, person in missing])
        fresh = [m for m in missing if m not in known]
        if fresh:
            try:
                await self._db.run(self._create, fresh)
            except UniqueViolation:  # another node was faster with one of them
                for member in fresh:
                    try:
                        await self._db.run(self._create, [member])
                    except UniqueViolation:
                        continue
        if len(self._open) > CACHE_MAX:
            self._open.clear()
        self._open.update(missing)

    async def _create(self, tx: Transaction, members: Sequence[tuple[int, int]]) -> None:
        await store.insert_inboxes(
            tx, [(self._ids.next(), *member) for member in members], self._clock.now_ms()
        )
