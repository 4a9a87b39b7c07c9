"""A request's body on its way through: held to its length and pace, digested, its two ends remembered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiohttp.web_request import BaseRequest

from core.actions import Command
from core.crypto.sm3 import Sm3
from core.errors import BankhubError, Invalid, TooManyRequests
from files.inspection.rules import HEAD_BYTES, TAIL_BYTES

if TYPE_CHECKING:
    from core.settings import Settings

C = TypeVar("C", bound=Command[Any])

_ID_MAX: Final = (1 << 63) - 1
_PACE_S: Final = 30.0  # over which a sender's pace is looked at: a phone in a lift stands still for a while
_STEP_BYTES: Final = 64 << 10


def id_in(text: str) -> int | None:
    """The id that a path names; None where it cannot be one."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        return None
    return number if 0 < (number := int(text)) <= _ID_MAX else None


class BrokenOff(BankhubError):
    """The rest of the file did not come."""

    code = "invalid"
    http_status = 400


class TooSlow(BrokenOff):
    """The file came too slowly; upload it in parts."""

    http_status = 408


class TooLarge(BankhubError):
    """No file may be so large."""

    code = "invalid"
    http_status = 413


class Unsupported(BankhubError):
    """Send the bytes of the file as they are."""

    code = "invalid"
    http_status = 415


class Digests:
    """SHA-256 of what passes, and SM3 where somebody wants to compare it."""

    def __init__(self, *, sm3: bool) -> None:
        self._sha256 = hashlib.sha256()
        self._sm3 = Sm3() if sm3 else None

    def update(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        if self._sm3 is not None:
            self._sm3.update(chunk)

    @property
    def sha256(self) -> bytes:
        return self._sha256.digest()

    @property
    def sm3(self) -> bytes | None:
        return None if self._sm3 is None else self._sm3.digest()


class Ends:
    """The first and last bytes of what passes, as far as they tell what it is."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail: list[bytes] = []
        self._tail_bytes = 0

    def update(self, chunk: bytes) -> None:
        missing = HEAD_BYTES - len(self._head)
        if missing > 0:
            self._head += chunk[:missing]
        self._tail.append(chunk)
        self._tail_bytes += len(chunk)
        while self._tail_bytes - len(self._tail[0]) >= TAIL_BYTES:
            self._tail_bytes -= len(self._tail.pop(0))

    @property
    def head(self) -> bytes:
        return bytes(self._head)

    @property
    def tail(self) -> bytes:
        return b"".join(self._tail)[-TAIL_BYTES:]


class Body:
    """Chunks of a request's body, once. `passed` counts; `on_chunk` sees each."""

    def __init__(self, request: BaseRequest, settings: Settings, on_chunk: Callable[[bytes], None]) -> None:
        self._stream = request.content
        self._idle_s, self._life_s = settings.files_idle_s, settings.files_upload_life_s
        self._bytes_per_s = settings.files_bytes_per_s
        self._on_chunk = on_chunk
        self.passed = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """What comes, as it comes. Raises `BrokenOff` where the sender is gone, `TooSlow` where it dawdles."""
        loop = asyncio.get_running_loop()
        since_s, passed = loop.time(), 0
        end_s = since_s + self._life_s  # after that what was stored of it would be taken for nobody's
        while True:
            chunk = await self._next()
            if loop.time() > end_s:
                raise TooSlow
            if not chunk:
                return
            self.passed += len(chunk)
            passed += len(chunk)
            if passed >= _STEP_BYTES:
                elapsed_s = loop.time() - since_s
                if elapsed_s >= _PACE_S:
                    if passed < self._bytes_per_s * elapsed_s:
                        raise TooSlow
                    since_s, passed = loop.time(), 0
            elif loop.time() - since_s >= _PACE_S and passed < self._bytes_per_s * _PACE_S:
                raise TooSlow
            self._on_chunk(chunk)
            yield chunk

    async def _next(self) -> bytes:
        try:
            if self._stream.total_raw_bytes > self.passed or self._stream.is_eof():
                return await self._stream.readany()  # it is here: no timer
            async with asyncio.timeout(self._idle_s):
                return await self._stream.readany()
        except TimeoutError as error:
            raise TooSlow from error
        except Exception as error:
            raise BrokenOff from error


class Gauge:
    """How many uploads each person has under way in this process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: dict[int, int] = {}

    def enter(self, person_id: int) -> None:
        """One more. Raises `TooManyRequests`."""
        if self._running.get(person_id, 0) >= self._most:
            raise TooManyRequests("too many uploads at once", retry_ms=1000)
        self._running[person_id] = self._running.get(person_id, 0) + 1

    def leave(self, person_id: int) -> None:
        """One less."""
        left = self._running[person_id] - 1
        if left:
            self._running[person_id] = left
        else:
            del self._running[person_id]


def as_it_is(request: BaseRequest) -> None:
    """The body is the file, not a packing of it. Raises `Unsupported`: what would be stored is not what people mean."""
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding != "identity":
        raise Unsupported(
            "send the file without Content-Encoding",
            detail={"code": "content_encoding", "coding": coding[:64]},
        )
    if request.content_type == "multipart/form-data":
        raise Unsupported(
            "the body is the file itself, not a form: curl -T FILE, fetch(url, {body: file})",
            detail={"code": "form_data"},
        )


def length_of(request: BaseRequest) -> int:
    """How long the body is. Raises `Invalid` where that is not said: the store has to know beforehand."""
    if not request.can_read_body and "Transfer-Encoding" not in request.headers:
        return 0  # nothing is coming
    length = request.content_length
    if length is None or "Transfer-Encoding" in request.headers:
        raise Invalid("say Content-Length, or upload in parts", detail={"code": "length_required"})
    return length
