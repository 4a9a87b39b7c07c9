"""Envelope encryption of files: every object has a key of its own, wrapped by its enterprise's.

An object is stored as pieces, each of 64 KiB of the file or, at its end, less:

    nonce (12, random) ‖ SM4-GCM of the piece ‖ tag (16)      additional data: object id ‖ number of the piece

So a range is read by fetching the pieces that it touches, and no piece can be changed, moved or taken from another
object unseen; that none is missing at the end follows from the size that the database has. The enterprise's key is
derived from the ring's key of purpose `files` (HMAC-SM3), so one rotation turns all of them; what is stored says which.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from core.crypto import sm4
from core.crypto.keyring import Keyring
from core.crypto.ring import FILES
from core.crypto.sm3 import hmac_sm3
from core.errors import Unavailable
from core.rng import Rng

PIECE_BYTES: Final = 64 << 10
OVERHEAD_BYTES: Final = sm4.NONCE_BYTES + sm4.TAG_BYTES
_STORED_BYTES: Final = PIECE_BYTES + OVERHEAD_BYTES
_FORMAT: Final = 1
_HEAD_BYTES: Final = 3  # format and version of the ring's key


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """The key of one object. `wrapped` is what is stored of it."""

    object_id: int
    wrapped: bytes
    _key: bytes = field(repr=False)
    _rng: Rng = field(repr=False)

    @staticmethod
    def stored_bytes(size_bytes: int) -> int:
        """How much room a file of this size takes."""
        return size_bytes + -(-size_bytes // PIECE_BYTES) * OVERHEAD_BYTES

    async def seal(self, chunks: AsyncIterator[bytes], start: int = 0) -> AsyncIterator[bytes]:
        """What is stored of these bytes, which begin at `start` of the file (a whole number of pieces)."""
        number = _piece(start)
        async for piece in _pieces(chunks, PIECE_BYTES):
            nonce = self._rng.randbytes(sm4.NONCE_BYTES)
            yield nonce + sm4.seal(self._key, nonce, piece, self._place(number))
            number += 1

    async def unseal(self, chunks: AsyncIterator[bytes], start: int = 0) -> AsyncIterator[bytes]:
        """The bytes again. Raises `NotAuthentic` where they were changed, after those before them were given."""
        number = _piece(start)
        async for stored in _pieces(chunks, _STORED_BYTES):
            nonce, cipher = stored[: sm4.NONCE_BYTES], stored[sm4.NONCE_BYTES :]
            yield sm4.open_sealed(self._key, nonce, cipher, self._place(number))
            number += 1

    def stored_span(self, start: int, length: int, size_bytes: int) -> tuple[int, int]:
        """(start, length) of what has to be read for this range, which lies within the file."""
        first, last = start // PIECE_BYTES, (start + length - 1) // PIECE_BYTES
        end = min((last + 1) * _STORED_BYTES, self.stored_bytes(size_bytes))
        return first * _STORED_BYTES, end - first * _STORED_BYTES

    async def unseal_span(
        self, chunks: AsyncIterator[bytes], start: int, length: int
    ) -> AsyncIterator[bytes]:
        """The range out of what `stored_span` has read. Raises `Unavailable` where there is too little."""
        skip, left = start % PIECE_BYTES, length
        async for piece in self.unseal(chunks, start - skip):
            wanted = piece[skip : skip + left]
            skip, left = 0, left - len(wanted)
            yield wanted
        if left:
            raise Unavailable("the object store has less than was kept there", retry_ms=1000)

    def _place(self, number: int) -> bytes:
        return b"bankhub.file" + self.object_id.to_bytes(8) + number.to_bytes(8)


class Sealer:
    """Makes and opens keys of objects."""

    def __init__(self, keys: Keyring, rng: Rng) -> None:
        self._keys, self._rng = keys, rng

    def new_key(self, enterprise_id: int, object_id: int) -> ObjectKey:
        """A key for a new object, wrapped with the current key of the ring."""
        ring, key = self._keys.current(FILES), self._rng.randbytes(sm4.KEY_BYTES)
        head = bytes((_FORMAT,)) + ring.version.to_bytes(2)
        nonce = self._rng.randbytes(sm4.NONCE_BYTES)
        cipher = sm4.seal(
            _own(ring.material, enterprise_id), nonce, key, _owner(enterprise_id, object_id, head)
        )
        return ObjectKey(object_id, head + nonce + cipher, key, self._rng)

    def open_key(self, enterprise_id: int, object_id: int, wrapped: bytes) -> ObjectKey:
        """The key of an object. Raises `NotAuthentic` for one of another enterprise or object, or changed."""
        head, rest = wrapped[:_HEAD_BYTES], wrapped[_HEAD_BYTES:]
        if len(wrapped) != _HEAD_BYTES + sm4.KEY_BYTES + OVERHEAD_BYTES or head[0] != _FORMAT:
            raise sm4.NotAuthentic
        ring = self._keys.get(FILES, int.from_bytes(head[1:]))
        nonce, cipher = rest[: sm4.NONCE_BYTES], rest[sm4.NONCE_BYTES :]
        key = sm4.open_sealed(
            _own(ring.material, enterprise_id), nonce, cipher, _owner(enterprise_id, object_id, head)
        )
        return ObjectKey(object_id, wrapped, key, self._rng)


def _own(material: bytes, enterprise_id: int) -> bytes:
    """An enterprise's key."""
    return hmac_sm3(material, b"enterprise", enterprise_id.to_bytes(8))[: sm4.KEY_BYTES]


def _owner(enterprise_id: int, object_id: int, head: bytes) -> bytes:
    return b"bankhub.file.key" + enterprise_id.to_bytes(8) + object_id.to_bytes(8) + head


def _piece(start: int) -> int:
    number, within = divmod(start, PIECE_BYTES)
    assert not within, "bytes are sealed from the beginning of a piece on"
    return number


async def _pieces(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The same bytes in pieces of one size, the last one shorter."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
