"""`up`: the engines and the workers of one machine, from one process that keeps all of them alive.

Order of starting: reserve the ports, engines, migrations and demonstration data, workers. Of stopping: workers (they
drain), then object store, Valkey, PostgreSQL. When the supervisor itself is killed, the kernel ends all the others.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from core.db import migrate
from core.embedded import EmbeddedEngines
from core.engines.state import State, write_private
from core.errors import Unavailable
from core.settings import Settings
from house.banner import banner
from house.compose import columns_of
from house.demo import read_client_id, read_demo
from house.texts import FILE, follow
from house.workers import Worker, announce_ready

log = structlog.get_logger(__name__)

_DATABASE = "BANKHUB_DATABASE_URL"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
NOTE = "up.json"  # what is running, for the other verbs
_DRAIN_EXTRA_S = 10.0  # to close the database and end, after the drain


class PortTaken(Unavailable):
    """A port is taken."""


def reserve(host: str, port: int, flag: str) -> socket.socket:
    """Hold a port for our workers, who share it (SO_REUSEPORT), against everybody else.

    Raises `PortTaken` when another program, or another bankhub, has it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # without SO_REUSEPORT, else another bankhub of this user would silently share its clients with us
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(f"port {port} on {host} is taken; choose another: {flag} N") from error
        raise PortTaken(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return held


def wanted_engines(settings: Settings) -> set[str]:
    """The engines that no setting replaces."""
    external = {
        "postgres": settings.database_url,
        "valkey": settings.redis_url,
        "s3": settings.s3_endpoint_url,
    }
    return {name for name, url in external.items() if url is None}


def addresses(engines: EmbeddedEngines) -> dict[str, str]:
    """Environment for a process that works with these engines, which must have been started."""
    environ = {}
    if "postgres" in engines.want:
        environ[_DATABASE] = engines.database_url
    if "valkey" in engines.want:
        environ["BANKHUB_REDIS_URL"] = engines.redis_url
    if "s3" in engines.want:
        s3 = engines.s3
        environ["BANKHUB_S3_ENDPOINT_URL"] = s3.endpoint
        environ["BANKHUB_S3_ACCESS_KEY"] = s3.access_key
        environ["BANKHUB_S3_SECRET_KEY"] = s3.secret_key
        environ["BANKHUB_S3_BUCKET"] = s3.bucket
    return environ


class Supervisor:
    """One `up`. `say` gets what people should read; everything else goes to logs."""

    def __init__(self, settings: Settings, *, demo: bool, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.var = settings.var_dir.absolute()
        self._demo = demo
        self._say = say
        self._engines = EmbeddedEngines(self.var, wanted_engines(settings), bucket=settings.s3_bucket)
        self._workers: list[Worker] = []
        self._ports: list[socket.socket] = []
        self._hurry = asyncio.Event()
        self._noted = False

    async def run(self) -> None:
        """Everything up, until a signal; then everything down. Raises `BankhubError` when it cannot come up."""
        loop = asyncio.get_running_loop()
        work = loop.create_task(self._work())
        asked = False

        def stop() -> None:
            nonlocal asked
            if asked:
                self._hurry.set()  # asked twice: do not wait for clients
            asked = True
            work.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop)
        try:
            await asyncio.wait([work])
            if not work.cancelled():
                await work
        finally:
            await self._down()

    async def _work(self) -> None:
        began = time.monotonic()
        await self._up()
        took_s = time.monotonic() - began
        note = self._note()
        write_private(self.var / NOTE, json.dumps(note, indent=2) + "\n")
        self._noted = True
        self._say(banner(note, read_demo(self.var), took_s, read_client_id(self.var)))
        announce_ready()
        await asyncio.gather(
            self._engines.supervise(self._moved),
            *(worker.keep() for worker in self._workers),
            *([] if self.settings.sms_url else [follow(self.var / FILE, self._say)]),
        )

    async def _up(self) -> None:
        settings, engines = self.settings, self._engines
        running = engines.holder()
        if running is not None:
            raise Unavailable(
                f"bankhub is already running on {self.var} (process {running}); `bankhub down` stops it"
            )
        for host, port, flag in (
            (settings.gateway_host, settings.gateway_port, "--gateway-port"),
            (settings.hub_host, settings.hub_port, "--hub-port"),
        ):
            self._ports.append(reserve(host, port, flag))
        engines.begin()
        for name in engines.want & {"postgres", "valkey"}:
            await engines.ready(name)
        environ = self._environ()
        database = environ.get(_DATABASE) or self._external_database()
        await migrate(database, columns_of(settings))
        log_file = self.var / "log" / "bankhub.log"
        count = settings.workers or max(1, (os.cpu_count() or 1) - 1)
        self._workers = [Worker(f"worker {n + 1}", ["serve"], environ, log_file) for n in range(count)]
        starting = [worker.start() for worker in self._workers]
        if self._demo and read_demo(self.var, database) is None:
            starting.append(Worker("seed", ["seed"], environ, log_file).run_once())
        await asyncio.gather(*starting)
        for name in engines.want:
            await engines.ready(name)
        if environ != self._environ():
            self._moved("s3")

    def _external_database(self) -> str:
        assert self.settings.database_url is not None
        return self.settings.database_url.get_secret_value()

    def _environ(self) -> dict[str, str]:
        return {
            # who tries the demonstration by hand has no key; `nobody` is no role
            **({"BANKHUB_POSSESSION_ROLES": "nobody"} if self._demo else {}),
            **addresses(self._engines),
            **self._direct(),
            "BANKHUB_VAR_DIR": str(self.var),
            "BANKHUB_GATEWAY_PORT": str(self.settings.gateway_port),
            "BANKHUB_HUB_PORT": str(self.settings.hub_port),
        }

    def _direct(self) -> dict[str, str]:
        """Our own store listens on loopback, so clients that reach us there reach it as well; nobody else does."""
        known = self.settings.files_direct_url is not None or "s3" not in self._engines.want
        if known or self.settings.gateway_host not in _LOOPBACK:
            return {}
        return {"BANKHUB_FILES_DIRECT_URL": self._engines.s3.endpoint}

    def _moved(self, name: str) -> None:
        """An engine came back at another port, because somebody took its own meanwhile: start the workers anew."""
        log.warning("engine.moved", engine=name)
        environ = self._environ()
        for worker in self._workers:
            worker.environ = environ
            worker.ask_to_stop()

    async def _down(self) -> None:
        if self._workers:
            self._say("stopping: clients are told when to come back (Ctrl-C again: at once)")
        for worker in self._workers:
            worker.ask_to_stop()
        timeout_s = self.settings.drain_s + _DRAIN_EXTRA_S
        stopping = asyncio.gather(*(worker.stopped(timeout_s=timeout_s) for worker in self._workers))
        impatience = asyncio.create_task(self._kill_when_in_a_hurry())
        await stopping
        impatience.cancel()
        if self._noted:
            (self.var / NOTE).unlink(missing_ok=True)
        await self._engines.stop()
        for held in self._ports:
            held.close()

    async def _kill_when_in_a_hurry(self) -> None:
        await self._hurry.wait()
        for worker in self._workers:
            worker.kill()

    def _note(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "pid": os.getpid(),
            "gateway_url": f"http://{_reachable(settings.gateway_host)}:{settings.gateway_port}",
            "hub_url": f"ws://{_reachable(settings.hub_host)}:{settings.hub_port}",
            "workers": len(self._workers),
            "engines": sorted(self._engines.want),
            "var": str(self.var),
        }


def read_note(var: Path) -> dict[str, Any] | None:
    """What the `up` that is running on this directory noted; None when there is none."""
    try:
        note = json.loads((var / NOTE).read_bytes())
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) and State(var).holder() == note.get("pid") else None


async def down(var: Path, *, timeout_s: float) -> bool:
    """Ask the running `up` to stop and wait for its end; False when none runs. Raises `Unavailable` when it stays."""
    state = State(var)
    pid = state.holder()
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + timeout_s
    while state.holder() == pid or Path(f"/proc/{pid}/exe").exists():  # a zombie has none
        if time.monotonic() > until:
            raise Unavailable(f"process {pid} has not ended within {timeout_s:.0f} s")
        await asyncio.sleep(0.02)
    return True


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
