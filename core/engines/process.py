"""An engine's process: dies with its parent, holds its directory while any part of it lives, stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from core.engines import EngineFailed

log = structlog.get_logger(__name__)

_PR_SET_PDEATHSIG = 1
_LOG_BYTES = 16 << 20  # a log over this is set aside at the next start
_ORPHAN_WAIT_S = 10.0  # an engine whose supervisor was killed needs this long at most to stop by itself
_libc = ctypes.CDLL(None, use_errno=True)


def nobody() -> pwd.struct_passwd | None:
    """Who runs what refuses to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError as error:
        raise EngineFailed("PostgreSQL refuses to run as root and this system has no user nobody") from error


def die_with_parent(signum: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: have the kernel send `signum` when the thread that starts the process ends."""
    parent = os.getpid()

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the call above
            os._exit(1)

    return prepare


class DirectoryLock:
    """Held on an engine's directory by every process of the engine, because they inherit its descriptor.

    Pid files lie after a crash and numbers are given out again; this lock is gone exactly when all of them are.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = -1

    async def acquire(self) -> None:
        """Wait for a former engine to end; after `_ORPHAN_WAIT_S` end it. Raises `EngineFailed` if it stays."""
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        killed = False
        until = time.monotonic() + _ORPHAN_WAIT_S
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    if killed:
                        self.release()
                        raise EngineFailed(f"a former engine still holds {self._path.parent}") from None
                    killed, until = True, time.monotonic() + _ORPHAN_WAIT_S
                    self._kill_holder()
                await asyncio.sleep(0.02)

    def _kill_holder(self) -> None:
        text = os.pread(self.descriptor, 32, 0).decode(errors="replace").strip()
        log.warning("engine.orphan_killed", directory=str(self._path.parent), pid=text)
        with contextlib.suppress(ValueError, ProcessLookupError, PermissionError):
            os.kill(int(text), signal.SIGKILL)

    def note(self, pid: int) -> None:
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{pid}\n".encode(), 0)

    def release(self) -> None:
        """Let go of our copy; the engine keeps its own."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def spawn(
    argv: Sequence[str],
    *,
    cwd: Path,
    log_file: Path,
    lock: DirectoryLock,
    last_word: signal.Signals,
    user: pwd.struct_passwd | None = None,
    environ: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv`, holding `lock`, in its own session (a Ctrl-C at the terminal is the supervisor's alone).

    Call it from a thread that lives as long as the engine should: the kernel watches the thread, and sends
    `last_word` when it ends. With `user`, everything of ours is given up before the program begins.
    """
    if log_file.exists() and log_file.stat().st_size > _LOG_BYTES:
        log_file.replace(log_file.with_suffix(".log.1"))
    descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=_clean_environ(environ),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            pass_fds=(lock.descriptor,),
            start_new_session=True,
            preexec_fn=die_with_parent(last_word),
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            umask=0o077,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineFailed(f"cannot run {argv[0]}: {error}") from error
    finally:
        os.close(descriptor)
    lock.note(process.pid)
    return process


class EngineProcess:
    """A running engine."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], *, stop_signal: signal.Signals, log_file: Path
    ) -> None:
        self.name = name
        self.pid = process.pid
        self._log_file = log_file
        self._process = process
        self._stop_signal = stop_signal

    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def check(self) -> None:
        """Raise `EngineFailed` with the end of the log when the engine is not running any more."""
        code = self.exit_code()
        if code is not None:
            said = tail(self._log_file)
            raise EngineFailed(f"{self.name} ended with code {code}; {self._log_file} says:\n{said}")

    def kill(self) -> None:
        """SIGKILL, for fault tests and for what does not stop."""
        self._process.kill()

    async def ended(self) -> int:
        """Wait for the end."""
        return await ended(self._process)

    async def stop(self, *, timeout_s: float) -> None:
        """Ask it to stop, wait, kill after `timeout_s`."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
        try:
            await asyncio.wait_for(self.ended(), timeout_s)
        except TimeoutError:
            log.warning("engine.killed", engine=self.name, timeout_s=timeout_s)
            self._process.kill()
            await self.ended()


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process; its exit code."""
    while (code := process.poll()) is None:
        await asyncio.sleep(0.02)
    return code


def _clean_environ(more: Mapping[str, str] | None) -> dict[str, str]:
    """The environment of an engine: nothing of ours but where programs and time zones are."""
    kept = {name: os.environ[name] for name in ("PATH", "TZDIR", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **kept, **(more or {})}


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(path.read_text(errors="replace")[-8192:].splitlines()[-lines:])
    except OSError:
        return "(no log)"
