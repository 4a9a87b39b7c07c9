"""`bankhub verify audit`: walks every chain and says where it does not hold. Reads only; safe beside a running bank."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from core.audit import store
from core.audit.chain import Seal, check_row, check_seal, start
from core.audit.exports import Exported
from core.audit.rows import fault_of
from core.crypto import sm2
from core.crypto.provider import point_of
from core.crypto.ring import SEALS
from core.errors import Invalid

if TYPE_CHECKING:
    from core.clock import Clock
    from core.crypto.keyring import Keyring
    from core.db import Database

PAGE: Final = 1_000
LATE_S: Final = 60.0
"""How long a row may wait for the chainer, which needs one second, until somebody should look."""


class Fault(Struct, frozen=True):
    """Where it does not hold: the tenant, the number of the row (or of the seal), and why."""

    enterprise_id: int
    place: str
    why: str

    def __str__(self) -> str:
        return f"tenant {self.enterprise_id}, {self.place}: {self.why}"


class Verified(Struct):
    """What was walked."""

    tenants: int = 0
    rows: int = 0
    seals: int = 0
    waiting: int = 0  # rows that are not chained yet
    exported: int = 0  # tenants whose newest exported seal was found again
    lost: int = 0  # tenants with seals that were exported and are gone from there
    seconds: float = 0.0
    faults: list[Fault] = []


async def verify(
    db: Database, clock: Clock, keys: Keyring, exported: Iterable[Exported | str] | None = None
) -> Verified:
    """Walk every tenant's rows and seals, and compare with what was exported (None: there is nothing to compare with).

    What the database says was let out has to be there, but for the last minute: a copy out of a log may be that old.
    """
    result, began_s = Verified(), clock.monotonic_s()
    newest: dict[int, Exported] = {}
    let_out = (
        {} if exported is None else await store.every_exported(db)
    )  # asked before what may have grown since
    for one in exported or ():
        if isinstance(one, str):
            result.faults.append(Fault(0, "export", one))
            continue
        before = newest.get(one.enterprise_id)
        if before is None or one.seal_no > before.seal_no:
            newest[one.enterprise_id] = one
        elif one.seal_no == before.seal_no and one != before:
            result.faults.append(
                Fault(one.enterprise_id, f"seal {one.seal_no}", "two different ones were exported")
            )
    for enterprise_id in sorted({*await store.tenants(db), *newest}):
        result.tenants += 1
        walk = _Walk(db, clock, keys, enterprise_id, newest.get(enterprise_id), result)
        walk.let_out_no = let_out.get(enterprise_id, 0)
        await walk.walk()
    result.seconds = clock.monotonic_s() - began_s
    return result


class _Walk:
    """One tenant."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        keys: Keyring,
        enterprise_id: int,
        exported: Exported | None,
        result: Verified,
    ) -> None:
        self._db, self._clock, self._keys, self._id = db, clock, keys, enterprise_id
        self._exported, self._result = exported, result
        self.let_out_no = 0  # the newest seal that the database says was exported
        self._lost_no = 0  # the newest of those that nobody has, and the first
        self._lost_from_no = 0
        self._points: dict[int, bytes] = {}
        self._digest = start(enterprise_id)
        self._seq = 0

    async def walk(self) -> None:
        """Seals in order, and below each the rows it covers."""
        before: Seal | None = None
        seals = await store.count_seals(self._db, self._id)
        walked = 0
        while walked < seals:
            page = await store.seals(self._db, self._id, before.seal_no if before else store.FIRST, PAGE)
            if not page:
                break
            for seal in page:
                if not await self._seal(before, seal):
                    return
                before, walked = seal, walked + 1
        if self._exported is not None and (before is None or before.seal_no < self._exported.seal_no):
            self._fault(
                f"seal {self._exported.seal_no}", "it was exported and is not here: the end was cut off"
            )
        if self._lost_no:
            self._result.lost += 1
            self._fault(
                f"seals {self._lost_from_no} to {self._lost_no}",
                "they were exported and are not among the exported ones",
            )
        await self._rest(before)

    async def _seal(self, before: Seal | None, seal: Seal) -> bool:
        place = f"seal {seal.seal_no}"
        why = check_seal(before, seal) or await self._signed(seal)
        exported = self._exported
        if why is None and exported is not None and exported.seal_no == seal.seal_no:
            if exported.seal_digest != seal.own_digest():
                why = "another one was exported: the chain was made again"
            else:
                self._result.exported += 1
        self._look_for(seal)
        if why is not None:
            return self._fault(place, why)
        if not await self._rows(seal.last_seq):
            return False
        if self._digest != seal.digest:
            return self._fault(place, f"it does not vouch for row {seal.last_seq}")
        self._result.seals += 1
        return True

    def _look_for(self, seal: Seal) -> None:
        """Whether this one was let out and is gone there: of those before the newest that is there nobody asks."""
        newest_no = 0 if self._exported is None else self._exported.seal_no
        late = seal.sealed_at < self._clock.now() - timedelta(seconds=LATE_S)
        if newest_no < seal.seal_no <= self.let_out_no and late:
            self._lost_from_no = self._lost_from_no or seal.seal_no
            self._lost_no = seal.seal_no

    async def _signed(self, seal: Seal) -> str | None:
        try:
            if seal.key_version not in self._points:
                self._points[seal.key_version] = point_of(self._keys.get(SEALS, seal.key_version))
        except Invalid as error:
            return error.message
        point = self._points[seal.key_version]
        right = await asyncio.to_thread(sm2.verify, point, seal.message(), seal.signature)
        return None if right else "the signature is not right"

    async def _rows(self, upto: int) -> bool:
        while self._seq < upto:
            page = await store.chained(self._db, self._id, self._seq, upto, PAGE)
            if not page:
                return self._fault(f"row {self._seq + 1}", f"rows {self._seq + 1} to {upto} are missing")
            for row, seq, digest in page:
                why = check_row(self._digest, self._seq + 1, row, seq, digest) or fault_of(row, self._keys)
                if why is not None:
                    return self._fault(f"row {self._seq + 1}", why)
                assert digest is not None, "it equals a digest"
                self._digest, self._seq = digest, seq
                self._result.rows += 1
        return True

    async def _rest(self, last: Seal | None) -> None:
        """What stands beside the walked rows: numbers twice or below one, rows nobody sealed, rows that wait."""
        if (found := await store.count(self._db, self._id, self._seq)) != self._seq:
            self._fault("rows", f"{found} have numbers up to {self._seq}")
        if beyond := await store.beyond(self._db, self._id):
            self._fault("rows", f"{beyond} have numbers behind the last seal")
        both = await store.head_beside_seal(self._db, self._id)
        if both is None and last is not None:
            self._fault("head", "it is missing")
        elif both is not None and (both[0].seal_no, both[0].last_seq, both[0].digest) != both[1]:
            self._fault("head", "it is not where the last seal is")
        late, first = self._clock.now() - timedelta(seconds=LATE_S), store.FIRST
        while rows := await store.waiting(self._db, self._id, PAGE, first):
            for row in rows:
                self._result.waiting += 1
                why = fault_of(row, self._keys)
                if why is None and row.happened_at < late:
                    why = f"it has waited for the chain since {row.happened_at:%Y-%m-%d %H:%M:%S} UTC"
                if why is not None:
                    self._fault(f"waiting row {row.audit_id}", why)
            first = rows[-1].audit_id + 1

    def _fault(self, place: str, why: str) -> bool:
        self._result.faults.append(Fault(self._id, place, why))
        return False
