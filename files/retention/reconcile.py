"""Compares the store with the tables: every object belongs to a row, every row has its object.

Objects under our prefixes that no row knows are taken away once they are old enough that nobody can still be writing
their row, whatever they are called. What lies elsewhere in the bucket is somebody else's: it is counted and stays. A
row without its object is a loss, which nothing here can mend: it is counted, and shouted about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from core.db import Database
from core.telemetry import gauge
from files.retention import store
from files.storage.bucket import Bucket, Stored
from files.storage.keys import CONTENTS, PREFIXES, TAILS, content_key, id_of
from files.uploads import store as uploads

log = structlog.get_logger(__name__)

_PAGE: Final = 500
_NAMED: Final = 20  # losses that are told one by one: who has more looks at the first ones anyway
_MISSING: Final = gauge("bankhub_files_missing", "Objects that rows name and the store does not have")
_ORPHANS: Final = gauge(
    "bankhub_files_orphans", "Objects and uploads of the store that no row knows, young ones too"
)


@dataclass(slots=True)
class Loss:
    """An object that a row names and the store does not have, and whose it was."""

    key: str
    enterprise_id: int
    variant: str  # original: what people uploaded; others can be made again from it
    files: list[tuple[int, str]] = field(default_factory=list)  # id, name


@dataclass(slots=True)
class Report:
    """What was found, in numbers; `missing` are object ids, `losses` what is known of the first of them."""

    objects: int = 0
    objects_bytes: int = 0
    orphans: int = 0  # that nothing knows, whatever their age
    removed: int = 0  # of these
    strangers: int = 0  # of the orphans those whose names are none of ours
    foreign: int = 0  # objects and uploads elsewhere in the bucket, which are never taken away
    uploads: int = 0  # in parts, at the store
    aborted: int = 0  # of these
    missing: list[int] = field(default_factory=list)
    missing_count: int = 0
    losses: list[Loss] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Without what is told one by one."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, int)}


async def reconcile(
    db: Database, bucket: Bucket, now: datetime, *, older_s: float, mend: bool = True
) -> Report:
    """Walk everything once. With `mend` what nothing knows and is older than `older_s` is taken away."""
    report, before = Report(), now - timedelta(seconds=older_s)
    report.foreign = len([one async for one in bucket.outside(*PREFIXES)])
    await _contents(db, bucket, report, before, mend)
    await _tails(db, bucket, report, before, mend)
    await _multiparts(db, bucket, report, before, mend)
    suspects, report.missing = report.missing, []
    for object_id in suspects:
        if await bucket.size(content_key(object_id)) is None and await store.known(db, [object_id]):
            report.missing.append(object_id)
    report.missing_count = len(report.missing)
    report.losses = await _losses(db, report.missing[:_NAMED])
    _MISSING.set(report.missing_count)
    _ORPHANS.set(report.orphans - report.removed)
    if report.missing_count:
        log.error(
            "files.missing", count=report.missing_count,
            lost=[
                {"key": one.key, "enterprise_id": one.enterprise_id, "file_ids": [i for i, _ in one.files]}
                for one in report.losses
            ],
        )  # fmt: skip
    return report


async def _losses(db: Database, object_ids: list[int]) -> list[Loss]:
    found: dict[int, Loss] = {}
    for row in await store.lost(db, object_ids):
        loss = Loss(content_key(row["object_id"]), row["enterprise_id"], row["variant"])
        loss = found.setdefault(row["object_id"], loss)
        if row["file_id"] is not None:
            loss.files.append((row["file_id"], row["name"]))
    return [found[object_id] for object_id in object_ids if object_id in found]


async def _contents(db: Database, bucket: Bucket, report: Report, before: datetime, mend: bool) -> None:
    expected = _Expected(db)
    async for page in _pages(bucket, CONTENTS):
        ids = [i for one in page if (i := id_of(one.key)) is not None]
        there = await store.known(db, ids) | await uploads.known(db, ids)
        strangers = [one for one in page if id_of(one.key) not in there]
        _count(report, page, strangers)
        await _take_away(bucket, report, strangers, before, mend)
        await expected.compare(set(ids), ids[-1] if ids else 0, report)
    await expected.compare(set(), None, report)


async def _tails(db: Database, bucket: Bucket, report: Report, before: datetime, mend: bool) -> None:
    async for page in _pages(bucket, TAILS):
        ids = [i for one in page if (i := id_of(one.key)) is not None]
        there = await uploads.under_way(db, ids)
        strangers = [one for one in page if id_of(one.key) not in there]
        _count(report, page, strangers)
        await _take_away(bucket, report, strangers, before, mend)


async def _multiparts(db: Database, bucket: Bucket, report: Report, before: datetime, mend: bool) -> None:
    left = [one async for one in bucket.unfinished()]
    report.uploads = len(left)
    there = await uploads.known_multiparts(db, [one.upload for one in left])
    for one in left:
        if one.upload in there:
            continue
        if not one.key.startswith(PREFIXES):
            report.foreign += 1
            continue
        report.orphans += 1
        if mend and one.begun_at < before:
            await bucket.abort(one.key, one.upload)
            report.aborted += 1
            report.removed += 1


def _count(report: Report, page: list[Stored], strangers: list[Stored]) -> None:
    report.objects += len(page)
    report.objects_bytes += sum(one.size_bytes for one in page)
    report.orphans += len(strangers)
    report.strangers += sum(id_of(one.key) is None for one in strangers)


async def _take_away(
    bucket: Bucket, report: Report, strangers: list[Stored], before: datetime, mend: bool
) -> None:
    old = [one.key for one in strangers if one.modified_at < before]
    if mend and old:
        await bucket.delete(old)
        report.removed += len(old)


async def _pages(bucket: Bucket, prefix: str) -> AsyncIterator[list[Stored]]:
    page: list[Stored] = []
    async for one in bucket.keys(prefix):
        page.append(one)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page


class _Expected:
    """Walks the objects that rows name beside the listing, both in order, and finds those that the listing lacks.

    A row that was written after its place in the listing was passed is asked for at the store itself.
    """

    def __init__(self, db: Database) -> None:
        self._db, self._after = db, 0

    async def compare(self, listed: set[int], last: int | None, report: Report) -> None:
        """Up to object `last` of the listing (None: to the end), which had these."""
        while True:
            page = await store.expected(self._db, self._after, _PAGE)
            here = [i for i in page if last is None or i <= last]
            for object_id in here:
                if object_id not in listed:
                    report.missing.append(object_id)
            if here:
                self._after = here[-1]
            elif last is not None:
                self._after = max(self._after, last)
            if len(here) < len(page) or len(page) < _PAGE:
                return
