"""Refused access of those who got no further than the door: recorded without letting them fill the database.

To be nobody costs nothing, so a row for each attempt would be a way to write to our disk. Here the first refusal of its
kind (which action, outcome, source, person) is written; the same ones within an interval are counted and written as one
more row, `object_id` "+N" with the newest trace and time. So many kinds are told apart in an interval; those beyond
share one row for each action and outcome, without an address. `note` does no I/O.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import structlog

from core.addresses import source_of
from core.audit import store
from core.audit.rows import OUTCOME_CHARACTERS, Row, harmless, written
from core.crypto.ring import AUDIT
from core.db import UniqueViolation
from core.telemetry import counter, new_trace

if TYPE_CHECKING:
    from core.access import Principal
    from core.clock import Clock
    from core.context import Source
    from core.crypto.keyring import Keyring
    from core.db import Database
    from core.ids import Ids
    from core.rng import Rng

log = structlog.get_logger(__name__)

WRITE_S: Final = 1.0  # how soon the first of its kind is written
_LOST: Final = counter("bankhub_audit_unrecorded_total", "Refusals that could not be written")

Kind = tuple[str, str, str, int, int]  # action, outcome, source, enterprise, person


@dataclass(slots=True)
class _Kept:
    """One kind in this interval: its newest refusal, and how many came behind the one that was written."""

    newest: Row
    more: int = 0


class Refusals:
    """Those of one process. `most` kinds are told apart in an interval of `every_s` seconds."""

    def __init__(
        self, db: Database, clock: Clock, rng: Rng, ids: Ids, keys: Keyring, *, every_s: float, most: int
    ) -> None:
        self._db, self._clock, self._rng, self._ids, self._keys = db, clock, rng, ids, keys
        self._every_s, self._most = every_s, most
        self._kinds: dict[Kind, _Kept] = {}
        self._waiting: list[Row] = []
        self._began_s = clock.monotonic_s()
        self._writing, self._ending = asyncio.Lock(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def note(
        self,
        action: str,
        outcome: str,
        source: Source,
        *,
        who: Principal | None = None,
        device: str = "",
        trace_id: str | None = None,
    ) -> None:
        """Somebody was refused. `who`: whose credentials they were, if that is known."""
        outcome = outcome[:OUTCOME_CHARACTERS]
        enterprise_id, person_id = (who.enterprise_id, who.person_id) if who else (0, 0)
        kind: Kind = (action, outcome, source_of(source.address), enterprise_id, person_id)
        if kind not in self._kinds and len(self._kinds) >= self._most:
            kind = (action, outcome, "", 0, 0)
        row = Row(
            audit_id=0,
            enterprise_id=kind[3],
            person_id=kind[4],
            session_id=who.session_id if who and kind[4] else 0,
            client_id=harmless(who.client_id, 64) if who and kind[4] else None,
            device=harmless(device or (who.device if who else ""), 128) if kind[2] else None,
            address=harmless(source.address, 64) if kind[2] else None,
            edge=source.edge,
            action=action,
            outcome=outcome,
            object_id=None,
            request_digest=None,
            before_digest=None,
            after_digest=None,
            trace_id=trace_id or new_trace(self._rng).trace_id,
            happened_at=self._clock.now(),
            key_version=0,
        )
        kept = self._kinds.get(kind)
        if kept is None:
            self._kinds[kind] = _Kept(row)
            self._write(row)
        else:
            kept.newest, kept.more = row, kept.more + 1

    async def start(self) -> None:
        """Begin to write what is noted."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="core.audit.refusals")

    async def stop(self) -> None:
        """Write everything, then end."""
        self._ending.set()
        if self._task is not None:
            await self._task  # never in the middle of a write: whether it was committed would not be known
            self._task = None
        await self.flush(counts=True)

    async def flush(self, *, counts: bool = False) -> None:
        """Write what waits, and the counts where their interval is over. What the database does not take waits on."""
        now_s = self._clock.monotonic_s()
        if counts or now_s - self._began_s >= self._every_s:
            self._began_s = now_s
            self._count()
        async with self._writing:
            rows, self._waiting = self._waiting, []
            if not rows:
                return
            try:
                await self._db.run(store.insert, rows)
            except UniqueViolation:
                log.info("audit.refusals_were_written", rows=len(rows))  # and the answer to that was lost
            except Exception as error:
                log.warning("audit.refusals_wait", reason=type(error).__name__, rows=len(rows))
                self._waiting = rows + self._waiting

    def _count(self) -> None:
        """The interval is over: rows for what came again; who goes on is still known in the next one."""
        kinds, self._kinds = self._kinds, {}
        for kind, kept in kinds.items():
            if kept.more:
                self._write(replace(kept.newest, object_id=f"+{kept.more}"))
                self._kinds[kind] = _Kept(kept.newest)

    def _write(self, row: Row) -> None:
        if len(self._waiting) >= 4 * self._most:  # the database has been away for some intervals
            _LOST.inc()
            return
        key = self._keys.current(AUDIT)
        self._waiting.append(written(replace(row, audit_id=self._ids.next(), key_version=key.version), key))

    async def _run(self) -> None:
        while not self._ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), WRITE_S)
            await self.flush()
