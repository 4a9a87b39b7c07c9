"""Server and load client as processes of their own, each on its core."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.engines.process import die_with_parent

ROOT = Path(__file__).resolve().parent.parent.parent
START_S = 30.0
Result = dict[str, Any]


class BenchFailed(Exception):
    """A measure could not be taken; the reason is the message."""


_there = sorted(os.sched_getaffinity(0))  # at import: later we ourselves are on one core only


def cores() -> tuple[int, int]:
    """(the server's core, everybody else's): the same one where there is only one."""
    return _there[0], _there[-1]


def pinned(core: int) -> Callable[[], None]:
    """For `preexec_fn`: run on one core, end with us."""
    die = die_with_parent(signal.SIGKILL)

    def prepare() -> None:
        die()
        os.sched_setaffinity(0, {core})

    return prepare


class Server:
    """A server process that prints one JSON object with its `port` when it serves."""

    def __init__(
        self, words: Sequence[str], folder: Path, name: str, environ: Mapping[str, str], core: int
    ) -> None:
        self.output, self.errors = folder / f"{name}.out", folder / f"{name}.err"
        with self.output.open("wb") as out, self.errors.open("ab") as err:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT, preexec_fn=pinned(core),
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            )  # fmt: skip
        self.pid = self._process.pid
        self.told: Result = {}

    def ready(self) -> Server:
        """Waits until it serves. Raises `BenchFailed`."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            for line in self.output.read_text().splitlines():
                if line.startswith("{") and '"port"' in line:
                    self.told = json.loads(line)
                    return self
            if self._process.poll() is not None:
                break
            time.sleep(0.005)
        raise BenchFailed(f"a server did not start:\n{self.errors.read_text()[-3000:]}")

    def rss_kib(self) -> int:
        """Resident memory of the process: user space only, the kernel's socket buffers are not in it."""
        return self._status("VmRSS:")

    def peak_rss_kib(self) -> int:
        """The most since it began, or since `forget_peak`."""
        return self._status("VmHWM:")

    def forget_peak(self) -> None:
        """Begin anew to look for the most."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu_s(self) -> float:
        """CPU time of all its threads, the kernel's work for it too."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
        raise BenchFailed("the server has no memory: it is gone")

    def kill(self) -> int:
        """SIGKILL, now; the monotonic time of it in ns."""
        at_ns = time.monotonic_ns()
        self._process.kill()
        self._process.wait()
        return at_ns

    def stop(self) -> None:
        """Ends it without waiting for its clients."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def python_server(
    module: str, words: Sequence[object], folder: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """One of our servers, on the server's core."""
    server = start_python(module, words, folder, environ)
    try:
        yield server.ready()
    finally:
        server.stop()


def start_python(
    module: str, words: Sequence[object], folder: Path, environ: Mapping[str, str] | None = None
) -> Server:
    """The same, not waited for."""
    argv = [sys.executable, "-m", f"tests.bench.{module}", *map(str, words)]
    return Server(argv, folder, module.rpartition(".")[2], environ or {}, cores()[0])


@contextlib.contextmanager
def program_server(program: Path, words: Sequence[object], folder: Path) -> Iterator[Server]:
    """A compiled server, on the server's core."""
    server = Server([str(program), *map(str, words)], folder, program.stem, {}, cores()[0])
    try:
        yield server.ready()
    finally:
        server.stop()


class Client:
    """One run of the load client, on its own core. `options` become `--name value`."""

    def __init__(self, program: Path, mode: str, server: Server, **options: object) -> None:
        given = {"mode": mode, "port": server.told["port"], "server_pid": server.pid, **options}
        words = [str(program)]
        for name, value in given.items():
            if value is True:
                words.append("--" + name.replace("_", "-"))
            elif value is not None and value is not False:
                words += ["--" + name.replace("_", "-"), str(value)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=pinned(cores()[1])
        )

    def until_ready(self) -> Result:
        """Waits until every connection is in. Raises `BenchFailed`."""
        return self._line("event")

    def result(self) -> Result:
        """Waits for the report. Raises `BenchFailed`."""
        try:
            return self._line("result")
        finally:
            self._process.wait()
            self._close()

    def stop(self) -> None:
        """Ends an idle client: it then reports."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        """Ends it whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _line(self, wanted: str) -> Result:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told: Result = json.loads(line)
            if told.get("result") == "failed":
                raise BenchFailed(f"the load client gave up: {line.strip()}")
            if wanted in told:
                return told
        raise BenchFailed("the load client ended without a word")


def run_client(program: Path, mode: str, server: Server, **options: object) -> Result:
    """A whole run; its report, with `ready` in it."""
    client = Client(program, mode, server, **options)
    try:
        ready = client.until_ready()
        return {**client.result(), "ready": ready}
    finally:
        client.kill()
