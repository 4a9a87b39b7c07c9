"""Kept contents are scanned again: those that no scanner has seen, and those that one has seen with old signatures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from core.access import service_principal
from core.db import Record
from core.errors import BankhubError, NotFound
from core.jobs import Every, Job, JobRun
from files import api
from files.inspection.scanner import Infected, base_of
from files.library import store
from files.storage.keys import content_key

if TYPE_CHECKING:
    from core.runtime import Runtime
    from files.inspection.scanner import Scanner
    from files.sealing.sealer import Sealer
    from files.storage.bucket import Bucket

log = structlog.get_logger(__name__)

_PAGE: Final = 20  # contents between two looks at what is due
_CALL_S: Final = 60_000


def rescanning(runtime: Runtime, bucket: Bucket, sealer: Sealer, scanner: Scanner) -> Job:
    """The job. One content after the other, so new files find the scanner free; ended early, the next run goes on."""

    async def rescan(run: JobRun) -> None:
        before, after = run.clock.now() - timedelta(seconds=runtime.settings.files_rescan_s), 0
        while page := await store.to_scan(run.db, after, before, _PAGE):
            base = await base_of(scanner)
            for row in page:
                await look(row, base)
            after = page[-1]["content_id"]

    async def look(row: Record, base: str) -> None:
        enterprise_id, content_id = row["enterprise_id"], row["content_id"]
        try:
            verdict = await scanner.scan(_chunks(bucket, sealer, row))
        except NotFound:
            log.error("files.lost", enterprise_id=enterprise_id, key=content_key(row["object_id"]))
            return
        except (
            BankhubError
        ) as error:  # one that it does not take does not keep it from the others; it stays due
            log.warning(
                "files.not_scanned", enterprise_id=enterprise_id, content_id=content_id, code=error.code
            )
            return
        if isinstance(verdict, Infected):
            log.warning("files.malware", content_id=content_id, enterprise_id=enterprise_id)
            who = service_principal(enterprise_id, runtime.clock.now_ms() + _CALL_S, "files")
            await runtime.calls.call(api.Condemn(content_id=content_id), principal=who)
        else:
            await runtime.db.run(store.scanned, enterprise_id, content_id, base, runtime.clock.now())

    return Job("files.rescan", rescan, schedule=Every(600), timeout_s=3000.0)


async def _chunks(bucket: Bucket, sealer: Sealer, row: Record) -> AsyncIterator[bytes]:
    async with bucket.get(content_key(row["object_id"])) as content:
        chunks = content.chunks()
        if row["wrapped_key"] is not None:
            chunks = sealer.open_key(row["enterprise_id"], row["object_id"], row["wrapped_key"]).unseal(
                chunks
            )
        async for chunk in chunks:
            yield chunk
