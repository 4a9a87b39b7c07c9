"""F04: clean only if the scanner said so about exactly these bytes; everything else is "not now"."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Invalid, Unavailable
from core.settings import Settings
from files.inspection.scanner import Clamd, ClamdAddress, Clean, Infected, _verdict, address_of, scanner_of
from house.doctor import _scanner
from tests.files import samples
from tests.files.real_clamd import RealClamd

pytestmark = pytest.mark.requirement("F04")

_MIB = 1 << 20


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


# --- a real clamd -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["tcp", "unix"])
def clamd(request: pytest.FixtureRequest, real: RealClamd) -> Clamd:
    if real.process is None:
        real.start()
    text = f"tcp://127.0.0.1:{real.port}" if request.param == "tcp" else f"unix://{real.socket}"
    return Clamd(address_of(text), timeout_s=20)


async def test_a_real_scanner_finds_what_it_knows(clamd: Clamd) -> None:
    await clamd.ping()
    assert (await clamd.version()).startswith("ClamAV ")
    assert await clamd.scan(pieces(samples.EICAR, 7)) == Infected("Eicar-Own.UNOFFICIAL")
    assert await clamd.scan(pieces(b"nothing")) == Clean()
    assert await clamd.scan(pieces(b"")) == Clean()
    marked = bytes(3 * _MIB) + b"BANKHUB-TEST-MARKER" + bytes(10)
    assert await clamd.scan(pieces(marked, 100_000)) == Infected("Own.Marker.UNOFFICIAL")
    inside = samples.zipped({"文件/eicar.txt": samples.EICAR})
    assert await clamd.scan(pieces(inside)) == Infected("Eicar-Own.UNOFFICIAL")


async def test_the_doctor_says_what_scans(real: RealClamd, clamd: Clamd) -> None:
    assert await clamd.version()
    found = await _scanner(Settings(files_clamd=f"unix://{real.socket}"))
    assert found.level == "ok"
    assert "ClamAV" in found.what
    assert (await _scanner(Settings(files_clamd="tcp://127.0.0.1:1"))).level == "bad"
    assert (await _scanner(Settings(files_clamd="nonsense"))).level == "bad"
    assert (await _scanner(Settings())).level == "warn"


async def test_every_good_file_is_clean(clamd: Clamd) -> None:
    for name, data in samples.good().items():
        assert await clamd.scan(pieces(data)) == Clean(), name


async def test_many_at_once(clamd: Clamd) -> None:
    answers = await asyncio.gather(
        *(clamd.scan(pieces(samples.EICAR if n % 2 else b"x" * n)) for n in range(16))
    )
    assert [isinstance(one, Infected) for one in answers] == [bool(n % 2) for n in range(16)]


async def test_more_than_it_takes_is_not_clean(clamd: Clamd) -> None:
    with pytest.raises(Unavailable, match="StreamMaxLength"):
        await clamd.scan(pieces(bytes(12 * _MIB), 1 << 18))


async def test_a_scanner_that_dies_midway_said_nothing(real: RealClamd, clamd: Clamd) -> None:
    async def data() -> AsyncIterator[bytes]:
        yield bytes(100_000)
        real.kill()
        yield bytes(100_000)

    with pytest.raises(Unavailable):
        await clamd.scan(data())
    with pytest.raises(Unavailable):
        await clamd.ping()
    with pytest.raises(Unavailable):
        await clamd.version()


async def test_a_sender_that_fails_midway_is_not_clean(clamd: Clamd) -> None:
    async def data() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError("the sender is gone")

    with pytest.raises(ConnectionResetError, match="the sender is gone"):
        await clamd.scan(data())


# --- whatever else may answer -------------------------------------------------------------------------------------

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _whole(reader: asyncio.StreamReader) -> bytes:
    """Read a command and its stream as clamd does."""
    assert await reader.readuntil(b"\0") == b"zINSTREAM\0"
    data = bytearray()
    while size := struct.unpack(">I", await reader.readexactly(4))[0]:
        data += await reader.readexactly(size)
    return bytes(data)


async def _against(talk: Talk, data: AsyncIterator[bytes], timeout_s: float = 5.0) -> Clean | Infected:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await Clamd(ClamdAddress(host="127.0.0.1", port=port), timeout_s=timeout_s).scan(data)


def _answering(answer: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _whole(reader)
        writer.write(answer)
        await writer.drain()

    return talk


@given(st.lists(st.binary(max_size=3000), max_size=8))
def test_every_byte_arrives_in_order(chunks: list[bytes]) -> None:
    async def check() -> None:
        seen = bytearray()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.extend(await _whole(reader))
            writer.write(b"stream: OK\0")
            await writer.drain()

        async def data() -> AsyncIterator[bytes]:
            for chunk in chunks:  # an empty one must not end the stream
                yield chunk

        assert await _against(talk, data()) == Clean()
        assert bytes(seen) == b"".join(chunks)

    asyncio.run(check())


async def test_large_chunks_are_cut() -> None:
    data = bytes(range(256)) * 20_000

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await _whole(reader) == data
        writer.write(b"stream: Some.Virus-1 FOUND\0")
        await writer.drain()

    assert await _against(talk, pieces(data, len(data))) == Infected("Some.Virus-1")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0",
        b"stream: OK",  # cut
        b"stream: OK\n",
        b"stream: \0",
        b"OK\0",
        b"stream: ok\0",
        b"stream: OK but\0",
        b"stream:  FOUND\0",
        b"stream: Can't allocate memory ERROR\0",
        b"INSTREAM: Write failed. ERROR\0",
        b"INSTREAM size limit exceeded. ERROR\0",
        b"UNKNOWN COMMAND\0",
        b"HTTP/1.1 200 OK\r\n\r\n\0",
        b"x" * 100_000,
        b"\xff\xfe\0",
    ],
)
async def test_an_answer_that_is_none_is_not_clean(answer: bytes) -> None:
    with pytest.raises(Unavailable):
        await _against(_answering(answer), pieces(b"data"))


@given(st.text(max_size=60))
def test_only_one_answer_is_clean(answer: str) -> None:
    try:
        verdict = _verdict(answer)
    except Unavailable:
        return
    assert (verdict == Clean()) == (answer == "stream: OK")


async def test_one_that_says_nothing() -> None:
    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await _whole(reader)
        await reader.read()

    with pytest.raises(Unavailable, match="in time"):
        await _against(talk, pieces(b"data"), timeout_s=0.2)


async def test_one_that_takes_nothing() -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(5)

    with pytest.raises(Unavailable, match="in time"):
        await _against(talk, pieces(bytes(20 * _MIB), _MIB), timeout_s=0.2)


async def test_one_that_says_ok_before_it_has_read_all() -> None:
    """It cannot know: what comes before the end of the stream is no verdict about it."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10)
        writer.write(b"stream: OK\0")
        await writer.drain()
        await reader.read()

    async def data() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0.1)
        yield samples.EICAR

    with pytest.raises(Unavailable):
        await _against(talk, data())


