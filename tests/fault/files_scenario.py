"""A fault run of files: people upload in every way while gateway, store and network break; then everything is counted.

What must hold: a file that is visible is whole; an upload that goes on ends with the right digest; the room that is
taken is the sum of what is there; and once the jobs have run, what the store has is exactly what the tables name.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from core.access import Principal
from core.clock import SystemClock
from core.db import migrate
from core.embedded import EmbeddedEngines
from core.engines.process import die_with_parent
from core.jobs import Job, JobRun
from core.runtime import Runtime
from core.s3 import S3
from core.settings import load
from core.telemetry import new_trace
from core.tokens import AccessTokens
from files.retention.reconcile import reconcile
from files.service import FilesService
from files.storage.bucket import Bucket
from files.storage.keys import content_key, id_of
from gateway.people import ActivePeople
from im.service import ImService
from tests.bench.seed import Population
from tests.fault.cutter import Cutter
from tests.fault.files_people import Person
from tests.world import process

ROOT = Path(__file__).resolve().parents[2]
WAYS = ("whole", "tus", "direct", "picture")
POINTS = (
    "files.before_put", "files.mid_put", "files.stored_before_row", "files.before_commit",
    "files.row_before_answer", "files.part_before_note",
    "files.whole_before_row", "files.mid_check", "files.before_sweep", "files.swept_before_rows",
)  # fmt: skip
FAULTS = (*POINTS, "cut client", "cut client", "cut store", "cut store", "kill store", "kill gateway")
HIT_S = 30.0  # within which a fault takes effect
READY_S = 60.0
HEALED_S = 60.0  # after the last fault every upload that was begun is a file
AFTERWARDS_S = 2 * 86400.0  # how far the clock is moved on for the jobs


class Later(SystemClock):
    """Two days later."""

    def now_ms(self) -> int:
        return super().now_ms() + int(AFTERWARDS_S * 1000)


@dataclass
class Result:
    """What a run was, and what was wrong."""

    seed: int
    faults: list[str] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    tries: int = 0
    violations: list[str] = field(default_factory=list)


class Gateway:
    """The worker's place: it is started again whenever it ends, armed with what is to kill it next."""

    def __init__(self, environ: Mapping[str, str], log_file: Path) -> None:
        self._environ, self._log_file = dict(environ), log_file
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._armed = ""
        self.ended = asyncio.Event()
        self.port: int | None = None

    def begin(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def ready(self) -> None:
        """Wait until it serves."""
        async with asyncio.timeout(READY_S):
            while self.port is None:
                await asyncio.sleep(0.02)

    async def die_at(self, failpoint: str, hit: int) -> bool:
        """Start it again, armed; whether it died there in time."""
        self._armed = f"{failpoint}=kill@{hit}"
        await self.kill()
        await self.ready()
        self.ended.clear()
        try:
            await asyncio.wait_for(self.ended.wait(), HIT_S)
            return True
        except TimeoutError:
            await self.kill()
            return False

    async def kill(self) -> None:
        """SIGKILL, now."""
        assert self._process is not None
        self.ended.clear()
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self.ended.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _keep(self) -> None:
        with self._log_file.open("ab") as log_file:
            while True:
                environ = dict(self._environ)
                if self._armed:
                    environ["BANKHUB_FAILPOINTS"], self._armed = self._armed, ""
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "tests.bench.gateway_server", "files", "im", "gateway", cwd=ROOT, env=environ,
                    stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log_file,
                    preexec_fn=die_with_parent(signal.SIGKILL),
                )  # fmt: skip
                assert self._process.stdout is not None
                async for line in self._process.stdout:
                    if line.startswith(b"{") and b'"port"' in line:
                        self.port = json.loads(line)["port"]
                await self._process.wait()
                self.port = None
                self.ended.set()
                await asyncio.sleep(0.05)


