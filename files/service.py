"""files as a service: its actions, its jobs, and what checks files before anybody sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from core.actions import actions_in
from core.errors import BankhubError
from core.jobs import Job
from core.service import Service
from files.inspection.kinds import Work
from files.inspection.scanner import Scanner, scanner_of
from files.inspection.workshop import Workshop, limits_of
from files.library import actions as library
from files.library import settling
from files.library.checking import Checker
from files.library.rescanning import rescanning
from files.retention import jobs as retention
from files.room import actions as room
from files.sealing.sealer import Sealer
from files.storage.keys import content_key
from files.storage.spool import Spool
from files.uploads import actions as uploads
from files.uploads.keeper import Keeper

if TYPE_CHECKING:
    from core.runtime import Runtime
    from files.storage.bucket import Bucket

log = structlog.get_logger(__name__)


class FilesService(Service):
    """See docs/files.md. `bucket` is closed when this stops."""

    name = "files"
    actions = actions_in(uploads, library, settling, room)
    jobs: Sequence[Job] = ()

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._runtime: Runtime | None = None
        self._sealer: Sealer | None = None
        self._scanner: Scanner | None = None
        self._workshop: Workshop | None = None
        self._checker: Checker | None = None
        self._keeper: Keeper | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, runtime: Runtime) -> None:
        """Open the workshop. The store is not asked for anything: it may come up later than we."""
        self._runtime = runtime
        self._sealer = Sealer(runtime.keys, runtime.rng)
        self._scanner = scanner_of(runtime.settings)
        if self._scanner is None:
            log.warning("files.no_scanner")  # said once a start: BANKHUB_FILES_CLAMD names one
        self._workshop = await Workshop(limits_of(runtime.settings)).__aenter__()
        spool = Spool(runtime.settings)
        self._checker = Checker(runtime, self.bucket, self._sealer, self._workshop, self._scanner, spool)
        self.jobs = retention.jobs(runtime, self.bucket, self._checker)
        if self._scanner is not None:
            self.jobs = (*self.jobs, rescanning(runtime, self.bucket, self._sealer, self._scanner))
        self._keeper = Keeper(runtime, self)
        self.soon(self._prepare())

    async def stop(self) -> None:
        """Keep what waits; let running checks go, they are done again. Close the workshop and the bucket."""
        if self._keeper is not None:
            await self._keeper.close()
            self._keeper = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._checker is not None:
            await self._checker.close()
            self._checker = None
        if self._workshop is not None:
            await self._workshop.aclose()
            self._workshop = None
        await self.bucket.close()

    async def _prepare(self) -> None:
        settings = self._open.settings
        for pause_s in (0, 1, 2, 5, 10, 30, 60):
            await asyncio.sleep(pause_s)
            try:
                await self.bucket.prepare(encrypted=settings.files_at_rest_encrypted, abort_after_days=1)
                return
            except BankhubError as error:
                log.warning("files.bucket_not_prepared", code=error.code)

    # --- for handlers -------------------------------------------------------------------------------------------------

    @property
    def sealer(self) -> Sealer:
        """Encrypts for enterprises that want it. There between start and stop."""
        assert self._sealer is not None, "files has not been started"
        return self._sealer

    @property
    def keeper(self) -> Keeper:
        """Makes files, many in one transaction. There between start and stop."""
        assert self._keeper is not None, "files has not been started"
        return self._keeper

    def checks(self, work: Work) -> bool:
        """Whether a file that asks for this work is looked into before anybody sees it."""
        return self.scans or work is not Work.NONE

    @property
    def scans(self) -> bool:
        """Whether there is a scanner."""
        return self._scanner is not None

    def check_soon(self, file_id: int, enterprise_id: int) -> None:
        """Look into a file as soon as there is a hand free."""
        assert self._checker is not None
        self._checker.soon(file_id, enterprise_id)

    async def settles(self, file_id: int, wait_s: float) -> None:
        """Until this file has been looked into here, or some time has gone."""
        assert self._checker is not None
        await self._checker.settles(file_id, wait_s)

    def sweep_soon(self) -> None:
        """Take away what is marked as dropped."""
        self.soon(retention.sweep(self._open.db, self.bucket))

    def forget_soon(self, *object_ids: int) -> None:
        """Take away objects that no row names."""
        self.soon(self.bucket.delete([content_key(object_id) for object_id in object_ids]))

    def soon(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do this beside everything else. It may be lost: a job does what was not done."""
        task = asyncio.get_running_loop().create_task(self._quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except BankhubError as error:
            log.warning("files.later", code=error.code)
        except Exception:
            log.exception("files.broken")

    @property
    def _open(self) -> Runtime:
        assert self._runtime is not None, "files has not been started"
        return self._runtime
