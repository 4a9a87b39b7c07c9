"""Worker processes: started by the supervisor, gone when it is gone, started again when they end by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from core.engines.process import die_with_parent, ended, tail
from core.errors import Unavailable

log = structlog.get_logger(__name__)

FRONT_DOOR = Path(__file__).resolve().parent.parent / "bankhub.py"
READY_FD = "BANKHUB_READY_FD"
# before the first, second, … start again of a worker that keeps ending
_RESTART_S = (0.0, 0.5, 1.0, 2.0, 5.0)
_STEADY_S = 60.0  # a worker that ran so long starts counting anew
_READY_S = 60.0


class WorkerFailed(Unavailable):
    """A worker process could not be started."""


def announce_ready() -> None:
    """Tell the supervisor that started this process, if one did, that it serves now."""
    descriptor = os.environ.pop(READY_FD, None)
    if descriptor is not None:
        with contextlib.suppress(OSError):
            os.write(int(descriptor), b"ready")
            os.close(int(descriptor))


class Worker:
    """One place for a worker process. `environ` may be changed: the next start sees it."""

    def __init__(self, name: str, words: Sequence[str], environ: Mapping[str, str], log_file: Path) -> None:
        self.name = name
        self.environ = environ
        self.starts = 0
        self._words = words
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start and wait until it serves. Raises `WorkerFailed` with what it said when it ends before."""
        reading, writing = os.pipe()
        try:
            self._process = self._spawn(writing)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        try:
            async with asyncio.timeout(_READY_S):
                answer = await _first_bytes(reading)
        except TimeoutError as error:
            raise WorkerFailed(f"{self.name} was not ready within {_READY_S:.0f} s") from error
        finally:
            os.close(reading)
        if answer != b"ready":
            code = await ended(self._process)
            raise WorkerFailed(f"{self.name} ended with code {code}:\n{tail(self._log_file)}")
        self.starts += 1

    async def run_once(self) -> None:
        """Start, and wait until it has done its work and ended. Raises `WorkerFailed`."""
        await self.start()
        await self.stopped(timeout_s=_READY_S)

    async def keep(self) -> None:
        """Start it again whenever it ends, for ever, with growing pauses when it ends soon."""
        loop = asyncio.get_running_loop()
        soon = 0
        while True:
            assert self._process is not None
            began = loop.time()
            code = await ended(self._process)
            soon = 1 if loop.time() - began > _STEADY_S else soon + 1
            log.error("worker.ended", worker=self.name, code=code)
            while True:
                await asyncio.sleep(_RESTART_S[min(soon, len(_RESTART_S)) - 1])
                try:
                    await self.start()
                    break
                except WorkerFailed as error:
                    soon += 1
                    log.error("worker.start_failed", worker=self.name, reason=error.message)
            log.info("worker.restarted", worker=self.name)

    def ask_to_stop(self) -> None:
        """SIGTERM: no new clients, tell the others when to come back, finish what was accepted, end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    async def stopped(self, *, timeout_s: float) -> None:
        """Wait for the end; kill after `timeout_s`."""
        if self._process is None:
            return
        try:
            await asyncio.wait_for(ended(self._process), timeout_s)
        except TimeoutError:
            log.warning("worker.killed", worker=self.name, timeout_s=timeout_s)
            self._process.kill()
            await ended(self._process)

    def _spawn(self, ready: int) -> subprocess.Popen[bytes]:
        descriptor = os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return subprocess.Popen(
                [sys.executable, str(FRONT_DOOR), *self._words],
                env={**os.environ, **self.environ, READY_FD: str(ready)},
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                pass_fds=(ready,),
                start_new_session=True,  # a Ctrl-C at the terminal is the supervisor's alone
                preexec_fn=die_with_parent(signal.SIGKILL),  # its database is about to go as well
            )
        finally:
            os.close(descriptor)


async def _first_bytes(descriptor: int) -> bytes:
    """What is written to a pipe first; nothing when its other end is closed."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, 64)
