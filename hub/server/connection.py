"""One client's socket: handshake, framing, lanes and the close. No task, no queue per message.

`websockets`' sans-I/O `ServerProtocol` does the handshake and everything uncommon (fragments, control frames,
violations); it is kept only while it is needed. Whole masked data frames are cut out here.

Lanes: while the socket takes what is written, everything goes straight out in the tick's one write. Once more than
`soft_queue_bytes` wait (`slow`), control and inbox frames are still written, signals are dropped, and chat is
remembered as one gap per stream, which is told as a GAP when the socket drains. Over `hard_queue_bytes`, or when
nothing was taken for `stall_s`, the session ends with 4008.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import IntEnum
from sys import intern
from typing import TYPE_CHECKING, Any, cast

from websockets.datastructures import MultipleValuesError
from websockets.exceptions import InvalidHandshake
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from core.addresses import Asked
from core.errors import Forbidden
from hub.wire import codec, limits, websocket
from hub.wire.close import Bye
from hub.wire.frames import BadMessage, Op

if TYPE_CHECKING:
    from hub.node.node import Node
    from hub.node.session import Session

CLOSE_GRACE_S = 2.0  # for the client's close frame before the socket is cut


class State(IntEnum):
    """Where a connection is in its life."""

    HANDSHAKE = 0
    GREETING = 1  # WebSocket open, HELLO not yet accepted
    READY = 2
    CLOSING = 3


class Connection(asyncio.Protocol):
    """See the module. Attributes used by `hub.node` are public."""

    __slots__ = (
        "address",
        "buffer",
        "fragments",
        "gaps",
        "last_in_s",
        "need",
        "node",
        "opcode",
        "opened_s",
        "out",
        "parser",
        "pinged",
        "pong_due_s",
        "refused",
        "session",
        "slow",
        "source",
        "stalled_since_s",
        "stalled_size",
        "state",
        "text",
        "tokens",
        "tokens_at_s",
        "transport",
        "url",
        "wheel_slot",
        "write",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self.node = node
        self.state = State.HANDSHAKE
        self.session: Session | None = None
        self.out: bytes | list[bytes] | None = None
        self.slow = False
        self.gaps: dict[str, list[int]] | None = None
        self.text = False
        self.opcode = websocket.BINARY
        self.buffer: bytearray | None = None
        self.need = 0
        self.address = ""  # the socket's, until the handshake says whose it is
        self.source = ""  # whom it counts for while it is undecided (hub.node.undecided)
        self.url = ""  # of the hub as this client asked for it: scheme and host, path /
        self.parser: ServerProtocol | None = None
        self.fragments: list[bytes] | None = None
        self.pinged = False
        self.refused = 0
        self.wheel_slot = 0

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        node = self.node
        self.transport = socket = cast(asyncio.WriteTransport, transport)  # uvloop's is no subclass
        self.write = socket.write
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        hard = node.limits
        socket.set_write_buffer_limits(high=hard.soft_queue_bytes, low=hard.soft_queue_bytes // 4)
        self.opened_s = self.last_in_s = self.tokens_at_s = node.clock.monotonic_s()
        self.tokens = hard.frames_burst
        self.parser = ServerProtocol(
            subprotocols=SUBPROTOCOLS,
            select_subprotocol=_select,
            max_size=limits.GREETING_BYTES,
        )
        if not node.opened(self):
            socket.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = State.CLOSING
        self.out = self.buffer = self.parser = self.fragments = self.gaps = None
        self.node.closed(self)

    def data_received(self, data: bytes) -> None:
        if self.state is State.CLOSING:
            self._feed(data)
            return
        if self.state is State.HANDSHAKE:
            self._receive_handshake(data)
            return
        self.last_in_s = self.node.clock.monotonic_s()
        if self.buffer is not None:
            self.buffer += data
            if len(self.buffer) < self.need:
                return
            data = bytes(self.buffer)
            self.buffer = None
        self._receive_frames(data)

    def eof_received(self) -> bool:
        return False  # a half-open socket is of no use: the transport closes

    def pause_writing(self) -> None:
        self.slow = True
        self.stalled_since_s = self.node.clock.monotonic_s()
        self.stalled_size = self.queued_bytes
        self.node.slow[self] = None

    def resume_writing(self) -> None:
        self.slow = False
        self.node.slow.pop(self, None)
        gaps, self.gaps = self.gaps, None
        for stream, (first, last) in (gaps or {}).items():
            self.push((Op.GAP, 0, stream, first, last, "slow"))

    @property
    def _size_max(self) -> int:
        return limits.MESSAGE_BYTES if self.state is State.READY else limits.GREETING_BYTES

    # --- in -----------------------------------------------------------------------------------------------------

    def _message(self, payload: bytes) -> None:
        try:
            frames = codec.decode(payload, text=self.text)
        except BadMessage as error:
            self.bye(Bye.BAD_FRAME, str(error))
            return
        self.node.received(self, frames)

    def _receive_handshake(self, data: bytes) -> None:
        """Feeds the parser up to the empty line and no further: what follows are frames."""
        tail = bytes(self.buffer or b"")  # the empty line may be cut anywhere
        end = (tail + data).find(b"\r\n\r\n")
        stop = len(data) if end < 0 else end + 4 - len(tail)
        self.buffer = bytearray((tail + data)[-3:])
        self._feed(data[:stop])
        if not self.greeted:
            return
        self.parser = self.buffer = None
        if stop < len(data):
            self.data_received(data[stop:])

    def _receive_frames(self, data: bytes) -> None:
        """Cuts common frames out; gives `websockets`' parser one whole uncommon frame at a time."""
        while data:
            position, need = 0, -1
            if self.parser is None:
                messages: list[bytes] = []
                position, need = websocket.cut(data, self.opcode, self._size_max, messages)
                for message in messages:
                    self._message(message)
                    if self.closing:
                        return
            if need == 0:
                return
            data = data[position:]
            if need < 0:
                need = websocket.extent(data, self._size_max)
            if need > len(data):
                self.buffer, self.need = bytearray(data), need
                return
            if self.parser is None:
                self.parser = ServerProtocol(state=OPEN, max_size=self._size_max)
            self._feed(data[:need])
            if self.closing:
                return
            if self.fragments is None:
                self.parser = None
            data = data[need:]

    def _feed(self, data: bytes) -> None:
        """Gives bytes to `websockets`' parser and does what it says."""
        parser, said = self.parser, self.closing
        if parser is None:
            return
        parser.receive_data(data)
        for event in parser.events_received():
            if isinstance(event, Request):
                self._handshake(parser, event)
            else:
                self._uncommon_frame(parser, event)
        self._write_parser(parser, only_end=said)
        if not self.closing and parser.close_sent is not None:  # the peer closes, or broke the protocol
            self.state = State.CLOSING
            self.node.closing(self, CLOSE_GRACE_S)

    def _uncommon_frame(self, parser: ServerProtocol, frame: Any) -> None:
        if self.state is State.CLOSING or parser.close_sent is not None:
            return
        opcode = frame.opcode
        if opcode in (Opcode.TEXT, Opcode.BINARY) and (opcode is Opcode.TEXT) is not self.text:
            self._fail(parser, 1003, "this subprotocol has other messages")
        elif opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            parts = self.fragments or []
            parts.append(frame.data)
            if len(parts) > limits.FRAGMENTS_PER_MESSAGE:
                self._fail(parser, 1008, "too many fragments")
            elif not frame.fin:
                self.fragments = parts
            else:
                self.fragments = None
                self._message(b"".join(parts))
        elif opcode is Opcode.PING and not self.node.admit_frame(self):
            self.node.refuse(self, 0)
        elif opcode is Opcode.CLOSE:
            self.fragments = None

    def _fail(self, parser: ServerProtocol, code: int, reason: str) -> None:
        parser.fail(code, reason)
        self.fragments = None

    def _joined(self) -> bytes:
        """What waits for this tick's write."""
        out, self.out = self.out, None
        if isinstance(out, list):
            return b"".join(out)
        return out or b""

    def _write_parser(self, parser: ServerProtocol, *, only_end: bool = False) -> None:
        """Writes what the parser wants to say. Behind a close frame (`only_end`) nothing is said, no pong either."""
        for data in parser.data_to_send():
            if data and only_end:
                continue
            if data:
                self.flush()
                self.write(data)
            else:
                self.transport.close()

    def _handshake(self, parser: ServerProtocol, request: Request) -> None:
        response = self._answer(parser, request)
        parser.send_response(response)
        self._write_parser(parser)
        if response.status_code != 101:
            self.state = State.CLOSING
            self.node.closing(self, CLOSE_GRACE_S)
            return
        self.text = parser.subprotocol == codec.JSON
        self.opcode = websocket.TEXT if self.text else websocket.BINARY
        self.state = State.GREETING

    def _answer(self, parser: ServerProtocol, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if path not in PATHS:
            return parser.reject(404, "The hub is at /.\n")
        if self.node.draining:
            response = parser.reject(503, "This node is draining; another one answers.\n")
            response.headers["Retry-After"] = "1"
            return response
        try:
            asked = self._asked(request)
        except MultipleValuesError:
            return parser.reject(400, "One Host, please.\n")
        self.address = asked.address
        if not self.node.placed(self):
            response = parser.reject(429, "Too many connections of this address that say nothing.\n")
            response.headers["Retry-After"] = "1"
            return response
        self.url = intern(f"{'wss' if asked.scheme == 'https' else 'ws'}://{asked.host}/")  # few differ
        if not self.node.hosts.serves(asked.host):
            return parser.reject(421, "This host is not served here.\n")
        if not self._welcome_origin(request, asked):
            self.node.refused("hub.connect", Forbidden.code, self.address)
            return parser.reject(403, "Pages of this origin may not connect.\n")
        return parser.accept(request)

    def _asked(self, request: Request) -> Asked:
        """The handshake as its client made it, as far as the proxies that are believed know."""
        given = request.headers
        return self.node.proxies.asked(
            self.address, given.get("Host", ""),
            forwarded_for=given.get_all("X-Forwarded-For"), forwarded=given.get_all("Forwarded"),
            proto=given.get_all("X-Forwarded-Proto"), forwarded_host=given.get_all("X-Forwarded-Host"),
        )  # fmt: skip

    def _welcome_origin(self, request: Request, asked: Asked) -> bool:
        """A page from the very place that was asked, or of a configured origin; programs send none."""
        origins = request.headers.get_all("Origin")
        return not origins or (len(origins) == 1 and self.node.origins.may_call(origins[0], asked))

    # --- out ----------------------------------------------------------------------------------------------------

    @property
    def greeted(self) -> bool:
        """Whether the WebSocket is open."""
        return self.state in (State.GREETING, State.READY)

    @property
    def closing(self) -> bool:
        """Whether the good-bye has been said."""
        return self.state is State.CLOSING

    @property
    def queued_bytes(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self.transport.get_write_buffer_size()

    def push(self, frame: tuple[Any, ...]) -> None:
        """Control lane: encodes and queues a frame for this tick's write."""
        if self.text:
            self.send(websocket.frame(codec.json_message(frame), websocket.TEXT))
        else:
            self.send(websocket.frame(codec.packed_message(frame)))

    def send(self, data: bytes) -> None:
        """Queues complete WebSocket frames for this tick's write."""
        out = self.out
        if out is None:
            if self.state is State.CLOSING:
                return
            self.out = data
            self.node.dirty(self)
        elif isinstance(out, list):
            out.append(data)
        else:
            self.out = [out, data]

    def collapse(self, stream: str, first: int, last: int) -> None:
        """Chat lane of a slow connection: remembers what was not sent."""
        if self.gaps is None:
            self.gaps = {}
        gap = self.gaps.get(stream)
        if gap is None:
            self.gaps[stream] = [first, last]
        else:
            gap[1] = last

    def flush(self) -> None:
        """The one write of a tick."""
        data = self._joined()
        if not data or self.state is State.CLOSING:
            return
        try:
            self.write(data)
        except RuntimeError:  # uvloop: the socket is closed already and connection_lost is on its way
            return
        if self.slow and self.queued_bytes > self.node.limits.hard_queue_bytes:
            self.bye(Bye.TOO_SLOW, "too much waits for this client")

    # --- end ----------------------------------------------------------------------------------------------------

    def bye(self, code: Bye, reason: str, after_ms: int = 0) -> None:
        """Sends what waits, BYE and the close frame with the same code, then waits a little for the client's."""
        if self.state is State.CLOSING:
            return
        if self.state is State.HANDSHAKE:
            self.state = State.CLOSING
            self.transport.abort()
            return
        self.push((Op.BYE, 0, int(code), reason, code.reconnect, after_ms))
        data = self._joined()
        self.state = State.CLOSING
        self.buffer = self.fragments = self.gaps = None
        parser = self.parser or ServerProtocol(state=OPEN, max_size=self._size_max)
        self.parser = parser
        try:
            self.write(data)
            if parser.close_sent is None:
                parser.send_close(code, reason.encode()[:120].decode(errors="ignore"))
            self._write_parser(parser)
        except RuntimeError:
            self.transport.abort()
        if self.slow:
            self.transport.abort()  # a full pipe carries no close frame
        self.node.closing(self, CLOSE_GRACE_S)

    def check(self, now_s: float) -> float:
        """The timer wheel's look: greeting in time, still alive, closed in time."""
        node = self.node
        if self.state is State.CLOSING:
            self.transport.abort()
            return 0
        if self.state is State.HANDSHAKE or self.state is State.GREETING:
            left_s = self.opened_s + node.limits.hello_s - now_s
            if left_s > 0.5:
                return left_s
            if self.state is State.HANDSHAKE:
                self.transport.abort()
                return 0
            if self.session is not None:
                return 1.0  # HELLO came and is being looked at
            self.bye(Bye.NO_HELLO, "no HELLO in time")
            return 0
        return node.check_session(self, now_s)


SUBPROTOCOLS = [Subprotocol(codec.MSGPACK), Subprotocol(codec.JSON)]
PATHS = frozenset(("/", "/hub", "/ws"))


class _NoSubprotocol(InvalidHandshake):
    """Offer the subprotocol bankhub.v1.msgpack or bankhub.v1.json."""

    def __str__(self) -> str:
        return "offer the subprotocol bankhub.v1.msgpack or bankhub.v1.json"


def _select(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The client's first choice that we speak; no subprotocol is no hub client."""
    for name in offered:
        if name in SUBPROTOCOLS:
            return name
    raise _NoSubprotocol
