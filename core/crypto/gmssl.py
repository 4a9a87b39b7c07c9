"""SM2 by GmSSL through the wheel gmssl_pyx: for machines without a libcrypto 3 (extra `gmssl`). The same five verbs."""

from __future__ import annotations

import importlib
from typing import Any


class Gmssl:
    """The engine `core.crypto.sm2` falls back to. It signs nine times slower and encrypts at most 255 bytes."""

    name = "gmssl_pyx"

    def __init__(self) -> None:
        """Raises `ImportError` where the wheel is not installed."""
        self._lib: Any = importlib.import_module("gmssl_pyx")

    def generate(self) -> tuple[bytes, bytes]:
        """A new private key and its point."""
        point, private = self._lib.sm2_key_generate()
        return bytes(private), b"\x04" + bytes(point)

    def point(self, private: bytes) -> bytes:
        """The public key of a private one, which this library does not tell: by our own arithmetic."""
        from core.crypto.curve import public_point

        return public_point(private)

    def sign(self, private: bytes, point: bytes, message: bytes, user_id: bytes) -> bytes:
        """The signature, DER."""
        return bytes(self._lib.sm2_sign(private, point[1:], message, user_id))

    def verify(self, point: bytes, message: bytes, signature: bytes, user_id: bytes) -> bool:
        """Whether the DER signature is right."""
        return bool(self._lib.sm2_verify(point[1:], message, signature, user_id))

    def encrypt(self, point: bytes, plain: bytes) -> bytes:
        """The ciphertext, DER."""
        return bytes(self._lib.sm2_encrypt(point[1:], plain))

    def decrypt(self, private: bytes, point: bytes, cipher: bytes) -> bytes:
        """What was encrypted. Raises errors of the library for a ciphertext that is not for this key."""
        return bytes(self._lib.sm2_decrypt(private, cipher))