async def test_one_that_closes_half_of_it() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await _whole(reader)

    with pytest.raises(Unavailable, match="hung up"):
        await _against(talk, pieces(b"data"))


async def test_one_that_hangs_up_with_a_reason() -> None:
    """What it said before it hung up counts as a reason, though we were still writing."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(100_000)
        writer.write(b"INSTREAM size limit exceeded. ERROR\0")
        await writer.drain()
        await reader.readexactly(100_000)

    with pytest.raises(Unavailable):
        await _against(talk, pieces(bytes(30 * _MIB), _MIB))


async def test_nobody_there(tmp_path: Path) -> None:
    for address in (ClamdAddress(host="127.0.0.1", port=1), ClamdAddress(path=str(tmp_path / "none"))):
        with pytest.raises(Unavailable, match="reached"):
            await Clamd(address).scan(pieces(b"x"))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://127.0.0.1:3310", ClamdAddress(host="127.0.0.1", port=3310)),
        ("tcp://clamd.bank.svc:3310", ClamdAddress(host="clamd.bank.svc", port=3310)),
        ("tcp://[::1]:3310", ClamdAddress(host="::1", port=3310)),
        ("unix:///run/clamd.ctl", ClamdAddress(path="/run/clamd.ctl")),
    ],
)
def test_addresses(text: str, address: ClamdAddress) -> None:
    assert address_of(text) == address
    assert isinstance(scanner_of(Settings(files_clamd=text)), Clamd)


@pytest.mark.parametrize(
    "text", ["", "clamd:3310", "tcp://clamd", "tcp://a:99999", "http://a:1", "unix://run/a", "tcp://a:1/b"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(Invalid):
        address_of(text)
    assert scanner_of(Settings()) is None
