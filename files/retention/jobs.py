"""The clean-up, as jobs. Each step is one small transaction with its condition checked again under the row's lock.

A file that nothing refers to is removed; a content that no file has is marked as dropping, then its objects go, then
its row: killed anywhere between, the next run goes on. Nobody finds a content that is dropping, so nothing new comes
to refer to what is going.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog

from core.access import service_principal
from core.db import Database, Transaction
from core.errors import BankhubError
from core.failpoints import failpoint
from core.jobs import Every, Job, JobRun
from files import api
from files.library import store as library
from files.retention import store
from files.retention.reconcile import reconcile
from files.room import store as room
from files.storage.keys import content_key
from files.uploads import store as uploads

if TYPE_CHECKING:
    from core.runtime import Runtime
    from files.library.checking import Checker
    from files.storage.bucket import Bucket

log = structlog.get_logger(__name__)

_PAGE: Final = 200
_CHECK_S: Final = 60.0  # a file that has waited so long was forgotten by who began with it
_FINISH_S: Final = 120.0
_FORGET: Final = timedelta(days=7)  # rows of uploads that are over


def jobs(runtime: Runtime, bucket: Bucket, checker: Checker) -> tuple[Job, ...]:
    """All of them."""
    settings = runtime.settings

    async def check(run: JobRun) -> None:
        """Files whose checking was not finished, by whoever died or by a scanner that was away."""
        before = run.clock.now() - timedelta(seconds=_CHECK_S)
        for file_id, enterprise_id in await library.checking(run.db, before, _PAGE):
            checker.soon(file_id, enterprise_id)

    async def leave(run: JobRun) -> None:
        """Uploads whose time is over, and those that were all there when somebody died."""
        await end_uploads(runtime, run)

    async def retire(run: JobRun) -> None:
        """Files that nothing refers to, contents that no file has, and then their objects."""
        now = run.clock.now()
        await remove_files(run.db, run.clock.now(), settings.files_unattached_s, settings.files_quarantine_s)
        await drop_contents(run.db, now - timedelta(hours=1))
        await sweep(run.db, bucket)
        await uploads.forget(run.db, now - _FORGET)

    async def compare(run: JobRun) -> None:
        """What the store has and the tables do not know, or the other way round."""
        report = await reconcile(run.db, bucket, run.clock.now(), older_s=settings.files_orphan_s)
        log.info("files.reconciled", **report.counts())

    return (
        Job("files.check", check, schedule=Every(30)),
        Job("files.uploads", leave, schedule=Every(300)),
        Job("files.retention", retire, schedule=Every(1800)),
        Job("files.reconcile", compare, schedule=Every(3600), timeout_s=3000.0),
    )


async def end_uploads(runtime: Runtime, run: JobRun) -> None:
    """See `jobs`."""
    now, settings = run.clock.now(), runtime.settings
    finishing = now - timedelta(seconds=_FINISH_S)
    over = now - timedelta(seconds=settings.files_upload_life_s)
    for row in await uploads.left(run.db, finishing, over, _PAGE):
        who = service_principal(row["enterprise_id"], runtime.clock.now_ms() + 60_000, "files")
        try:
            await runtime.calls.call(
                api.EndUpload(upload_id=row["upload_id"], person_id=row["person_id"]), principal=who
            )
        except BankhubError as error:
            log.warning("files.upload_not_ended", upload_id=row["upload_id"], code=error.code)


async def remove_files(db: Database, now: datetime, unattached_s: float, quarantine_s: float) -> int:
    """Remove files that nothing refers to, and those that were long enough in quarantine; how many."""
    removed = 0
    for find, seconds in ((store.unattached, unattached_s), (store.quarantined, quarantine_s)):
        after, before = 0, now - timedelta(seconds=seconds)
        while page := await find(db, before, after, _PAGE):
            for row in page:
                removed += await db.run(_remove, row["enterprise_id"], row["file_id"], now)
            after = page[-1]["file_id"]
    return removed


async def _remove(tx: Transaction, enterprise_id: int, file_id: int, now: datetime) -> int:
    row = (await library.lock_files(tx, enterprise_id, [file_id])).get(file_id)
    if row is None or row["state"] not in (library.READY, library.QUARANTINED):
        return 0
    if await library.attached(tx, enterprise_id, [file_id]):
        return 0  # it has found a place meanwhile
    if await store.held(tx, enterprise_id, row["person_id"], file_id):
        return 0
    full = (await library.files(tx, enterprise_id, [file_id]))[file_id]
    await library.set_state(tx, enterprise_id, file_id, library.REMOVED, now)
    if row["state"] == library.READY:  # of one in quarantine the room was given back then
        await room.add(tx, enterprise_id, row["person_id"], -full["size_bytes"], -1)
    return 1


async def drop_contents(db: Database, before: datetime) -> int:
    """Mark contents that no file has; how many."""
    after = dropped = 0
    while page := await store.unused(db, before, after, _PAGE):
        for row in page:
            dropped += await db.run(_drop, row["enterprise_id"], row["content_id"])
        after = page[-1]["content_id"]
    return dropped


async def _drop(tx: Transaction, enterprise_id: int, content_id: int) -> int:
    if await library.lock_content(tx, enterprise_id, content_id) is None:
        return 0
    if await store.in_use(tx, enterprise_id, content_id):
        return 0
    await library.drop_content(tx, enterprise_id, content_id)
    return 1


async def sweep(db: Database, bucket: Bucket) -> int:
    """Take away the objects of what is dropping, then its rows; how many contents."""
    after = swept = 0
    while page := await store.dropping(db, after, _PAGE):
        for row in page:
            enterprise_id, content_id = row["enterprise_id"], row["content_id"]
            objects = [row["object_id"], *await store.variant_objects(db, enterprise_id, content_id)]
            await failpoint("files.before_sweep")
            await bucket.delete([content_key(one) for one in objects])
            await failpoint("files.swept_before_rows")
            await db.run(store.delete_content, enterprise_id, content_id)
            swept += 1
        after = page[-1]["content_id"]
    return swept
