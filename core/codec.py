"""msgpack for everything between our own processes and in our own tables."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import msgspec

from core.errors import Invalid


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} does not travel")


_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
_CANONICAL: Final = msgspec.msgpack.Encoder(enc_hook=_plain, order="sorted")
_DECODER: Final = msgspec.msgpack.Decoder()


def pack(value: object) -> bytes:
    """`value` as msgpack: plain values, times as timestamps, decimals as strings."""
    return _ENCODER.encode(value)


def unpack(data: bytes) -> Any:
    """The value in `data`. Raises `Invalid` for anything that is not exactly one well-formed value."""
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError) as error:
        raise Invalid("the body is not msgpack") from error


def canonical(value: object) -> bytes:
    """`pack` with the keys of every map and the members of every set in order: equal values, equal bytes."""
    return _CANONICAL.encode(value)
