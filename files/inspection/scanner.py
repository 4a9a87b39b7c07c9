"""The port to a malware scanner, and clamd behind it.

Fail closed: whatever is not a plain answer about exactly these bytes is `Unavailable`, never `Clean`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from core.errors import Invalid, Unavailable
from core.settings import Settings


@dataclass(frozen=True, slots=True)
class Clean:
    """Nothing was found by the signatures that the scanner has."""


@dataclass(frozen=True, slots=True)
class Infected:
    """`name` as the scanner's vendor calls it."""

    name: str


class Scanner(Protocol):
    async def scan(self, chunks: AsyncIterator[bytes]) -> Clean | Infected:
        """Read all of it, in pieces of any size. Raises `Unavailable` if there is no answer, also for content that
        the scanner would not take whole."""

    async def version(self) -> str:
        """What it is and how old its signatures are, for people. Raises `Unavailable`."""


_ANSWER_BYTES: Final = 4096
_BASE_CHARS: Final = 100
_PIECE_BYTES: Final = 1 << 20  # of one write; clamd takes any size up to StreamMaxLength
_FOUND: Final = re.compile(r"stream: (?P<name>.{1,200}) FOUND", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ClamdAddress:
    host: str = ""
    port: int = 0
    path: str = ""  # of a Unix socket; then host and port are empty


def address_of(text: str) -> ClamdAddress:
    """``tcp://host:port`` or ``unix:///path``. Raises `Invalid`."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise Invalid("files_clamd: tcp://host:port or unix:///path") from None
    if parts.scheme == "tcp" and parts.hostname and port and parts.path in ("", "/"):
        return ClamdAddress(host=parts.hostname, port=port)
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
        return ClamdAddress(path=parts.path)
    raise Invalid("files_clamd: tcp://host:port or unix:///path")


def scanner_of(settings: Settings) -> Scanner | None:
    """The scanner that settings name; None where there is none, which is for the caller to say aloud."""
    if settings.files_clamd is None:
        return None
    return Clamd(address_of(settings.files_clamd), timeout_s=settings.files_clamd_timeout_s)


async def base_of(scanner: Scanner) -> str:
    """What a verdict is remembered with: asked before it, so it is never said to be of newer signatures than it is.
    Raises `Unavailable`."""
    return (await scanner.version())[:_BASE_CHARS]


class Clamd:
    """A clamd by its own protocol (clamd(8)): ``zINSTREAM``, pieces with their length before them, a zero, one answer.

    One connection for one file: clamd closes it after INSTREAM. `timeout_s` is for each step, not for the whole: a
    large file from slow staff may take long, but nothing may stand still.
    """

    def __init__(self, address: ClamdAddress, *, timeout_s: float = 60.0) -> None:
        self._address = address
        self._timeout_s = timeout_s

    async def scan(self, chunks: AsyncIterator[bytes]) -> Clean | Infected:
        try:
            async with self._connection() as (reader, writer):
                writer.write(b"zINSTREAM\0")
                early = asyncio.ensure_future(reader.readuntil(b"\0"))  # it may refuse while we still write
                try:
                    whole = await self._send(chunks, writer, early)
                    async with asyncio.timeout(self._timeout_s):
                        verdict = _verdict(_text(await early))
                finally:
                    early.cancel()
                    await asyncio.gather(early, return_exceptions=True)
        except _SourceFailed as failed:
            raise failed.cause from None
        if not whole and verdict == Clean():
            raise Unavailable("the scanner gave an answer before it had everything")
        return verdict

    async def _send(
        self, chunks: AsyncIterator[bytes], writer: asyncio.StreamWriter, early: asyncio.Future[bytes]
    ) -> bool:
        """Whether all of it went out before an answer came."""
        async with contextlib.aclosing(_source(chunks)) as source:
            async for chunk in source:
                for at in range(0, len(chunk), _PIECE_BYTES):
                    if early.done():
                        return False
                    piece = memoryview(chunk)[at : at + _PIECE_BYTES]
                    writer.write(struct.pack(">I", len(piece)))
                    writer.write(piece)
                    if not await self._drained(writer, early):
                        return False
        if early.done():
            return False
        writer.write(struct.pack(">I", 0))
        await self._drained(writer, early)
        return True

    async def _drained(self, writer: asyncio.StreamWriter, early: asyncio.Future[bytes]) -> bool:
        """Wait until it takes more. False if it hung up instead but said something before that."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await writer.drain()
        except ConnectionError:
            await asyncio.wait([early], timeout=self._timeout_s)
            if not early.done() or early.exception() is not None:
                raise
            return False
        return True

    async def ping(self) -> None:
        """Raises `Unavailable` unless it answers."""
        if await self._command(b"zPING\0") != "PONG":
            raise Unavailable("the scanner gave an answer that is none")

    async def version(self) -> str:
        return await self._command(b"zVERSION\0")

    async def _command(self, command: bytes) -> str:
        async with self._connection() as (reader, writer):
            writer.write(command)
            async with asyncio.timeout(self._timeout_s):
                await writer.drain()
                answer = await reader.readuntil(b"\0")
        return _text(answer)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection, given up at the end whatever happened; every fault of it is `Unavailable`."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._address.path:
                    opened = await asyncio.open_unix_connection(self._address.path, limit=_ANSWER_BYTES)
                else:
                    opened = await asyncio.open_connection(
                        self._address.host, self._address.port, limit=_ANSWER_BYTES
                    )
            _, writer = opened
            yield opened
        except TimeoutError as error:
            raise Unavailable("the scanner does not answer in time") from error
        except asyncio.IncompleteReadError as error:
            raise Unavailable("the scanner hung up without an answer") from error
        except asyncio.LimitOverrunError as error:
            raise Unavailable("the scanner gave an answer that is none") from error
        except OSError as error:
            if writer is not None:
                raise Unavailable(
                    "the scanner hung up: is StreamMaxLength of clamd.conf large enough?"
                ) from error
            raise Unavailable("the scanner cannot be reached") from error
        finally:
            if writer is not None:
                writer.transport.abort()


class _SourceFailed(Exception):
    """Where the bytes come from failed, which is no fault of the scanner."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


async def _source(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in chunks:
            yield chunk
    except Exception as error:
        raise _SourceFailed(error) from error


def _text(answer: bytes) -> str:
    return answer.removesuffix(b"\0").decode("utf-8", "replace").strip()


def _verdict(answer: str) -> Clean | Infected:
    """Only two answers say something about the content. clamd's limit is told apart, because it is a setting of the
    bank that contradicts another one: StreamMaxLength must be above what a file may weigh."""
    if answer == "stream: OK":
        return Clean()
    found = _FOUND.fullmatch(answer)
    if found:
        return Infected(found["name"])
    if answer.startswith("INSTREAM size limit exceeded"):
        raise Unavailable("the scanner takes no file of this size: StreamMaxLength of clamd.conf")
    raise Unavailable("the scanner could not scan the file")
