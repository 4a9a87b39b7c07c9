"""Values that travel: ids, bytes, and the base class of results and parts of commands."""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetPydanticSchema,
    PlainSerializer,
    SecretStr,
    SerializationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

ID_MAX: Final = (1 << 63) - 1
_DECIMAL: Final = "^(0|[1-9][0-9]{0,18})$"


def _id_out(value: int, info: SerializationInfo) -> int | str:
    return str(value) if info.context is WIRE or info.mode == "json" else value


def _bytes_in(value: object) -> object:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("bytes are base64 in JSON") from error
    return value


def _bytes_out(value: bytes, info: SerializationInfo) -> bytes | str:
    return base64.b64encode(value).decode() if info.mode == "json" else value


WIRE: Final[Mapping[str, str]] = {"ids": "text"}
"""Serialisation context of msgpack that leaves us: ids as decimal strings like in JSON, bytes as bytes."""


def _id_schema(source: object, handler: object) -> CoreSchema:
    """Plain integers, or plain decimal digits in a string. Read without Python: some answers are full of ids."""
    number = core_schema.int_schema(strict=True, ge=0, le=ID_MAX)
    digits = core_schema.str_schema(strict=True, pattern=_DECIMAL)
    return core_schema.union_schema(
        [number, core_schema.chain_schema([digits, core_schema.int_schema(ge=0, le=ID_MAX)])],
        mode="left_to_right",
        custom_error_type="id",
        custom_error_message="an id is an integer or a decimal string of 63 bits",
        serialization=core_schema.plain_serializer_function_ser_schema(_id_out, info_arg=True),
    )


Id = Annotated[
    int,
    GetPydanticSchema(_id_schema),
    WithJsonSchema({"type": "string", "pattern": _DECIMAL, "description": "63-bit id, decimal"}),
]
"""A 63-bit id: integer in Python, decimal string on every wire because JavaScript has no such integers."""

Bytes = Annotated[
    bytes,
    BeforeValidator(_bytes_in),
    PlainSerializer(_bytes_out),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
"""Raw bytes: base64 in JSON, bin in msgpack."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """Serialisation context that writes `of(secret)` where a secret stands."""

    of: Callable[[str], str]


def _secret_out(value: SecretStr, info: SerializationInfo) -> str:
    if isinstance(info.context, Hidden):
        return info.context.of(value.get_secret_value())
    return value.get_secret_value() if info.context is WIRE else "***"


Secret = Annotated[SecretStr, PlainSerializer(_secret_out)]
"""A password in a command: leaves only towards another process of ours; logs, digests and prints see ``***``."""


_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_BLANK: Final = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols by category, with nothing to see


def one_line(text: str) -> str:
    """Text as names and titles are kept: one line, trimmed. Raises `ValueError` where there is none.

    Characters that cannot be seen or that turn the direction around are refused: two names that look the same would
    not be, and a name could rewrite the line that it stands in.
    """
    text = " ".join(text.split())
    if not text:
        raise ValueError("there is nothing to see")
    if any(char in _BLANK or (char != "\u200d" and unicodedata.category(char) in _UNSEEN) for char in text):
        raise ValueError("visible characters only")
    return text


class Value(BaseModel):
    """A result, or a part of a command or result."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
