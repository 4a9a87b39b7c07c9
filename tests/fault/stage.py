"""The place of a fault run: real engines, real worker processes, a proxy, and people with the reference client."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import msgpack

from core.db import connect, migrate
from core.embedded import EmbeddedEngines
from core.engines.process import die_with_parent
from core.errors import BankhubError
from core.rng import SeededRng
from hub.client import Client, Closed, Entry, HubError, Notice, Saved, Token
from tests.fault.bus import ENVIRONMENT, Badness
from tests.fault.history import History, Row
from tests.fault.proxy import Proxy
from tests.hub.harness import ENTERPRISE, World

ROOT = Path(__file__).resolve().parents[2]
READY_S = 30.0
SEND_S = 20.0  # a program that waits no longer: the result is unknown


class Worker:
    """One place for a hub worker; it is started again whenever it ends."""

    def __init__(self, name: str, environ: Mapping[str, str], log_file: Path) -> None:
        self.name, self._environ, self._log_file = name, dict(environ), log_file
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._failpoints = ""
        self.starts = 0

    def begin(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def ready(self) -> None:
        """Waits until it takes connections."""
        async with asyncio.timeout(READY_S):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.transport.abort()
                    return
                await asyncio.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def kill_at(self, failpoint: str, hit: int) -> None:
        """Starts it again so that it dies at a failpoint's so many-th hit; the start after that is clean."""
        self._failpoints = f"{failpoint}=kill@{hit}"
        self.send(signal.SIGKILL)

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
                environ = {**self._environ, "BANKHUB_HUB_PORT": str(self.port)}
                if self._failpoints:
                    environ["BANKHUB_FAILPOINTS"], self._failpoints = self._failpoints, ""
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "tests.fault.worker", cwd=ROOT, env=environ, stdin=asyncio.subprocess.DEVNULL,
                    stdout=log_file, stderr=log_file, preexec_fn=die_with_parent(signal.SIGKILL),
                )  # fmt: skip
                self.starts += 1
                await self._process.wait()
                await asyncio.sleep(0.1)


class Member:
    """A person with a program on one device. The program writes down what it got, and continues from there."""

    def __init__(self, stage: Stage, name: str, person: str) -> None:
        self.stage, self.name, self.person = stage, name, person
        self.places: dict[str, Saved] = {}
        self.notices: list[Notice] = []
        self.client: Client | None = None
        self._task: asyncio.Task[None] | None = None

    # what a store does, from what the program wrote down itself: nothing is lost between the two

    def load(self) -> Mapping[str, Saved]:
        return dict(self.places)

    def save(self, places: Mapping[str, Saved]) -> None:
        for stream, place in places.items():
            mine = self.places.get(stream, Saved(0, place.epoch))
            self.places[stream] = Saved(mine.seq, place.epoch, place.left)

    def begin(self) -> None:
        async def token() -> Token:
            return Token(f"{self.person}:{ENTERPRISE}")

        self.client = Client(
            f"ws://127.0.0.1:{self.stage.proxy.port}/", token, device=self.name, store=self, verify=True,
            rng=SeededRng(f"{self.stage.history.seed} {self.name}"),
        )  # fmt: skip
        self.client.start()
        self._task = asyncio.create_task(self._collect(self.client))

    async def end(self) -> None:
        """The program ends as programs do: in the middle of things."""
        if self.client is not None and self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self.client.close()
            self.client = None

    async def _collect(self, client: Client) -> None:
        history = self.stage.history
        async for item in client.items():
            if isinstance(item, Entry):
                place = self.places.get(item.stream, Saved(0, 0))
                self.places[item.stream] = place._replace(seq=max(place.seq, item.seq))
                history.delivered(
                    self.name, self.person, item.stream, item.seq, item.entry_id, item.sender, item.kind, item.body,
                    item.digest,
                )  # fmt: skip
            else:
                self.notices.append(item)
                if item.what == "floor":
                    place = self.places.get(item.stream, Saved(0, 0))
                    self.places[item.stream] = place._replace(seq=max(place.seq, item.last))

    async def say(self, stream: str, body: Any, key: str) -> None:
        """One SEND, written down from the first word to the answer."""
        history, client = self.stage.history, self.client
        if client is None:
            return
        operation = history.invoke(self.name, self.person, stream, key, body)
        try:
            sent = await client.send(stream, body, key=key, timeout_s=SEND_S)
            history.ok(operation, sent.seq, sent.entry_id)
        except HubError as error:
            if error.uncertain or error.temporary:
                history.unknown(operation)
            else:
                history.fail(operation, error.code)
        except (TimeoutError, Closed):
            history.unknown(operation)


