"""Makes the chain longer: gives committed rows their numbers and digests and seals each batch.

Every process has one; a tenant's head is locked by whoever is at it, others go on to the next tenant. A process that
dies lets go with its connection. A row of a transaction that took minutes gets its number when it is committed, behind
others that happened later: the chain is the order in which rows became facts.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from core.audit import store
from core.audit.chain import Seal, link
from core.audit.exports import Exports
from core.audit.rows import fault_of
from core.crypto.ring import SEALS
from core.errors import Unavailable
from core.failpoints import failpoint
from core.telemetry import counter

if TYPE_CHECKING:
    from core.clock import Clock
    from core.crypto.keyring import Keyring
    from core.crypto.provider import CryptoProvider
    from core.db import Database, Transaction
    from core.rng import Rng

log = structlog.get_logger(__name__)

BATCH: Final = 1_000  # rows under one seal: a transaction of some 50 ms
_SLICE: Final = 50  # rows without a pause: some 2 ms
_LOOK_S: Final = 60.0  # for seals that a process could not export before it died

_CHAINED: Final = counter("bankhub_audit_chained_total", "Audit rows that were chained and sealed")
_FORGED: Final = counter("bankhub_audit_forged_total", "Audit rows that this program did not write")


class Chainer:
    """See the module."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        rng: Rng,
        keys: Keyring,
        provider: CryptoProvider,
        exports: Exports,
        *,
        every_s: float,
        batch: int = BATCH,
    ) -> None:
        self._db, self._clock, self._rng = db, clock, rng
        self._keys, self._provider, self._exports = keys, provider, exports
        self._every_s, self._batch = every_s, batch
        self._task: asyncio.Task[None] | None = None
        self._looked_s: float | None = None

    async def start(self) -> None:
        """Begin to chain what is there."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="core.audit")

    async def stop(self) -> None:
        """Chain what this process has written, then end."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        try:
            await self.run_once()
        except Exception as error:
            log.warning("audit.chainer_stopped_early", reason=type(error).__name__)

    async def run_once(self) -> int:
        """Chain and seal what is waiting, of every tenant that nobody else is at; how many rows.

        A chain that cannot go on stops no other one: what it raised is raised at the end.
        """
        done, broken = 0, list[Exception]()
        for enterprise_id in await store.waiting_tenants(self._db):
            try:
                done += await self._run_tenant(enterprise_id)
            except Unavailable:
                raise  # the database or who signs: nobody's chain goes on
            except Exception as error:
                log.error("audit.chain_stopped", enterprise_id=enterprise_id, reason=type(error).__name__)
                broken.append(error)
        now_s = self._clock.monotonic_s()
        if self._looked_s is None or now_s - self._looked_s > _LOOK_S:
            self._looked_s = now_s
            for enterprise_id in await store.unexported(self._db):
                await self._export(enterprise_id)
        if broken:
            raise broken[0]
        return done

    async def _run_tenant(self, enterprise_id: int) -> int:
        done, batch = 0, self._batch
        while batch == self._batch:
            batch = await self._db.run(self._chain, enterprise_id)
            done += batch
        if done:
            await self._export(enterprise_id)
        return done

    async def _run(self) -> None:
        while True:
            try:
                await self.run_once()
            except Exception as error:
                log.warning("audit.chainer_waits", reason=type(error).__name__)
            await asyncio.sleep(self._every_s * (0.5 + self._rng.random()))

    async def _chain(self, tx: Transaction, enterprise_id: int) -> int:
        head = await store.lock_head(tx, enterprise_id)
        rows = await store.waiting(tx, enterprise_id, self._batch) if head is not None else []
        if head is None or not rows:
            return 0
        digest, placed = head.digest, []
        for seq, row in enumerate(rows, head.last_seq + 1):
            if fault_of(row, self._keys) is not None:
                log.error("audit.row_forged", audit_id=row.audit_id)  # kept and chained: it is evidence, too
                _FORGED.inc()
            digest = link(digest, seq, row)
            placed.append((row, seq, digest))
            if not len(placed) % _SLICE:
                await asyncio.sleep(0)  # it is arithmetic: those who talk meanwhile have their turns
        await store.place(tx, placed)
        key = self._keys.current(SEALS)
        seal = Seal(
            enterprise_id,
            head.seal_no + 1,
            placed[-1][1],
            digest,
            head.seal_digest,
            self._clock.now(),
            key.version,
        )
        signature = await self._provider.sign(key, seal.message())
        await store.move_head(tx, replace(seal, signature=signature))
        await failpoint("audit.before_commit")
        tx.on_commit(lambda: _CHAINED.inc(len(rows)))
        return len(rows)

    async def _export(self, enterprise_id: int) -> None:
        """Let the seals out that the database alone has. What fails is tried again: twice is no harm."""
        last_no = await store.exported_no(self._db, enterprise_id)
        while found := await store.seals(self._db, enterprise_id, last_no, self._batch):
            await asyncio.to_thread(self._exports.write, found)
            last_no = found[-1].seal_no
            await store.mark_exported(self._db, enterprise_id, last_no)
