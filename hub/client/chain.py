"""The digest chain as a client checks it, from docs/protocol.md alone."""

from __future__ import annotations

from typing import Any

import msgpack
from cryptography.hazmat.primitives import hashes

from hub.client.wire import Entry

START = bytes(32)


def sm3(data: bytes) -> bytes:
    """SM3 (GM/T 0004-2012)."""
    digest = hashes.Hash(hashes.SM3())
    digest.update(data)
    return digest.finalize()


def canonical(value: Any) -> bytes:
    """Canonical msgpack: maps sorted by key, every value in its shortest form."""
    packed: bytes = msgpack.packb(_sorted(value))
    return packed


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value


def digest_of(previous: bytes, entry: Entry) -> bytes:
    """The digest that `entry` must have behind an entry with the digest `previous`."""
    content = sm3(canonical([entry.kind, entry.body, entry.options]))
    numbers = (int(entry.stream), entry.seq, int(entry.entry_id), int(entry.sender), entry.time_ms)
    return sm3(previous + b"".join(number.to_bytes(8, "big") for number in numbers) + content)


def follows(previous: bytes | None, entry: Entry) -> bool:
    """Whether `entry` follows; True where it cannot be known (no entry before, body removed, the inbox's own id)."""
    if previous is None or entry.body is None or not entry.stream.isdecimal():
        return True
    return digest_of(previous, entry) == entry.digest
