"""aiohttp's server with what it lacks against slow and greedy clients.

By itself aiohttp waits for the rest of a request's head as long as it waits between requests, tells its version, and
answers malformed requests in plain text. Here a head has a few seconds, sockets are counted, every answer is ours, and
who does not read it is dropped: by the kernel when nothing is taken at all, by `GuardedServer` when it is taken so
slowly that it is meant to last.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from core.settings import Settings
from core.telemetry import counter

_DROPPED: Final = counter("bankhub_http_dropped_total", "Connections ended by the gateway", ("why",))
_UNREAD_S: Final = 10  # how long the kernel keeps an answer that nobody takes
_LOOK_S: Final = 2.0
_LAST: Final = b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_LATE: Final = _LAST % b"408 Request Timeout"
_LARGE: Final = _LAST % b"431 Request Header Fields Too Large"


class GuardedHandler(RequestHandler):
    """One connection. The timer runs while bytes of a head may be missing, never while a request is worked on."""

    __slots__ = ("_head", "_head_bytes", "_settings", "_unread")

    def __init__(self, manager: web.Server, settings: Settings, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._settings = settings
        self._head: asyncio.TimerHandle | None = None
        self._head_bytes = 0  # of a head that is not complete
        self._unread: tuple[float, int] | None = None  # since when how much of an answer waits for the client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(self._manager, GuardedServer)
        if len(self._manager.connections) > self._settings.gateway_connections:
            self._drop("full", None)
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_S * 1000)
        self._arm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages or self._request_in_progress:
            self._disarm()
        elif self._head is None and self._waiter is not None:
            self._arm()  # the first bytes of the next head on a kept connection
        if self._head is not None:
            self._head_bytes += len(data)
            if self._head_bytes > self._settings.gateway_header_bytes:
                self._disarm()
                self._drop("large_head", _LARGE)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What could not even be parsed. The parser's message quotes the request, so it is not passed on."""
        assert isinstance(self._manager, GuardedServer)
        self._disarm()
        answer: web.Response = self._manager.malformed(status)
        answer.force_close()
        return answer

    def look(self, now_s: float) -> None:
        """Drop the client if it takes its answer more slowly than `gateway_read_bytes_per_s`."""
        transport = self.transport
        sock = None if transport is None else transport.get_extra_info("socket")
        if transport is None or sock is None or sock.fileno() < 0:
            return
        try:
            (unsent,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
        except OSError:
            return
        waiting = unsent + transport.get_write_buffer_size()
        if not waiting:
            self._unread = None
        elif self._unread is None:
            self._unread = now_s, waiting
        elif now_s - self._unread[0] >= self._settings.gateway_read_timeout_s:
            least = (now_s - self._unread[0]) * self._settings.gateway_read_bytes_per_s
            if waiting > self._unread[1] - least:
                # closed with a reset, or the kernel would go on offering what waits
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._drop("slow_reader", None)
            self._unread = now_s, waiting

    def _arm(self) -> None:
        self._head_bytes = 0
        self._head = self._loop.call_later(
            self._settings.gateway_header_timeout_s, self._drop, "slow_head", _LATE
        )

    def _disarm(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _drop(self, why: str, last_words: bytes | None) -> None:
        self._head = None
        if self.transport is None:
            return
        _DROPPED.labels(why).inc()
        if last_words is not None:
            self.transport.write(last_words)
            self.force_close()
        else:
            self.transport.abort()


class GuardedServer(web.Server):
    """Makes a `GuardedHandler` for each connection. `malformed` answers what is not HTTP."""

    def __init__(self, handler: Any, settings: Settings, malformed: Any) -> None:
        super().__init__(handler)
        self._settings = settings
        self._looking: asyncio.TimerHandle | None = None
        self.malformed = malformed

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(_LOOK_S, self._look) if self.connections else None
        for handler in self.connections:
            if isinstance(handler, GuardedHandler):
                handler.look(loop.time())

    def __call__(self) -> RequestHandler:
        settings = self._settings
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look)
        return GuardedHandler(
            self,
            settings,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=settings.gateway_keepalive_s,
            max_line_size=settings.gateway_header_bytes // 2,
            max_field_size=settings.gateway_header_bytes // 2,
            max_headers=64,
            lingering_time=1.0,
            auto_decompress=False,
            access_log=None,
        )
