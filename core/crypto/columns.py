"""Encrypted columns: SM4-GCM for the value, a blind index for finding it again.

    PHONE = Column("gateway_people", "phone", normal_phone)
    sealed = columns.seal(PHONE, person_id, "13800000001")    # its four columns
    columns.open(PHONE, person_id, row["phone_sealed"])       # the text again
    columns.indexes(PHONE, "+86 138 0000 0001")               # WHERE phone_index IN ($*)

A ciphertext is bound to its table, column and row: copied to another row it does not open. The index is an HMAC of the
normalised value, so equal values can be found and kept unique, and nothing else can be told without the key. While the
index key turns, rows carry the old index or the new one: whoever looks up asks for all of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from core.crypto import sm4
from core.crypto.keyring import Keyring
from core.crypto.ring import COLUMNS, INDEXES, Key
from core.crypto.sm3 import hmac_sm3
from core.rng import Rng

_FORMAT: Final = 1
_HEAD_BYTES: Final = 3  # format and key version
OVERHEAD_BYTES: Final = _HEAD_BYTES + sm4.NONCE_BYTES + sm4.TAG_BYTES


def plain_text(value: str) -> str:
    """What two spellings of the same text have in common: Unicode's compatible form, without the space around."""
    return unicodedata.normalize("NFKC", value).strip()


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is stored encrypted. `normal` gives equal values the same text."""

    table: str
    name: str
    normal: Callable[[str], str] = plain_text


class Sealed(NamedTuple):
    """What is stored of one value: four columns."""

    sealed: bytes
    blind_index: bytes
    key_version: int
    index_version: int


class Columns:
    """Seals and opens values with the keys of a ring."""

    def __init__(self, keys: Keyring, rng: Rng) -> None:
        self.keys, self._rng = keys, rng

    def seal(self, column: Column, row_id: int, value: str) -> Sealed:
        """The value, encrypted with the current keys for this row."""
        sealed, index_key = self.wrap(_place(column, row_id), value.encode()), self.keys.current(INDEXES)
        version = int.from_bytes(sealed[1:_HEAD_BYTES])
        return Sealed(sealed, _index(index_key, column, value), version, index_key.version)

    def open(self, column: Column, row_id: int, sealed: bytes) -> str:
        """The value. Raises `NotAuthentic` for one of another row or changed, `Invalid` where its key is gone."""
        return self.unwrap(_place(column, row_id), sealed).decode()

    def wrap(self, place: bytes, value: bytes) -> bytes:
        """Any bytes that nobody has to find again, encrypted with the current key for this place."""
        key, nonce = self.keys.current(COLUMNS), self._rng.randbytes(sm4.NONCE_BYTES)
        head = bytes((_FORMAT,)) + key.version.to_bytes(2)
        return head + nonce + sm4.seal(key.material, nonce, value, place + b"\0" + head)

    def unwrap(self, place: bytes, sealed: bytes) -> bytes:
        """What was wrapped for this place. Raises as `open`."""
        head, rest = sealed[:_HEAD_BYTES], sealed[_HEAD_BYTES:]
        if len(sealed) < OVERHEAD_BYTES or head[0] != _FORMAT:
            raise sm4.NotAuthentic
        key = self.keys.get(COLUMNS, int.from_bytes(head[1:]))
        nonce, cipher = rest[: sm4.NONCE_BYTES], rest[sm4.NONCE_BYTES :]
        return sm4.open_sealed(key.material, nonce, cipher, place + b"\0" + head)

    def indexes(self, column: Column, value: str) -> list[bytes]:
        """Every index that a row with this value may carry, the current key's first."""
        return [_index(key, column, value) for key in self.keys.all(INDEXES)]

    @property
    def versions(self) -> tuple[int, int]:
        """Of the current keys: rows with others are due to be sealed again."""
        return self.keys.current(COLUMNS).version, self.keys.current(INDEXES).version


def _place(column: Column, row_id: int) -> bytes:
    return b"\0".join((b"bankhub.column", column.table.encode(), column.name.encode(), str(row_id).encode()))


def _index(key: Key, column: Column, value: str) -> bytes:
    return hmac_sm3(
        key.material, column.table.encode(), b"\0", column.name.encode(), b"\0", column.normal(value).encode()
    )