class Stage:
    """Everything of one run. `chance` draws the faults, so that a seed repeats them."""

    def __init__(self, seed: int) -> None:
        self.result = Result(seed)
        self.chance = random.Random(seed)
        self.home = Path(tempfile.gettempdir()) / f"bankhub-fault-{secrets.token_hex(6)}"
        self.home.mkdir(mode=0o711)
        self.engines = EmbeddedEngines(self.home / "var", sync=False)
        self.people: list[Person] = []

    async def __aenter__(self) -> Stage:
        try:
            await self._open()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _open(self) -> None:
        await self.engines.start()
        await migrate(self.engines.database_url)
        self.to_gateway = Cutter(lambda: self.gateway.port)
        self.to_store = Cutter(lambda: self.engines.port("s3"))
        await self.to_gateway.start()
        await self.to_store.start()
        real = self.engines.s3
        cut = f"http://127.0.0.1:{self.to_store.port}"
        self.s3 = S3(real.endpoint, real.access_key, real.secret_key, real.bucket)
        more: dict[str, Any] = {
            "database_url": self.engines.database_url, "redis_url": self.engines.redis_url, "log_level": "warning",
            "var_dir": self.home / "var", "files_direct_url": cut, "s3_endpoint_url": cut,
            "s3_access_key": real.access_key, "s3_secret_key": real.secret_key, "s3_bucket": real.bucket,
            "files_wait_s": 2.0, "files_uploads_at_once": 64,
            "database_pool_max": 8, "files_uploads_open": 10_000,
        }  # fmt: skip
        # what nobody sent stays although the clock is moved on by days, which no bank may set
        self.settings = load({}, **more).model_copy(update={"files_unattached_s": 30 * 86400.0})
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environ = {f"BANKHUB_{name.upper()}": str(value) for name, value in more.items()}
        population = Population(self.settings, len(WAYS))
        await population.seed(self.engines.database_url)
        tokens = AccessTokens(self.settings, SystemClock())
        self.enterprise = population.enterprise
        for n, way in enumerate(WAYS):
            who = Principal(
                population.people[n], population.enterprise, frozenset({"employee"}), population.sessions[n],
                f"bench-{n}", SystemClock().now_ms() + 86_400_000,
            )  # fmt: skip
            url = f"http://127.0.0.1:{self.to_gateway.port}"
            chance = random.Random(f"{self.result.seed} {way}")
            self.people.append(Person(way, tokens.sign(who)[0], url, chance))
        self.gateway = Gateway({**keep, **environ}, self.home / "gateway.log")
        self.gateway.begin()
        await self.gateway.ready()

    async def __aexit__(self, *_: object) -> None:
        for part in ("gateway", "to_gateway", "to_store"):
            if hasattr(self, part):
                await getattr(self, part).stop()
        await self.engines.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def log(self, lines: int = 40) -> str:
        """The end of the worker's log, for a report."""
        text = (self.home / "gateway.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    # --- faults -------------------------------------------------------------------------------------------------------

    async def fault(self, name: str) -> None:
        """Have it happen, and wait until it has."""
        if name == "kill gateway":
            await asyncio.sleep(self.chance.uniform(0, 1))
            await self.gateway.kill()
            hit = True
        elif name == "kill store":
            self.engines.process("s3").kill()
            await self.engines.process("s3").ended()
            await self.engines.restart("s3")
            hit = True
        elif name.startswith("cut"):
            where = self.to_gateway if name == "cut client" else self.to_store
            hit = await where.cut_after(self.chance.randint(1, 9_000_000), HIT_S)
        else:
            hit = await self.gateway.die_at(name, self.chance.randint(1, 3) if name != POINTS[1] else 9)
        self.result.faults.append(name if hit else f"{name} (did not happen)")
        await self.gateway.ready()

    # --- the last word ------------------------------------------------------------------------------------------------

    async def judge(self) -> None:
        """Run the jobs two days later, then compare everything with everything."""
        await self._jobs()
        async with aiohttp.ClientSession() as session:
            for person in self.people:
                person.http = session
                for sent in person.sent:
                    await person.read(sent)
        await self._count()

    async def _jobs(self) -> None:
        bucket = Bucket(self.s3, SystemClock())
        service = FilesService(bucket)
        clock = Later()
        async with process(self.settings, [service, ImService(ActivePeople())], clock=clock) as runtime:
            # one after the other: by this clock what a check is making at this moment is two days old
            jobs = {job.name: job for job in service.jobs}
            for name in ("files.uploads", "files.check", "files.retention", "files.reconcile") * 2:
                await jobs[name].handler(_run(jobs[name], runtime))
                if name == "files.check":
                    await self._until_checked(jobs[name], runtime, bucket)
            report = await reconcile(
                runtime.db, bucket, clock.now(), older_s=self.settings.files_orphan_s, mend=False
            )
            if report.orphans or report.missing_count:
                self.result.violations.append(f"the clean-up finds {report}")

    async def _until_checked(self, job: Job, runtime: Runtime, bucket: Bucket) -> None:
        """The job comes back to what could not be read a moment ago."""
        waiting = (
            "SELECT f.file_id, f.kind, f.created_at, c.object_id, c.size_bytes FROM files_files f "
            "JOIN files_contents c ON c.content_id = f.content_id WHERE f.state = 'checking'"
        )
        until_s = runtime.clock.monotonic_s() + HEALED_S
        while left := await self._rows(waiting):
            if runtime.clock.monotonic_s() > until_s:
                there = [(tuple(row), await bucket.size(content_key(row["object_id"]))) for row in left[:3]]
                self.result.violations.append(f"{len(left)} files are not checked: {there}")
                return
            await job.handler(_run(job, runtime))
            await asyncio.sleep(0.5)

    async def _count(self) -> None:
        bad = self.result.violations
        named = {
            row[0]
            for query in (
                "SELECT object_id FROM files_contents",
                "SELECT object_id FROM files_variants",
                "SELECT object_id FROM files_uploads WHERE state IN ('open', 'finishing')",
            )
            for row in await self._rows(query)
        }
        bucket = Bucket(self.s3, SystemClock())
        try:
            stored = [one.key async for one in bucket.keys("") if not one.key.startswith(".")]
            parts = [one.upload async for one in bucket.unfinished()]
        finally:
            await bucket.close()
        if named != {id_of(key) for key in stored} or any(not key.startswith("content/") for key in stored):
            extra = {id_of(key) for key in stored} ^ named
            rows = await self._rows(
                "SELECT object_id, 'content', state FROM files_contents UNION ALL "
                "SELECT object_id, 'variant', variant FROM files_variants"
            )
            what = [tuple(row) for row in rows if row[0] in extra]
            bad.append(
                f"{len(stored)} objects, {len(named)} named by rows; differ: {sorted(extra, key=str)[:5]} {what}"
            )
        open_ones = {
            r[0] for r in await self._rows("SELECT multipart FROM files_uploads WHERE state = 'open'")
        }
        if set(parts) != open_ones:
            bad.append(f"{len(parts)} uploads at the store, {len(open_ones)} open")
        if wrong := await self._rows("SELECT file_id, state, reason FROM files_files WHERE state <> 'ready'"):
            bad.append(f"files that are not ready: {[tuple(row) for row in wrong][:5]}")
        taken = {
            r[0]: (int(r[1]), int(r[2]))
            for r in await self._rows("SELECT person_id, bytes, files FROM files_usage")
        }
        there = await self._rows(
            "SELECT person_id, SUM(size_bytes), COUNT(*) FROM (SELECT person_id, size_bytes FROM files_files "
            "WHERE state IN ('ready', 'checking') UNION ALL SELECT person_id, size_bytes FROM files_uploads "
            "WHERE state IN ('open', 'finishing')) x GROUP BY person_id"
        )
        expected = {r[0]: (int(r[1]), int(r[2])) for r in there}
        expected[0] = (sum(b for b, _ in expected.values()), sum(n for _, n in expected.values()))
        if {who: room for who, room in taken.items() if any(room)} != {
            w: r for w, r in expected.items() if any(r)
        }:
            bad.append(f"room: {taken} is booked, {expected} is there")
        told = [one for person in self.people for one in person.sent]
        ids = {r[0] for r in await self._rows("SELECT file_id FROM files_files")}
        if lost := [one for one in told if one.file_id not in ids]:
            bad.append(f"told and not there: {lost[:3]}")
        if twice := len(told) - len({one.file_id for one in told}):
            bad.append(f"{twice} uploads were told the same file")

    async def _rows(self, query: str) -> list[Any]:
        connection = await asyncpg.connect(self.engines.database_url, ssl=False)
        try:
            found: list[Any] = await connection.fetch(query)
            return found
        finally:
            await connection.close()


def _run(job: Job, runtime: Runtime) -> JobRun:
    return JobRun(
        job=job, job_id=1, params={}, attempt=1, due_at=runtime.clock.now(), trace=new_trace(runtime.rng),
        db=runtime.db, clock=runtime.clock, holder="",
    )  # fmt: skip


async def run(seed: int, faults: tuple[str, ...] = FAULTS) -> tuple[Result, str]:
    """One run: these faults in an order that the seed draws. The result, and the worker's last words."""
    async with Stage(seed) as stage:
        order = list(faults)
        stage.chance.shuffle(order)
        stop = asyncio.Event()
        work = [asyncio.create_task(one.work(one.name, stop)) for one in stage.people]
        try:
            for name in order:
                await stage.fault(name)
                failed = [task for task in work if task.done()]
                if failed:
                    break
            stop.set()
            await asyncio.wait(work, timeout=HEALED_S)
            for person, task in zip(stage.people, work, strict=True):
                if not task.done():
                    stage.result.violations.append(f"{person.name} does not come to an end: {person.last}")
                elif (error := task.exception()) is not None:
                    stage.result.violations.append(repr(error))
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
        try:
            await stage.judge()
        except Exception as error:
            stage.result.violations.append(f"judging: {error!r}")
        stage.result.files = {one.name: len(one.sent) for one in stage.people}
        stage.result.tries = sum(one.tries for one in stage.people)
        return stage.result, stage.log()
