"""SM4 (GM/T 0002-2012, GB/T 32907): a block cipher of 128 bits, in GCM (RFC 8998) and CTR.

GCM is what to use. CTR authenticates nothing: it is for streams that are authenticated otherwise.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import SM4
from cryptography.hazmat.primitives.ciphers.modes import CTR, GCM

from core.errors import Invalid

KEY_BYTES: Final = 16
NONCE_BYTES: Final = 12  # of GCM: random ones are safe for 2^32 messages under one key
TAG_BYTES: Final = 16


class NotAuthentic(Invalid):
    """The ciphertext was not made with this key for this place."""


def seal(key: bytes, nonce: bytes, plain: bytes, aad: bytes = b"") -> bytes:
    """Ciphertext and tag. A nonce is used once with a key: a second time gives both messages away."""
    _check(key, nonce, NONCE_BYTES)
    encryptor = Cipher(SM4(key), GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(aad)
    return encryptor.update(plain) + encryptor.finalize() + encryptor.tag


def open_sealed(key: bytes, nonce: bytes, sealed: bytes, aad: bytes = b"") -> bytes:
    """What `seal` was given. Raises `NotAuthentic` if one bit of anything differs."""
    _check(key, nonce, NONCE_BYTES)
    if len(sealed) < TAG_BYTES:
        raise NotAuthentic
    decryptor = Cipher(SM4(key), GCM(nonce, sealed[-TAG_BYTES:])).decryptor()
    decryptor.authenticate_additional_data(aad)
    try:
        return decryptor.update(sealed[:-TAG_BYTES]) + decryptor.finalize()
    except InvalidTag as error:
        raise NotAuthentic from error


def ctr(key: bytes, counter: bytes, data: bytes) -> bytes:
    """Encrypt or decrypt: the same operation. `counter` has 16 bytes and is used once with a key."""
    _check(key, counter, 16)
    cipher = Cipher(SM4(key), CTR(counter)).encryptor()
    return cipher.update(data) + cipher.finalize()


def _check(key: bytes, nonce: bytes, nonce_bytes: int) -> None:
    if len(key) != KEY_BYTES or len(nonce) != nonce_bytes:
        raise ValueError("the key or the nonce has another length")
