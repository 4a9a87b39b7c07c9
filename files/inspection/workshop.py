"""The processes in which strangers' files are decoded, and a line of callers in front of them.

A process that crashes, runs out of memory or takes too long is a finding about its file, `Unreadable`, and another
takes its place. It is an error of ours, `Unavailable`, only when there is no place in the line or no process can be
started. Pillow and PDFium are never loaded where the service is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec
import structlog

from core.errors import Unavailable
from core.settings import Settings
from files.inspection.rules import Policy
from files.inspection.tasks import ANSWER_BYTES, Answer, Hello, Reply, Setup, Task, What
from files.inspection.values import (
    ArchiveLimits,
    Document,
    ImageLimits,
    Images,
    Listing,
    Office,
    PageLimits,
    Sound,
    Unreadable,
)

log = structlog.get_logger(__name__)

T = TypeVar("T", Images, Document, Office, Listing, Sound)
_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_START_S: Final = 20.0  # to start one: 0.2 s on an idle machine
_AGAIN_S: Final = 1.0  # after a start that failed
_GRACE_S: Final = 5.0  # after which a process ends itself that nobody has ended
_TYPES: Final[dict[What, type[Answer]]] = {
    "image": Images,
    "pdf": Document,
    "office": Office,
    "archive": Listing,
    "sound": Sound,
}


@dataclass(frozen=True, slots=True)
class WorkshopLimits:
    """See `core.settings` for what they are and why."""

    processes: int = 1
    waiting: int = 64
    wait_s: float = 30.0
    timeout_s: float = 20.0
    memory_bytes: int = 1 << 30
    tasks: int = 200
    file_bytes: int = 100 << 20  # of a cleaned picture: twice what a picture may weigh
    images: ImageLimits = field(default_factory=ImageLimits)
    archives: ArchiveLimits = field(default_factory=ArchiveLimits)
    pages: PageLimits = field(default_factory=PageLimits)


def policy_of(settings: Settings) -> Policy:
    """What this bank has decided about macros and encryption."""
    return Policy(macros=settings.files_macros, encrypted=settings.files_encrypted)


def limits_of(settings: Settings) -> WorkshopLimits:
    """The limits that settings name."""
    return WorkshopLimits(
        processes=settings.files_workshop_processes,
        waiting=settings.files_workshop_waiting,
        wait_s=settings.files_workshop_wait_s,
        timeout_s=settings.files_workshop_timeout_s,
        memory_bytes=settings.files_workshop_memory_bytes,
        tasks=settings.files_workshop_tasks,
        images=ImageLimits(pixels=settings.files_image_pixels),
        archives=ArchiveLimits(
            entries=settings.files_archive_entries, inflated_bytes=settings.files_archive_inflated_bytes
        ),
    )


@dataclass(slots=True)
class _Job:
    what: What
    descriptors: list[int]
    result: asyncio.Future[Answer]

    def close(self) -> None:
        while self.descriptors:
            os.close(self.descriptors.pop())


class Workshop:
    """``async with Workshop(limits) as workshop: await workshop.image(path)``.

    Every call opens its file here, at once, so it may be gone before its turn comes. A file is a path, or a descriptor
    of one that has no name: it is opened anew, so the process in the workshop can only read what it is to read.
    """

    def __init__(self, limits: WorkshopLimits | None = None) -> None:
        self._limits = limits or WorkshopLimits()
        self._line: asyncio.Queue[_Job] = asyncio.Queue()
        self._places: list[asyncio.Task[None]] = []
        self._processes: set[_Process] = set()
        self._closing = False

    async def __aenter__(self) -> Self:
        self._places = [
            asyncio.create_task(self._place(), name="files.workshop") for _ in range(self._limits.processes)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every process and wait until it is gone; whoever still waits gets `Unavailable`."""
        self._closing = True
        for place in self._places:
            place.cancel()
        await asyncio.gather(*self._places, return_exceptions=True)
        while not self._line.empty():
            self._refuse(self._line.get_nowait())

    @property
    def pids(self) -> list[int]:
        """Of the processes that run now."""
        return [process.pid for process in self._processes]

    async def image(self, file: Path | int, clean_to: Path | int | None = None) -> Images | Unreadable:
        """Small pictures; and the cleaned picture in `clean_to`: a path, which must not exist and does only
        afterwards if the answer is `Images`, or the descriptor of an empty file."""
        return await self._ask("image", Images, file, clean_to)

    async def pdf(self, file: Path | int) -> Document | Unreadable:
        return await self._ask("pdf", Document, file)

    async def office(self, file: Path | int) -> Office | Unreadable:
        return await self._ask("office", Office, file)

    async def archive(self, file: Path | int) -> Listing | Unreadable:
        """`file` may be sparse: nothing before `archives.directory_start` is read."""
        return await self._ask("archive", Listing, file)

    async def sound(self, file: Path | int) -> Sound | Unreadable:
        return await self._ask("sound", Sound, file)

    async def _ask(
        self, what: What, kind: type[T], file: Path | int, out: Path | int | None = None
    ) -> T | Unreadable:
        if self._closing or not self._places:
            raise Unavailable("the workshop is closed")
        if self._line.qsize() >= self._limits.waiting:
            raise Unavailable(
                "too many files are being looked at", retry_ms=round(self._limits.timeout_s * 1000)
            )
        job = _Job(what, [_opened(file, os.O_RDONLY)], asyncio.get_running_loop().create_future())
        if out is None:
            return await self._wait(job, kind)
        try:
            new = 0 if isinstance(out, int) else os.O_CREAT | os.O_EXCL
            job.descriptors.append(_opened(out, os.O_WRONLY | new))
        except OSError:
            job.close()
            raise
        answer: T | Unreadable | None = None
        try:
            answer = await self._wait(job, kind)
        finally:
            if isinstance(out, Path) and (answer is None or isinstance(answer, Unreadable)):
                out.unlink(missing_ok=True)
        return answer

    async def _wait(self, job: _Job, kind: type[T]) -> T | Unreadable:
        self._line.put_nowait(job)
        try:
            async with asyncio.timeout(self._limits.wait_s + self._limits.timeout_s + _GRACE_S):
                answer = await job.result
        except TimeoutError as error:
            raise Unavailable("no process is free to look at the file") from error
        finally:
            job.result.cancel()  # if nobody waits any more: its turn is passed over
        assert isinstance(answer, kind | Unreadable)
        return answer

    async def _place(self) -> None:
        """One place for a process: start it, give it tasks, and put another in its place when it ends."""
        job: _Job | None = None
        try:
            while True:
                process = _Process(self._limits)
                self._processes.add(process)
                try:
                    await process.start()
                    for _ in range(self._limits.tasks):
                        job = job or await self._line.get()
                        await self._do(process, job)
                        job = None
                        if not process.alive:
                            break
                except _Gone:
                    log.warning("files.workshop.gone")  # it never saw the task, which the next one gets
                except _NotStarted as error:
                    log.error("files.workshop.not_started", reason=str(error))
                    await asyncio.sleep(_AGAIN_S)
                finally:
                    await process.end()
                    self._processes.discard(process)
        finally:
            if job is not None:
                self._refuse(job)

    async def _do(self, process: _Process, job: _Job) -> None:
        """One task, with its answer given to whoever waits. Raises `_Gone` when it must be given to another."""
        if not job.result.done():  # or nobody waits any more
            answer = await process.ask(job)
            if not job.result.done():
                job.result.set_result(answer)
            if isinstance(answer, Unreadable):
                log.info("files.workshop.unreadable", what=job.what, why=answer.why)
        job.close()

    @staticmethod
    def _refuse(job: _Job) -> None:
        """Close its file; who still waits is told that nothing will come."""
        job.close()
        if not job.result.done():
            job.result.set_exception(Unavailable("the workshop is closed"))


