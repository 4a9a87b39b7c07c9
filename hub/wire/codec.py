"""Bytes to frames and frames to bytes, in both encodings (`bankhub.v1.msgpack`, `bankhub.v1.json`)."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from hub.wire import limits
from hub.wire.frames import BadFrame, BadMessage, ClientFrame, Op

MSGPACK: Final = "bankhub.v1.msgpack"
JSON: Final = "bankhub.v1.json"

_client_ops: Final = frozenset(kind.__struct_config__.tag for kind in ClientFrame.__args__)

_packed = msgspec.msgpack.Decoder(list[ClientFrame])
_packed_raw = msgspec.msgpack.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(list[ClientFrame])
_text_raw = msgspec.json.Decoder(list[msgspec.Raw])
_one_packed = msgspec.msgpack.Decoder(ClientFrame)
_one_text = msgspec.json.Decoder(ClientFrame)

pack = msgspec.msgpack.Encoder(order="sorted").encode  # canonical: sorted keys, shortest forms
unpack = msgspec.msgpack.Decoder().decode
_pack = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder(order="sorted").encode


def decode(payload: bytes, *, text: bool) -> list[ClientFrame | BadFrame]:
    """Frames of one WebSocket message, each valid or a `BadFrame`. Raises `BadMessage`."""
    if len(payload) <= limits.FRAME_BYTES:
        try:
            frames = _text.decode(payload) if text else _packed.decode(payload)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return _decode_each(payload, text=text)
        if not 0 < len(frames) <= limits.FRAMES_PER_MESSAGE:
            raise BadMessage("a message holds 1 to 64 frames")
        return frames  # type: ignore[return-value]
    return _decode_each(payload, text=text)


_HALF: Final = re.compile(
    rb"(?<!\\)((?:\\\\)*)(?:(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def _whole(payload: bytes) -> bytes:
    """JSON without halves of characters (``\\ud800``), which JavaScript writes where text was cut inside an emoji."""
    return _HALF.sub(lambda found: found[1] + (found[2] or rb"\ufffd"), payload)


def _decode_each(payload: bytes, *, text: bool) -> list[ClientFrame | BadFrame]:
    """The slow way: one frame at a time, so that a bad one does not spoil its neighbours."""
    try:
        if text and b"\\u" in payload:
            payload = _whole(payload)
        raws = (_text_raw if text else _packed_raw).decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadMessage("a message is an array of frames") from error
    if not 0 < len(raws) <= limits.FRAMES_PER_MESSAGE:
        raise BadMessage("a message holds 1 to 64 frames")
    return [_decode_one(bytes(raw), text=text) for raw in raws]


def _decode_one(raw: bytes, *, text: bool) -> ClientFrame | BadFrame:
    if len(raw) <= limits.FRAME_BYTES:
        try:
            frame: ClientFrame = (_one_text if text else _one_packed).decode(raw)
            return frame
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            reason = str(error)
    else:
        reason = f"a frame is at most {limits.FRAME_BYTES} bytes"
    op, frame_id = _head(raw, text=text)
    if op is None:
        raise BadMessage("a frame is an array that starts with its op and id")
    if len(raw) > limits.FRAME_BYTES:
        return BadFrame(frame_id, "too_large", reason)
    if op not in _client_ops:
        return BadFrame(frame_id, "unknown_op", f"no client frame has op {op}")
    return BadFrame(frame_id, "invalid", reason)


class _Head(msgspec.Struct, array_like=True):
    op: int
    id: int = 0


_head_packed = msgspec.msgpack.Decoder(_Head)
_head_text = msgspec.json.Decoder(_Head)


def _head(raw: bytes, *, text: bool) -> tuple[int | None, int]:
    try:
        head = (_head_text if text else _head_packed).decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None, 0
    return head.op, head.id if 0 <= head.id <= 0xFFFF_FFFF else 0


def packed_message(frame: tuple[Any, ...] | list[Any]) -> bytes:
    """The msgpack payload of a message with this one frame."""
    return b"\x91" + _pack(frame)


def json_message(frame: tuple[Any, ...] | list[Any]) -> bytes:
    """The JSON payload of a message with this one frame; bytes become base64."""
    return b"[" + _json(frame) + b"]"


def entry_packed(
    stream: str, seq: int, entry_id: int, sender: int, kind: str, time_ms: int, body: bytes | None,
    digest: bytes, options: bytes | None,
) -> bytes:  # fmt: skip
    """The fields of an entry `[stream, seq, …, options]` in msgpack; `body` and `options` are msgpack already."""
    return _pack(
        (
            stream, seq, str(entry_id), str(sender), kind, time_ms,
            None if body is None else msgspec.Raw(body), digest, None if options is None else msgspec.Raw(options),
        )
    )  # fmt: skip


def entry_push(packed_entry: bytes) -> bytes:
    """The payload of an ENTRY push: the entry's fields behind `[7, 0, …]`.

    An entry has nine fields, so its msgpack starts with one array byte; ENTRY has eleven.
    """
    return b"\x91\x9b" + _ENTRY_HEAD + packed_entry[1:]


_ENTRY_HEAD: Final = bytes((Op.ENTRY, 0))
