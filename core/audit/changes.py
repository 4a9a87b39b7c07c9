"""Changes that no action makes, such as those of live settings: their row, in the transaction of the change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.audit import store
from core.audit.rows import Row, digest_of, harmless, written
from core.crypto.ring import AUDIT
from core.telemetry import new_trace

if TYPE_CHECKING:
    from core.clock import Clock
    from core.crypto.keyring import Keyring
    from core.db import Transaction
    from core.ids import Ids
    from core.rng import Rng


class Changes:
    """See the module."""

    def __init__(self, clock: Clock, rng: Rng, ids: Ids, keys: Keyring) -> None:
        self._clock, self._rng, self._ids, self._keys = clock, rng, ids, keys

    async def record(
        self, tx: Transaction, what: str, about: str, by: int, before: object, after: object
    ) -> None:
        """`by` (a person; 0: the command line) made `after` of `before`, of which there are digests only."""
        key = self._keys.current(AUDIT)
        row = Row(
            audit_id=self._ids.next(),
            enterprise_id=0,
            person_id=by,
            session_id=0,
            client_id=None,
            device=None,
            address=None,
            edge="process",
            action=what,
            outcome="ok",
            object_id=harmless(about, 64),
            request_digest=None,
            before_digest=digest_of(key, before),
            after_digest=digest_of(key, after),
            trace_id=new_trace(self._rng).trace_id,
            happened_at=self._clock.now(),
            key_version=key.version,
        )
        await store.insert(tx, [written(row, key)])
