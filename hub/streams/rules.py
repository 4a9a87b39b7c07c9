"""What the hub promises of a stream, without I/O: the digest chain, content identity, watermarks, unread counts."""

from __future__ import annotations

from hashlib import new as _new_hash
from typing import Any, Final

from hub.wire import limits
from hub.wire.codec import pack

EMPTY_DIGEST: Final = bytes(32)
MEMBERSHIP: Final = (
    "membership"  # kind of an entry that changes who is subscribed; body {added: [id], removed: [id]}
)

try:
    _sm3 = _new_hash("sm3")

    def sm3(data: bytes) -> bytes:
        """SM3 (GM/T 0004-2012) of `data`, 32 bytes."""
        digest = _sm3.copy()  # half the time of making a new one by name
        digest.update(data)
        return digest.digest()

except ValueError:  # this Python's OpenSSL has no SM3: the one that `cryptography` brings has
    from cryptography.hazmat.primitives.hashes import SM3, Hash

    def sm3(data: bytes) -> bytes:
        """SM3 (GM/T 0004-2012) of `data`, 32 bytes."""
        digest = Hash(SM3())
        digest.update(data)
        return digest.finalize()


def content_digest(kind: str, body: bytes | None, options: bytes | None) -> bytes:
    """Identity of what was said: SM3 of the canonical msgpack of `[kind, body, options]`; parts are msgpack already."""
    return sm3(b"\x93" + pack(kind) + (body or b"\xc0") + (options or b"\xc0"))


def chain_digest(
    previous: bytes, stream_id: int, seq: int, entry_id: int, sender_id: int, time_ms: int, content: bytes
) -> bytes:
    """The link of one entry: SM3(previous ‖ stream ‖ seq ‖ entry id ‖ sender ‖ time ‖ content digest), integers 8 bytes
    big-endian."""
    numbers = b"".join(n.to_bytes(8, "big") for n in (stream_id, seq, entry_id, sender_id, time_ms))
    return sm3(previous + numbers + content)


def unread(*, head: int, floor: int, read: int, sent: int) -> int:
    """Entries a person has not read: head - max(floor, read, own newest). No write per recipient is needed for it."""
    return max(0, head - max(floor, read, sent))


def storable(value: Any, depth: int = limits.BODY_DEPTH) -> bool:
    """Whether a value is what a body may be: at most `depth` levels, string keys, 64-bit integers."""
    if isinstance(value, dict):
        return depth > 0 and all(isinstance(k, str) and storable(v, depth - 1) for k, v in value.items())
    if isinstance(value, list):
        return depth > 0 and all(storable(v, depth - 1) for v in value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**64  # what msgpack can say; JSON can say more
    return isinstance(value, (str, float, bytes, type(None)))