class Stage:
    """Everything of one run. `chance` draws the faults and nothing else, so that a seed repeats them."""

    def __init__(self, seed: int, *, workers: int = 2, badness: Badness | None = None) -> None:
        self.chance = random.Random(seed)
        self.history = History(seed)
        self.home = Path(tempfile.gettempdir()) / f"bankhub-fault-{secrets.token_hex(6)}"
        self.home.mkdir(mode=0o711)
        self.engines = EmbeddedEngines(self.home / "var", {"postgres", "valkey"}, sync=False)
        self.proxy = Proxy(random.Random(seed + 1), lambda: [worker.port for worker in self.workers])
        self.workers: list[Worker] = []
        self.members: list[Member] = []
        self.rooms: list[str] = []
        self.talking: set[asyncio.Task[None]] = set()
        self._workers_wanted, self._badness = workers, badness or Badness(seed)

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
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environ = {
            **keep,
            "BANKHUB_VAR_DIR": str(self.home / "var"),
            "BANKHUB_DATABASE_URL": self.engines.database_url,
            "BANKHUB_REDIS_URL": self.engines.redis_url,
            "BANKHUB_DATABASE_POOL_MAX": "8",
            "BANKHUB_LOG_LEVEL": "info",
        }
        for n in range(self._workers_wanted):
            badness = Badness(self._badness.seed + n) if self._badness.lost else self._badness
            worker = Worker(f"w{n}", {**environ, ENVIRONMENT: str(badness)}, self.home / f"worker-{n}.log")
            self.workers.append(worker)
            worker.begin()
        await self.proxy.start()
        db = await connect(self.engines.database_url, min_size=1, max_size=3)
        self.world = World(db, self.engines.redis_url)
        self.world.ids = self.world._new_ids()
        self.world.bus = await self.world.new_bus()
        await asyncio.gather(*(worker.ready() for worker in self.workers))

    async def __aexit__(self, *_: object) -> None:
        for member in self.members:
            await member.end()
        with suppress(AssertionError):
            await self.proxy.stop()
        for worker in self.workers:
            await worker.stop()
        if hasattr(self, "world"):
            await self.world.stop()
            await self.world.db.close()
        await self.engines.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def worker_log(self, lines: int = 30) -> str:
        """The ends of the workers' logs, for a report."""
        return "\n".join(
            "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
            for log in sorted(self.home.glob("worker-*.log"))
        )

    async def change(self, room: str, *, added: Sequence[int] = (), removed: Sequence[int] = ()) -> None:
        """A change of membership; whether it happened is in the database."""
        with suppress(BankhubError, OSError):
            await asyncio.wait_for(self.world.change(room, added=added, removed=removed), 10)

    # --- the last word --------------------------------------------------------------------------------------------

    async def rows(self) -> tuple[list[Row], dict[str, int]]:
        """All entries of the rooms, and the heads of their streams."""
        connection = await asyncpg.connect(self.engines.database_url)
        try:
            found = await connection.fetch("SELECT * FROM hub_entries ORDER BY stream_id, seq")
            heads = await connection.fetch("SELECT stream_id, head FROM hub_streams")
        finally:
            await connection.close()
        rows = [
            Row(
                str(r["stream_id"]), r["seq"], str(r["entry_id"]), str(r["sender_id"]), r["dedupe_key"], r["kind"],
                r["time_ms"], None if r["body"] is None else msgpack.unpackb(r["body"]),
                None if r["options"] is None else msgpack.unpackb(r["options"]), r["digest"],
            )
            for r in found
        ]  # fmt: skip
        return rows, {str(r["stream_id"]): r["head"] for r in heads}
