"""SM3 (GM/T 0004-2012, GB/T 32905): a hash of 256 bits, and HMAC and key derivation with it."""

from __future__ import annotations

from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.hashes import SM3, Hash
from cryptography.hazmat.primitives.hmac import HMAC

DIGEST_BYTES: Final = 32
_SM3: Final = SM3()


def sm3(*parts: bytes) -> bytes:
    """The digest of the parts, one after the other."""
    running = Hash(_SM3)
    for part in parts:
        running.update(part)
    return running.finalize()


class Sm3:
    """The digest of what comes bit by bit."""

    def __init__(self) -> None:
        self._running = Hash(_SM3)

    def update(self, part: bytes) -> None:
        """So much more."""
        self._running.update(part)

    def digest(self) -> bytes:
        """Of what has come so far."""
        return self._running.copy().finalize()


def hmac_sm3(key: bytes, *parts: bytes) -> bytes:
    """HMAC (RFC 2104) with SM3."""
    running = HMAC(key, _SM3)
    for part in parts:
        running.update(part)
    return running.finalize()


def same(one: bytes, other: bytes) -> bool:
    """Whether two digests are equal, in a time that does not tell where they differ."""
    return compare_digest(one, other)


def derive(secret: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose out of a secret (HKDF of RFC 5869 with SM3, one block)."""
    return hmac_sm3(hmac_sm3(b"bankhub", secret), purpose.encode(), b"\x01")
