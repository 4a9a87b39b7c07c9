"""The processes that look at strangers' files: what they can do to themselves they cannot do to us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.errors import Unavailable
from files.inspection.kinds import BY_EXTENSION, Work
from files.inspection.values import Document, Finding, Images, Listing, Office, Sound, Unreadable
from files.inspection.workshop import Workshop, WorkshopLimits, _NotStarted, _Process
from tests.files import samples

_ROOT = Path(__file__).resolve().parents[3]
_MIB = 1 << 20


@pytest.fixture
async def workshop() -> AsyncIterator[Workshop]:
    async with Workshop() as made:
        yield made


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    assert children() == [], "a process is left, or was not waited for"


def children() -> list[int]:
    """Processes that this one started, also those that have ended and were not waited for."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [
        int(pid) for pid in listed if b"files.inspection.worker" in _words(int(pid)) or _is_zombie(int(pid))
    ]


def _words(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def put(tmp_path: Path) -> _Put:
    return _Put(tmp_path)


class _Put:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def __call__(self, data: bytes) -> Path:
        self._count += 1
        path = self._folder / str(self._count)
        path.write_bytes(data)
        return path


async def test_every_kind_of_work(workshop: Workshop, put: _Put) -> None:
    expected = {
        Work.IMAGE: Images,
        Work.PDF: Document,
        Work.OFFICE: Office,
        Work.ARCHIVE: Listing,
        Work.SOUND: Sound,
    }
    for name, data in samples.good().items():
        work = BY_EXTENSION[name.rpartition(".")[2]].work
        if work is not Work.NONE:
            answer = await getattr(workshop, work.value)(put(data))
            assert isinstance(answer, expected[work]), name
    assert len(workshop.pids) == 1  # nothing of it took a process with it


async def test_the_cleaned_picture_is_written_where_it_was_asked_for(
    workshop: Workshop, put: _Put, tmp_path: Path
) -> None:
    clean = tmp_path / "clean"
    answer = await workshop.image(put(samples.png_texts()), clean)
    assert isinstance(answer, Images)
    assert answer.cleaned == "lossless"
    assert b"CANARY" not in clean.read_bytes()
    assert clean.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        await workshop.image(put(samples.png()), clean)
    other = tmp_path / "other"
    assert await workshop.image(put(samples.png()[:-30]), other) == Unreadable("broken")
    assert not other.exists()


async def test_bombs_and_what_is_broken(workshop: Workshop, put: _Put) -> None:
    """Everything that should hurt, one after the other; neither this process nor the next file notices."""
    zip_bomb = samples.zipped({"zeros.txt": bytes(90 * _MIB)})
    assert len(zip_bomb) < _MIB
    inputs = [put(data) for data in (samples.png_flood(30_000, 30_000), samples.gif_claiming(30_000, 30_000))]
    huge, cut, bomb = put(samples.pdf(width=14_400, height=14_400)), put(samples.pdf()[:300]), put(zip_bomb)
    office = put(samples.ooxml("xlsx", {"xl/sharedStrings.xml": bytes(70 * _MIB)}))
    good = put(samples.jpeg())
    assert isinstance(await workshop.image(good), Images)
    del zip_bomb
    before = resident()
    for path in inputs:
        assert await workshop.image(path) == Unreadable("pixels")
    assert isinstance(await workshop.pdf(huge), Document)
    assert await workshop.pdf(cut) == Unreadable("broken")
    listing = await workshop.archive(bomb)
    assert isinstance(listing, Listing)
    assert Finding.RATIO in listing.findings
    assert await workshop.office(office) == Unreadable("limit")
    assert isinstance(await workshop.image(good), Images)
    assert resident() - before < 8 * _MIB
    assert "PIL" not in _loaded()


def _loaded() -> str:
    """What importing the workshop brings into a process."""
    words = "import sys; from files.inspection import rules, scanner, workshop; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


async def test_a_cleaned_picture_has_a_limit(put: _Put, tmp_path: Path) -> None:
    path = put(samples.jpeg(quality=95))
    async with Workshop(WorkshopLimits(file_bytes=500)) as workshop:
        assert await workshop.image(path, tmp_path / "clean") == Unreadable("limit")
        assert not (tmp_path / "clean").exists()
        assert isinstance(await workshop.image(path), Images)


async def test_more_memory_than_it_may_have_is_a_finding(put: _Put) -> None:
    path = put(samples.png_flood(7900, 7900))  # within the limit of pixels
    async with Workshop(WorkshopLimits(memory_bytes=256 * _MIB)) as workshop:
        assert await workshop.image(path) == Unreadable("memory")
        assert isinstance(await workshop.image(put(samples.jpeg())), Images)


async def test_time_is_limited(put: _Put) -> None:
    slow = put(samples.png_flood(7900, 7900))  # within the limit of pixels; a second inside Pillow
    async with Workshop(WorkshopLimits(timeout_s=0.1)) as workshop:
        assert await workshop.image(slow) == Unreadable("time")


async def test_only_the_process_that_takes_too_long_is_ended(put: _Put) -> None:
    good = put(samples.jpeg())
    async with Workshop(WorkshopLimits(processes=2, timeout_s=3)) as workshop:
        stopped, other = await _ready(workshop, 2)
        os.kill(stopped, signal.SIGSTOP)
        answers = await asyncio.gather(workshop.image(good), workshop.image(good))
        assert sorted(type(one).__name__ for one in answers) == ["Images", "Unreadable"]
        assert Unreadable("time") in answers
        async with asyncio.timeout(20):
            while stopped in workshop.pids:
                await asyncio.sleep(0.01)
        assert other in await _ready(workshop, 2)


async def _ready(workshop: Workshop, count: int) -> list[int]:
    """Processes that wait for a task."""
    async with asyncio.timeout(20):
        while len(found := [one.pid for one in workshop._processes if one.alive]) < count:
            await asyncio.sleep(0.01)
    return found


@pytest.mark.parametrize(
    ("signum", "why"),
    [
        (signal.SIGSEGV, "crash"),
        (signal.SIGABRT, "crash"),
        (signal.SIGKILL, "memory"),
        (signal.SIGXCPU, "time"),
    ],
)
async def test_a_crash_is_a_finding(workshop: Workshop, put: _Put, signum: signal.Signals, why: str) -> None:
    good = put(samples.jpeg())
    (pid,) = await _ready(workshop, 1)
    os.kill(pid, signal.SIGSTOP)
    call = asyncio.create_task(workshop.image(good))
    async with asyncio.timeout(20):
        while any(one.alive for one in workshop._processes):  # until the task is on its way
            await asyncio.sleep(0)
    os.kill(pid, signum)
    if signum is not signal.SIGKILL:  # which waits for nothing: it may be gone already
        os.kill(pid, signal.SIGCONT)
    assert await call == Unreadable(why)
    assert isinstance(await workshop.image(good), Images)
    assert workshop.pids != [pid]


async def test_a_process_that_ends_while_it_waits_harms_no_file(workshop: Workshop, put: _Put) -> None:
    good = put(samples.jpeg())
    (pid,) = await _ready(workshop, 1)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while not _is_gone(pid):
            await asyncio.sleep(0.01)
    assert isinstance(await workshop.image(good), Images)


def _is_gone(pid: int) -> bool:
    return _is_zombie(pid) or not Path(f"/proc/{pid}").exists()


async def test_a_process_is_replaced_after_so_many_tasks(put: _Put) -> None:
    path, seen = put(samples.jpeg()), []
    async with Workshop(WorkshopLimits(tasks=2)) as workshop:
        for _ in range(6):
            assert isinstance(await workshop.image(path), Images)
            seen.append(next(iter(workshop.pids)))
    assert len(set(seen)) >= 3


async def test_the_line_is_bounded(put: _Put) -> None:
    path = put(samples.jpeg())
    async with Workshop(WorkshopLimits(waiting=3)) as workshop:
        calls = [asyncio.create_task(workshop.image(path)) for _ in range(12)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [one for one in answers if isinstance(one, Unavailable)]
    assert len(refused) >= 8
    assert all(isinstance(one, Images | Unavailable) for one in answers)
    assert all(one.retry_ms for one in refused)


async def test_who_does_not_wait_any_more_costs_nothing(
    workshop: Workshop, put: _Put, tmp_path: Path
) -> None:
    path = put(samples.jpeg())
    clean = tmp_path / "clean"
    opened = len(list(Path("/proc/self/fd").iterdir()))
    calls = [asyncio.create_task(workshop.image(path, clean if n == 5 else None)) for n in range(20)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(await workshop.image(path), Images)
    assert not clean.exists()
    assert len(list(Path("/proc/self/fd").iterdir())) <= opened + 2


async def test_the_loop_is_never_held(workshop: Workshop, put: _Put) -> None:
    path = put(samples.png_flood(4000, 4000))
    await workshop.image(path)
    call, longest = asyncio.create_task(workshop.image(path)), 0.0
    while not call.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - began)
    assert isinstance(await call, Images)
    assert longest < 0.25  # the machine is shared; the picture takes half a second and more


async def test_closing_refuses_who_waits_and_leaves_nobody(put: _Put) -> None:
    path = put(samples.jpeg())
    workshop = Workshop()
    with pytest.raises(Unavailable):
        await workshop.image(path)
    async with workshop:
        calls = [asyncio.create_task(workshop.image(path)) for _ in range(5)]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(one, Unavailable | Images) for one in answers)
    assert any(isinstance(one, Unavailable) for one in answers)
    with pytest.raises(Unavailable):
        await workshop.image(path)


async def test_a_process_that_cannot_start_is_our_fault_not_the_files(
    put: _Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    process = _Process(WorkshopLimits())
    with pytest.raises(_NotStarted):
        await process.start()
    await process.end()
    async with Workshop(WorkshopLimits(wait_s=0.1, timeout_s=0.1)) as workshop:
        with pytest.raises(Unavailable):
            await workshop.image(put(samples.jpeg()))


async def test_the_process_goes_with_the_service() -> None:
    """kill -9 of the service leaves no process behind."""
    words = (
        "import asyncio\nfrom files.inspection.workshop import Workshop\n"
        "async def main():\n    async with Workshop() as w:\n"
        "        while not any(p.alive for p in w._processes): await asyncio.sleep(0.01)\n"
        "        print(*w.pids, flush=True)\n        await asyncio.sleep(60)\nasyncio.run(main())"
    )
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", words), cwd=_ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert service.stdout is not None
    pid = int(await service.stdout.readline())
    assert b"files.inspection.worker" in _words(pid)
    service.kill()
    await service.wait()
    async with asyncio.timeout(10):
        while not _is_gone(pid):
            await asyncio.sleep(0.01)


ATTEMPTS = {
    "connects": "import socket; socket.create_connection(('127.0.0.1', 1), 1)",
    "makes a Unix socket": "import socket; socket.socketpair()",
    "starts a program": "import os; os.posix_spawn('/bin/true', ['true'], os.environ)",
    "becomes a program": "import os; os.execv('/bin/true', ['true'])",
    "forks": "import os; os.fork()",
    "kills": "import os, signal; os.kill(os.getppid(), signal.SIGTERM)",
    "reads the keys": "open({secret!r}).read()",
    "lists a folder": "import os; os.listdir({folder!r})",
    "writes": "open({folder!r} + '/new', 'w')",
    "deletes": "import os; os.unlink({secret!r})",
    "renames": "import os; os.rename({secret!r}, {secret!r} + '1')",
    "takes more memory": "bytearray(3 << 30)",
    "raises its limit": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "reads our memory": "import os; open(f'/proc/{{os.getppid()}}/mem', 'rb')",
    "reads our environment": "import os; open(f'/proc/{{os.getppid()}}/environ', 'rb').read()",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_a_process_gave_up(attempt: str, tmp_path: Path) -> None:
    """As if somebody had taken it over: each attempt is refused by the kernel."""
    secret = tmp_path / "secret"
    secret.write_text("key")
    code = ATTEMPTS[attempt].format(secret=str(secret), folder=str(tmp_path))
    words = (
        "from pathlib import Path\nfrom files.inspection import confine, images\n"
        "confine.limit(memory_bytes=1 << 30, cpu_s=60, file_bytes=1 << 20, open_files=32)\n"
        f"missing = confine.lock_down(Path({str(_ROOT / 'files')!r}))\n"
        "assert not missing, missing\n"
        f"try:\n    {code}\nexcept (OSError, MemoryError, ValueError) as error:\n    print('refused', repr(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=_ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.startswith("refused"), done.stderr or done.stdout
    assert "ConnectionRefused" not in done.stdout
    assert secret.exists()


@pytest.mark.skipif(
    os.geteuid() != 0, reason="nobody but root may look at such a process, which is the point"
)
async def test_nothing_of_ours_goes_with_it(
    workshop: Workshop, put: _Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANKHUB_CLUSTER_SECRET", "CANARY")
    async with Workshop() as made:
        assert isinstance(await made.image(put(samples.jpeg())), Images)
        (pid,) = made.pids
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        limits = Path(f"/proc/{pid}/limits").read_text()
        status = Path(f"/proc/{pid}/status").read_text()
        files = [one.name for one in Path(f"/proc/{pid}/fd").iterdir()]
    assert b"CANARY" not in environ
    assert b"BANKHUB" not in environ
    assert "Max address space         1073741824           1073741824" in limits
    assert "Max core file size        0                    0" in limits
    assert "Seccomp:\t2" in status
    assert "NoNewPrivs:\t1" in status
    assert sorted(files) == ["0", "1", "2"]
