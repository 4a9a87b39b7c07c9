"""Whatever the bytes are and however they are cut: the same messages, the same end, and nothing but known errors."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.addresses import Hosts, Origins, Proxies
from core.clock import ManualClock
from hub.server.connection import Connection, State
from hub.wire import codec, limits
from hub.wire.frames import BadFrame, BadMessage
from tests.hostile.raw import CLOSE, HEADERS, PING, PONG, TEXT, frame

REQUEST = "\r\n".join(["GET / HTTP/1.1", *(f"{k}: {v}" for k, v in HEADERS.items()), "", ""]).encode()


class Transport(asyncio.Transport):
    """Takes everything and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray()
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


class FakeNode:
    """As much of a node as a connection asks for; admits everybody."""

    def __init__(self) -> None:
        self.clock, self.limits, self.draining = ManualClock(), limits.Limits(), False
        self.origins = Origins([])
        self.proxies, self.hosts = Proxies(()), Hosts(["hub", "h"])
        self.slow: set[Any] = set()
        self.got: list[Any] = []
        self.delivery: list[Connection] = []

    def opened(self, conn: Connection) -> bool:
        return True

    def placed(self, conn: Connection) -> bool:
        return True

    def received(self, conn: Connection, frames: list[Any]) -> None:
        conn.state = State.READY
        self.got += frames

    def admit_frame(self, conn: Connection) -> bool:
        return True

    def dirty(self, conn: Connection) -> None:
        self.delivery.append(conn)

    def closing(self, conn: Connection, grace_s: float) -> None: ...
    def closed(self, conn: Connection) -> None: ...


def play(pieces: list[bytes]) -> tuple[list[Any], bytes, bool]:
    """What a connection makes of these reads: frames, what it wrote, whether it is over."""
    node = FakeNode()
    conn = Connection(node)  # type: ignore[arg-type]
    transport = Transport()
    conn.connection_made(transport)
    conn.data_received(REQUEST)
    answer = bytes(transport.data).find(b"\r\n\r\n") + 4
    for piece in pieces:
        if transport.ended:
            break
        conn.data_received(piece)
    return node.got, bytes(transport.data[answer:]), conn.closing


hub_messages = st.lists(
    st.sampled_from(
        [[19, 1, 5], [5, 2, "7", "k", "text", "早"], [8, 3, [["7", 1]]], [99, 4], [3, 5, "streams", 0, 9]]
    ),
    min_size=1,
    max_size=3,
).map(msgpack.packb)
payloads = hub_messages | st.binary(max_size=200)
good = payloads.map(frame)
long_ones = st.integers(126, 70_000).map(lambda n: frame(msgpack.packb([[5, 1, "7", "k", "text", "x" * n]])))
split = st.tuples(hub_messages, st.integers(0, 20)).map(
    lambda t: frame(t[0][: t[1]], fin=False) + frame(b"p", PING) + frame(t[0][t[1] :], 0)
)
odd = st.one_of(
    st.binary(max_size=125).map(lambda data: frame(data, PING)),
    st.just(frame(b"", PONG)),
    st.just(frame(b"\x03\xe8", CLOSE)),
    payloads.map(lambda data: frame(data, TEXT)),
    st.tuples(payloads, st.integers(0, 15), st.booleans(), st.integers(0, 7), st.booleans()).map(
        lambda t: frame(t[0], t[1], fin=t[2], rsv=t[3], mask=t[4])
    ),
    st.binary(max_size=60),
)
streams = st.lists(good | good | long_ones | split | odd, max_size=6).map(b"".join)


@pytest.mark.requirement("W08")
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams, st.data())
def test_any_cutting_is_the_same_to_a_connection(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12), "cuts"))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]
    whole, apart = play([stream] if stream else []), play(pieces)
    assert apart[2] == whole[2]
    if not whole[2]:
        assert apart[0] == whole[0]
        assert sorted(_frames(apart[1])) == sorted(_frames(whole[1]))  # answers may stand in another order
        return
    # what stands in one read with the end of the session may be dropped, and the last of two violations may be named
    common = min(len(apart[0]), len(whole[0]))
    assert apart[0][:common] == whole[0][:common]
    assert _has_close(apart[1]) == _has_close(whole[1])


def _has_close(data: bytes) -> bool:
    return any(one[0] == 0x88 for one in _frames(data))


def _frames(data: bytes) -> list[bytes]:
    """Up to the close frame: what is sent behind it depends on what is still read."""
    found: list[bytes] = []
    while data and not (found and found[-1][0] == 0x88):
        size, head = data[1], 2
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        found.append(data[: head + size])
        data = data[head + size :]
    return found


numbers = st.integers(-(2**63), 2**64 - 1) | st.floats()
scalars = st.none() | st.booleans() | numbers | st.text(max_size=9) | st.binary(max_size=9)
keys = st.text(max_size=3) | st.integers(0, 9)
values = st.recursive(
    scalars, lambda some: st.lists(some, max_size=4) | st.dictionaries(keys, some, max_size=3), max_leaves=20
)
framelike = st.tuples(st.integers(-1, 30), st.integers(-1, 2**33), values, values, values, values).map(list)


@settings(max_examples=200, deadline=None)
@given(st.lists(framelike | values, max_size=5))
def test_both_codecs_agree_on_what_is_a_message(message: list[Any]) -> None:
    """What `msgpack` packs is a message to the hub exactly if docs/protocol.md says so."""

    def is_frame(frame: Any) -> bool:
        if not isinstance(frame, list) or not frame or type(frame[0]) is not int:
            return False
        return -(2**63) <= frame[0] < 2**64 and (len(frame) < 2 or type(frame[1]) is int)

    data = msgpack.packb(message)
    try:
        frames = codec.decode(data, text=False)
    except BadMessage:
        assert not message or not all(is_frame(frame) for frame in message)
        return
    assert len(frames) == len(message)
    for sent, read in zip(message, frames, strict=True):
        assert is_frame(sent)
        assert read.id == (sent[1] if len(sent) > 1 and 0 <= sent[1] < 2**32 else 0)
        if sent[0] not in codec._client_ops:
            assert isinstance(read, BadFrame)
            assert read.code == "unknown_op"


@pytest.mark.requirement("W08")
@settings(max_examples=200, deadline=None)
@given(
    hub_messages,
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    st.integers(0, 200),
)
def test_no_damage_breaks_the_decoder(data: bytes, damage: list[tuple[int, int]], length: int) -> None:
    damaged = bytearray(data)
    for at, byte in damage:
        damaged[at % len(damaged)] = byte
    for text in (False, True):
        try:
            frames = codec.decode(bytes(damaged[:length]), text=text)
        except BadMessage:
            continue
        assert 1 <= len(frames) <= limits.FRAMES_PER_MESSAGE


@pytest.mark.requirement("W08")
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 250_000), st.sampled_from([b"\x91", b"\x81\xa1k", b"[", b'{"a":', b"\x92\x13"]))
def test_depth_is_bounded(times: int, opening: bytes) -> None:
    for text in (False, True):
        with pytest.raises(BadMessage):
            codec.decode(opening * times, text=text)
