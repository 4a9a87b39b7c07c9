"""`files`: compares the object store with the tables once and prints what was found; safe beside a running bank."""

from __future__ import annotations

from core.clock import SystemClock
from core.settings import Settings
from files.retention.reconcile import Report, reconcile
from house.compose import bucket_of, open_database

_SHOWN = 20  # missing objects: who has more looks at the first ones anyway


async def compare(settings: Settings, *, mend: bool) -> int:
    """Walk everything once, with `mend` as the job does it; 1 when an object is missing that a row names."""
    clock = SystemClock()
    bucket = bucket_of(settings, clock)
    db = await open_database(settings)
    try:
        report = await reconcile(db, bucket, clock.now(), older_s=settings.files_orphan_s, mend=mend)
    finally:
        await bucket.close()
        await db.close()
    for line in lines_of(report):
        print(line)
    return 1 if report.missing_count else 0


def lines_of(report: Report) -> list[str]:
    """A report in words."""
    lines = [
        f"{report.objects} objects, {report.objects_bytes} bytes; {report.uploads} uploads in parts",
        f"{report.orphans} that nothing knows, young ones too; {report.removed} taken away",
    ]
    if not report.missing_count:
        return [*lines, "every row has its object"]
    shown = ", ".join(map(str, report.missing[:_SHOWN]))
    return [
        *lines,
        f"{report.missing_count} objects are missing that rows name: restore them from a backup of the store: {shown}",
    ]
