"""`files`: compares the object store with the tables once and prints what was found; safe beside a running bank."""

from __future__ import annotations

from core.clock import SystemClock
from core.db import DatabaseError
from core.errors import Internal
from core.settings import Settings
from files.retention.reconcile import Loss, Report, reconcile
from gateway.identity.rules import masked_name
from house.compose import bucket_of, open_database

_FILES_SHOWN = 5  # of one loss: the same content may be hundreds of files


async def compare(settings: Settings, *, mend: bool) -> int:
    """Walk everything once, with `mend` as the job does it; 1 when an object is missing that a row names.

    Raises `Internal`, which says what the database said, where that refuses something.
    """
    clock = SystemClock()
    bucket = bucket_of(settings, clock)
    db = await open_database(settings)
    try:
        report = await reconcile(db, bucket, clock.now(), older_s=settings.files_orphan_s, mend=mend)
    except DatabaseError as error:
        said = f"{error.engine_code} {error.__cause__ or ''}".strip()
        raise Internal(
            f"the comparison of store and tables broke off, nothing can be said of either: "
            f"{error.message} ({type(error).__name__}: {said})"
        ) from error
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
    if report.strangers:
        lines.append(f"{report.strangers} of these have names that are none of ours")
    if report.foreign:
        lines.append(f"{report.foreign} elsewhere in the bucket, which is to be bankhub's alone: they stay")
    if not report.missing_count:
        return [*lines, "every row has its object"]
    more = report.missing_count - len(report.losses)
    return [
        *lines,
        f"{report.missing_count} objects are missing that rows name: restore them from a backup of the store:",
        *map(_line, report.losses),
        *([f"  and {more} more"] if more else []),
    ]


def _line(loss: Loss) -> str:
    """Which object, and whose files are without it."""
    files = [f"file {file_id} {masked_name(name)}" for file_id, name in loss.files[:_FILES_SHOWN]]
    if more := len(loss.files) - len(files):
        files.append(f"and {more} more files")
    what = loss.key if loss.variant == "original" else f"{loss.key} ({loss.variant})"
    return f"  {what}: enterprise {loss.enterprise_id}: {', '.join(files) or 'no file'}"