class _NotStarted(Exception):
    """A process did not come up."""


class _Gone(Exception):
    """A process had ended before it was given a task."""


class _Process:
    """One process and our end of its socket."""

    def __init__(self, limits: WorkshopLimits) -> None:
        self._limits = limits
        self._process: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None
        self.alive = False

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Returns when it has given up what it does not need. Raises `_NotStarted`."""
        ours, theirs = socket.socketpair()
        self._socket = ours
        ours.setblocking(False)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-s", "-m", "files.inspection.worker"),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={
                    "PYTHONPATH": str(_ROOT),
                    "LANG": "C.UTF-8",
                    "PYTHONDONTWRITEBYTECODE": "1",
                },  # no secret of ours
                cwd="/",
            )
        except OSError as error:
            raise _NotStarted(str(error)) from error
        finally:
            theirs.close()
        limits = self._limits
        setup = Setup(
            parent=os.getpid(),
            memory_bytes=limits.memory_bytes,
            cpu_s=round(limits.timeout_s) + 1,
            wall_s=limits.timeout_s + _GRACE_S,
            file_bytes=limits.file_bytes,
            tasks=limits.tasks,
            images=limits.images,
            archives=limits.archives,
            pages=limits.pages,
        )
        try:
            ours.send(msgspec.msgpack.encode(setup))
            async with asyncio.timeout(_START_S):
                hello = msgspec.msgpack.decode(await self._message(), type=Hello)
        except (OSError, EOFError, TimeoutError, msgspec.DecodeError) as error:
            raise _NotStarted(f"no answer: {error!r}") from error
        if hello.missing:
            log.warning("files.workshop.unconfined", missing=list(hello.missing))
        self.alive = True

    async def ask(self, job: _Job) -> Answer:
        """The answer, or what became of the process; it is not `alive` afterwards if it did not answer in order.
        Raises `_Gone` if it never got the task."""
        assert self._socket is not None
        assert self._process is not None
        self.alive = False
        try:
            socket.send_fds(self._socket, [msgspec.msgpack.encode(Task(job.what))], job.descriptors)
        except OSError as error:
            raise _Gone from error
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                reply = msgspec.msgpack.decode(await self._message(), type=Reply)
            answer = msgspec.msgpack.decode(
                reply.body, type=_TYPES[job.what] if reply.readable else Unreadable
            )
        except TimeoutError:
            return Unreadable("time")
        except (OSError, EOFError):
            code = await self._process.wait()
            log.warning("files.workshop.ended", what=job.what, code=code)
            return Unreadable(_why(code))
        except msgspec.DecodeError:
            return Unreadable("crash")  # it no longer does what we wrote
        self.alive = True
        return answer

    async def end(self) -> None:
        """Gone when this returns, also when that is cancelled meanwhile."""
        self.alive = False
        if self._socket is not None:
            self._socket.close()
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        waiting, cancelled = asyncio.ensure_future(self._process.wait()), False
        while not waiting.done():  # SIGKILL takes no time, a zombie would stay
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    async def _message(self) -> bytes:
        (size,) = struct.unpack(">I", await self._exactly(4))
        if size > ANSWER_BYTES:
            raise msgspec.DecodeError("an answer is too large")
        return await self._exactly(size)

    async def _exactly(self, size: int) -> bytes:
        assert self._socket is not None
        loop, data = asyncio.get_running_loop(), bytearray()
        while len(data) < size:
            part = await loop.sock_recv(self._socket, min(size - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return bytes(data)


def _opened(file: Path | int, flags: int) -> int:
    """A descriptor with a position and rights of its own, also of a file that is open here already."""
    path = f"/proc/self/fd/{file}" if isinstance(file, int) else file
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _why(code: int) -> str:
    """What a process ended of, by its exit code. SIGKILL that is not ours is the kernel's, short of memory."""
    match -code:
        case signal.SIGXCPU | signal.SIGALRM | signal.SIGPROF:
            return "time"
        case signal.SIGKILL:
            return "memory"
        case signal.SIGXFSZ:
            return "limit"
    return "crash"
