"""The in-place cutter takes whole masked frames, names what it needs, and leaves everything else alone."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from hub.wire import websocket

SIZE_MAX = 1 << 18


def masked(payload: bytes, opcode: Opcode = Opcode.BINARY) -> bytes:
    return Frame(opcode, payload).serialize(mask=True)


@pytest.mark.requirement("W03")
@given(st.lists(st.binary(max_size=300) | st.integers(120, 70_000).map(os.urandom), max_size=6), st.data())
def test_any_chunking_gives_the_same_messages(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(masked(p) for p in payloads if len(p) < 65_536)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    messages: list[bytes] = []
    left = b""
    for piece in pieces:
        left += piece
        position, need = websocket.cut(left, websocket.BINARY, SIZE_MAX, messages)
        left = left[position:]
        assert need >= 0
        assert need == 0 or need > len(left) or len(left) < 2
    assert messages == [p for p in payloads if len(p) < 65_536]
    assert left == b""


@pytest.mark.parametrize(
    "odd",
    [
        masked(b"", Opcode.PING), masked(b"x", Opcode.TEXT), Frame(Opcode.BINARY, b"x").serialize(mask=False),
        Frame(Opcode.BINARY, b"x", fin=False).serialize(mask=True), masked(b"x" * 65_536),
        b"\x82\xfe\x00\x05" + bytes(9),  # a length that is not in its shortest form
        b"\xc2\x81" + bytes(5),  # a reserved bit
    ],
    ids=["ping", "text", "unmasked", "fragment", "64 KiB", "long form", "reserved bit"],
)  # fmt: skip
def test_everything_uncommon_is_left_where_it_stands(odd: bytes) -> None:
    messages: list[bytes] = []
    first = masked(b"before")
    assert websocket.cut(first + odd, websocket.BINARY, SIZE_MAX, messages) == (len(first), -1)
    assert messages == [b"before"]


@given(st.binary(max_size=70_000))
def test_server_frames_are_read_by_the_library(payload: bytes) -> None:
    assert websocket.frame(payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)


@given(st.integers(4000, 4999), st.text())
def test_close_frames_fit_a_control_frame(code: int, reason: str) -> None:
    data = websocket.close_frame(code, reason)
    assert len(data) <= 127
    assert data[2:4] == code.to_bytes(2, "big")
    assert reason.startswith(data[4:].decode())
