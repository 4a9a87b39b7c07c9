"""What was sealed with older keys is sealed again with the current ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from core.jobs import Every, Job, JobRun
from gateway.factors import store as factors
from gateway.identity.store import set_phone
from gateway.people import store
from gateway.people.phones import phone_of

if TYPE_CHECKING:
    from core.crypto.columns import Columns
    from core.db import Transaction

log = structlog.get_logger(__name__)

_BATCH: Final = 200  # rows locked at a time


def resealing(columns: Columns) -> Job:
    """The job that seals numbers with the current keys which were sealed with others. Nothing waits for it."""

    async def reseal(run: JobRun) -> None:
        done = 0
        while batch := await run.transact(factors.reseal, columns, _BATCH):
            done += batch
        while batch := await run.transact(_reseal, columns):
            done += batch
        if done:
            log.info("people.phones_resealed", rows=done)

    return Job("gateway.people.reseal", reseal, schedule=Every(3600))


async def _reseal(tx: Transaction, columns: Columns) -> int:
    rows = await store.lock_outdated(tx, *columns.versions, _BATCH)
    for row in rows:
        phone = phone_of(columns, row)
        assert phone is not None, "rows without a number have no key versions"
        await set_phone(tx, columns, row["person_id"], phone)
    return len(rows)
