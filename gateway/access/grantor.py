"""The gateway's implementation of `core.access.Grantor`: grants out of the tables, remembered for a moment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from core.access import Grants, Principal
from core.bus import Bus
from core.clock import Clock
from core.codec import pack, unpack
from core.db import Database, Queries, Transaction
from core.errors import BankhubError
from gateway.access import rules, store

log = structlog.get_logger(__name__)

CHANGED: Final = "gateway.access"
"""Bus channel: whose grants have changed. `[[person, enterprise], ...]`; person 0: everybody's there."""
FRESH_S: Final = (
    2.0  # without the bus, what was taken away is gone from reads after this; from writes at once
)
_REMEMBERED: Final = 50_000  # members at work at once in one process; some 400 bytes each


class MemberGrants:
    """Reads the tables; every process has its own."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._known: OrderedDict[tuple[int, int], tuple[float, Grants]] = OrderedDict()
        self._changes = 0

    async def grants(self, who: Principal) -> Grants:
        """See `core.access.Grantor`."""
        if not who.person_id:
            return await _of_app(self._db, who, self._clock)
        key = (who.person_id, who.enterprise_id)
        now_s = self._clock.monotonic_s()
        known = self._known.get(key)
        if known is not None and now_s - known[0] < FRESH_S:
            return known[1]
        before = self._changes
        found = await grants_of(self._db, who.enterprise_id, who.person_id)
        if self._changes != before:
            return found  # somebody's changed while we read: perhaps these
        self._known[key] = (now_s, found)
        self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    async def grants_now(self, tx: Transaction, who: Principal) -> Grants:
        """See `core.access.Grantor`."""
        if not who.person_id:
            return await _of_app(tx, who, self._clock)
        return await grants_of(tx, who.enterprise_id, who.person_id)

    async def grants_of_all(self, tx: Transaction, people: Sequence[Principal]) -> list[Grants]:
        """See `core.access.Grantor`."""
        held: dict[tuple[int, int], Grants] = {}
        for enterprise_id in sorted({who.enterprise_id for who in people}):
            members = sorted({who.person_id for who in people if who.enterprise_id == enterprise_id} - {0})
            for person_id, rows in (await store.held_by(tx, enterprise_id, members)).items():
                held[enterprise_id, person_id] = rules.grants_from(rows)
        return [
            found
            if (found := held.get((who.enterprise_id, who.person_id))) and not rules.needs_departments(found)
            else await self.grants_now(tx, who)
            for who in people
        ]

    async def follow(self, bus: Bus) -> None:
        """Forget at once what others have changed."""
        await bus.subscribe(CHANGED, self._hear)

    def forget(self, person_id: int, enterprise_id: int) -> None:
        """See `core.access.Grantor`."""
        self._changes += 1
        if person_id:
            self._known.pop((person_id, enterprise_id), None)
            return
        for key in [key for key in self._known if key[1] == enterprise_id]:
            del self._known[key]

    def _hear(self, payload: bytes) -> None:
        try:
            for person_id, enterprise_id in unpack(payload):
                self.forget(int(person_id), int(enterprise_id))
        except (BankhubError, TypeError, ValueError):
            log.warning("gateway.access_unreadable", payload_bytes=len(payload))


def changed(members: list[tuple[int, int]]) -> bytes:
    """What to publish on `CHANGED` when the grants of these (person, enterprise) have changed."""
    return pack([list(pair) for pair in members])


async def grants_of(db: Queries, enterprise_id: int, person_id: int) -> Grants:
    """What the tables say that this person has in this enterprise."""
    found = rules.grants_from(await store.held(db, enterprise_id, person_id))
    if not rules.needs_departments(found):
        return found
    mine = await store.departments_of(db, enterprise_id, person_id)
    tree = rules.below(await store.departments(db, enterprise_id), mine)
    return replace(found, departments=mine, tree=tree)


async def _of_app(db: Queries, who: Principal, clock: Clock) -> Grants:
    """An app that acts for itself holds what an administrator has installed it with, as long as that lasts."""
    if not who.client_id:
        return Grants(None)
    return rules.app_grants(await store.app(db, who.enterprise_id, int(who.client_id), clock.now()))
