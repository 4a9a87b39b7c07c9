"""Frames in both encodings: valid ones arrive typed, bad ones are told apart from bad messages."""

from __future__ import annotations

import base64
import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire import codec, limits
from hub.wire.frames import BadFrame, BadMessage, Hello, Ping, Send


def test_send_arrives_typed_and_unknown_fields_are_ignored() -> None:
    frame = [
        5,
        7,
        "12",
        "k-1",
        "text",
        {"text": "hi"},
        {"mentions": ["3"], "of a later version": 1},
        "and more",
    ]
    (send,) = codec.decode(msgpack.packb([frame]), text=False)
    assert isinstance(send, Send)
    assert (send.id, send.conversation, send.key, send.body) == (7, "12", "k-1", {"text": "hi"})
    assert send.options is not None
    assert send.options.mentions == ["3"]


def test_missing_optional_fields_are_nil() -> None:
    (hello,) = codec.decode(msgpack.packb([[1, 1, "token", "phone"]]), text=False)
    assert isinstance(hello, Hello)
    assert hello.resume is None


def test_a_bad_frame_does_not_spoil_its_neighbours() -> None:
    frames = codec.decode(msgpack.packb([[19, 1, 5], [99, 2], [5, 3, "12"], [19, 4]]), text=False)
    assert isinstance(frames[0], Ping)
    assert isinstance(frames[3], Ping)
    assert isinstance(frames[1], BadFrame)
    assert isinstance(frames[2], BadFrame)
    assert [frames[1].id, frames[1].code] == [2, "unknown_op"]
    assert [frames[2].id, frames[2].code] == [3, "invalid"]


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"\x90", msgpack.packb({}), msgpack.packb([1, 2]), msgpack.packb([[]]), msgpack.packb([["x", 1]]),
     msgpack.packb([[19, 1]] * 65), msgpack.packb([[19, 1]])[:-1], msgpack.packb([[19, 1]]) + b"\x00"],
)  # fmt: skip
def test_what_is_no_array_of_frames_ends_the_session(payload: bytes) -> None:
    with pytest.raises(BadMessage):
        codec.decode(payload, text=False)


def test_sixty_four_frames_are_a_message() -> None:
    assert len(codec.decode(msgpack.packb([[19, 1]] * 64), text=False)) == 64


def test_a_frame_over_the_limit_is_refused_alone() -> None:
    big = [5, 9, "12", "k", "text", "x" * limits.FRAME_BYTES]
    frames = codec.decode(msgpack.packb([big, [19, 1]]), text=False)
    assert isinstance(frames[0], BadFrame)
    assert (frames[0].id, frames[0].code) == (9, "too_large")
    assert isinstance(frames[1], Ping)


def test_json_carries_bytes_as_base64() -> None:
    packed = codec.entry_packed("12", 3, 4, 5, "text", 6, codec.pack("hi"), bytes(range(32)), None)
    entry = json.loads(codec.json_message([7, 0, *codec.unpack(packed)]))
    assert entry == [
        [7, 0, "12", 3, "4", "5", "text", 6, "hi", base64.b64encode(bytes(range(32))).decode(), None]
    ]


@given(
    st.text(max_size=200),
    st.integers(1, 2**53),
    st.one_of(st.none(), st.dictionaries(st.text(max_size=5), st.text())),
)
def test_an_entry_push_is_the_entry_behind_its_op(
    body: str, seq: int, options: dict[str, str] | None
) -> None:
    packed_options = None if options is None else codec.pack(options)
    packed = codec.entry_packed("12", seq, 4, 5, "text", 6, codec.pack(body), bytes(32), packed_options)
    assert msgpack.unpackb(codec.entry_push(packed)) == [
        [7, 0, "12", seq, "4", "5", "text", 6, body, bytes(32), options]
    ]


@given(st.binary(max_size=300))
def test_no_bytes_break_the_decoder(data: bytes) -> None:
    for text in (False, True):
        try:
            frames = codec.decode(data, text=text)
        except BadMessage:
            continue
        assert 1 <= len(frames) <= limits.FRAMES_PER_MESSAGE
