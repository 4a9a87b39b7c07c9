"""Business numbers: what people read to each other on the telephone, counted by name and business date.

`next_number` is dense: the number is used exactly if the caller's transaction commits, so there are no gaps to explain
to an auditor; transactions that draw from one name wait for each other. `Segments` draws ranges ahead and never waits
long; what a process had drawn and not used when it ended is a gap.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import date
from typing import Final

from core.db import Database, Transaction, UniqueViolation, sql

SEGMENT: Final = 100  # numbers drawn at once
SEGMENTS_KEPT: Final = 1_000  # names and dates a process draws from at the same time

_ADVANCE = sql(
    "UPDATE core_sequences SET last_number = last_number + $3 WHERE name = $1 AND business_date = $2"
)
_FIRST = sql("INSERT INTO core_sequences (name, business_date, last_number) VALUES ($1, $2, $3)")
_LAST = sql("SELECT last_number FROM core_sequences WHERE name = $1 AND business_date = $2")
_SWEEP = sql("DELETE FROM core_sequences WHERE business_date < $1")


async def next_number(tx: Transaction, name: str, business_date: date) -> int:
    """The next number of `name` on `business_date`, from 1, without gaps.

    `name` says the tenant where tenants count for themselves (``f"finance.voucher.{enterprise_id}"``). It stays locked
    until the transaction ends: draw late, and in one order when drawing from several.
    """
    return await draw(tx, name, business_date, 1)


async def draw(tx: Transaction, name: str, business_date: date, count: int) -> int:
    """The last of the next `count` numbers, which are all the caller's. See `next_number`."""
    if count < 1:
        raise ValueError("at least one number is drawn")
    if await tx.execute(_ADVANCE, name, business_date, count) == 0:
        try:
            async with tx.savepoint():
                await tx.execute(_FIRST, name, business_date, count)
        except UniqueViolation:
            await tx.execute(_ADVANCE, name, business_date, count)
    return int(await tx.fetchval(_LAST, name, business_date))


async def sweep(db: Database, before: date) -> int:
    """Forget the counters of dates before `before`; how many. Never of a date on which numbers may still be drawn."""
    return await db.execute(_SWEEP, before)


def formatted(prefix: str, business_date: date, number: int, digits: int = 8) -> str:
    """The usual form: ``TR2026010100000042``. Raises `ValueError` when the number has more digits."""
    text = f"{number:0{digits}d}"
    if len(text) > digits:
        raise ValueError(f"{prefix} has run out of {digits}-digit numbers on {business_date}")
    return f"{prefix}{business_date:%Y%m%d}{text}"


class Segments:
    """Numbers of one process, drawn in ranges: unique, growing within the process, with gaps."""

    def __init__(self, db: Database, size: int = SEGMENT) -> None:
        self._db, self._size = db, size
        self._drawn: OrderedDict[tuple[str, date], tuple[int, int]] = OrderedDict()  # next, last
        self._drawing: dict[tuple[str, date], asyncio.Lock] = {}

    async def next(self, name: str, business_date: date) -> int:
        """The next number. Of a range that is used up, one caller draws and the others wait for it."""
        key = name, business_date
        while True:
            following, last = self._drawn.get(key, (1, 0))
            if following <= last:
                self._drawn[key] = following + 1, last
                return following
            async with self._drawing.setdefault(key, asyncio.Lock()):
                following, last = self._drawn.get(key, (1, 0))
                if following > last:
                    last = await self._db.run(draw, name, business_date, self._size)
                    self._drawn[key] = last - self._size + 1, last
                    self._drawn.move_to_end(key)
                    self._forget()

    def _forget(self) -> None:
        while len(self._drawn) > SEGMENTS_KEPT:
            key, _ = self._drawn.popitem(last=False)
            if not (lock := self._drawing.get(key)) or not lock.locked():
                self._drawing.pop(key, None)
