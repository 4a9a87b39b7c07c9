"""SM2 by the libcrypto of the operating system (OpenSSL 3), through as little of it as possible.

ctypes releases the GIL during every call, so a thread that signs keeps nobody waiting. Every pointer that libcrypto
gives out is freed here; every failure empties its queue of errors, which belongs to the thread and would otherwise be
read by the next caller. Keys go in and out as `core.crypto.encodings` has them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_size_t, c_ulong, c_void_p
from ctypes.util import find_library
from functools import lru_cache
from typing import Any, Final

from core.crypto import encodings

_NAMES: Final = ("libcrypto.so.3", "libcrypto.3.dylib")
_KEYS: Final = 1_024  # kept read: those of the bank and of the devices that are signing now; 2 KiB each
_VERSION: Final = 3 << 28  # 3.0.0; before it SM2 had to be asked for in ways that are gone

# name: (result, arguments); whatever is a pointer is c_void_p, because the default would cut it to 32 bits
_FUNCTIONS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "OpenSSL_version_num": (c_ulong, []),
    "ERR_clear_error": (None, []),
    "CRYPTO_free": (None, [c_void_p, c_char_p, c_int]),
    "EVP_sm3": (c_void_p, []),
    "EVP_MD_CTX_new": (c_void_p, []),
    "EVP_MD_CTX_free": (None, [c_void_p]),
    "EVP_MD_CTX_set_pkey_ctx": (None, [c_void_p, c_void_p]),
    "EVP_PKEY_free": (None, [c_void_p]),
    "EVP_PKEY_CTX_new": (c_void_p, [c_void_p, c_void_p]),
    "EVP_PKEY_CTX_new_from_name": (c_void_p, [c_void_p, c_char_p, c_char_p]),
    "EVP_PKEY_CTX_free": (None, [c_void_p]),
    "EVP_PKEY_CTX_set1_id": (c_int, [c_void_p, c_char_p, c_size_t]),
    "EVP_PKEY_keygen_init": (c_int, [c_void_p]),
    "EVP_PKEY_keygen": (c_int, [c_void_p, POINTER(c_void_p)]),
    "EVP_PKEY_get_bn_param": (c_int, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "BN_bn2binpad": (c_int, [c_void_p, c_char_p, c_int]),
    "BN_clear_free": (None, [c_void_p]),
    "d2i_PUBKEY": (c_void_p, [c_void_p, POINTER(c_char_p), c_long]),
    "d2i_AutoPrivateKey": (c_void_p, [c_void_p, POINTER(c_char_p), c_long]),
    "i2d_PUBKEY": (c_int, [c_void_p, POINTER(c_void_p)]),
    "EVP_DigestSignInit": (c_int, [c_void_p] * 5),
    "EVP_DigestSign": (c_int, [c_void_p, c_char_p, POINTER(c_size_t), c_char_p, c_size_t]),
    "EVP_DigestVerifyInit": (c_int, [c_void_p] * 5),
    "EVP_DigestVerify": (c_int, [c_void_p, c_char_p, c_size_t, c_char_p, c_size_t]),
    "EVP_PKEY_encrypt_init": (c_int, [c_void_p]),
    "EVP_PKEY_encrypt": (c_int, [c_void_p, c_char_p, POINTER(c_size_t), c_char_p, c_size_t]),
    "EVP_PKEY_decrypt_init": (c_int, [c_void_p]),
    "EVP_PKEY_decrypt": (c_int, [c_void_p, c_char_p, POINTER(c_size_t), c_char_p, c_size_t]),
}


class LibcryptoError(Exception):
    """libcrypto said no, or is not there."""


class _Key:
    """An EVP_PKEY, freed with the last reference to this. Threads may use it at the same time."""

    __slots__ = ("_free", "pointer")

    def __init__(self, pointer: int, free: Callable[[int], None]) -> None:
        self.pointer, self._free = pointer, free

    def __del__(self) -> None:
        self._free(self.pointer)


class Libcrypto:
    """The engine `core.crypto.sm2` prefers. Safe for any number of threads."""

    name = "libcrypto"

    def __init__(self) -> None:
        """Raises `LibcryptoError` where there is no libcrypto 3 that has SM2."""
        self._lib = _load()
        self._sm3 = self._lib.EVP_sm3()
        self._read = lru_cache(_KEYS)(self._read_key)  # reading a key takes longer than signing with it
        try:
            self.generate()
        except LibcryptoError as error:
            raise LibcryptoError("this libcrypto was built without SM2") from error

    def generate(self) -> tuple[bytes, bytes]:
        """A new private key and its point, from libcrypto's own generator."""
        lib = self._lib
        with self._freed(
            lib.EVP_PKEY_CTX_new_from_name(None, b"SM2", None), lib.EVP_PKEY_CTX_free
        ) as context:
            made = c_void_p()
            self._ok(lib.EVP_PKEY_keygen_init(context))
            self._ok(lib.EVP_PKEY_keygen(context, byref(made)))
        assert made.value is not None
        key, number = _Key(made.value, lib.EVP_PKEY_free), c_void_p()
        self._ok(lib.EVP_PKEY_get_bn_param(key.pointer, b"priv", byref(number)))
        with self._freed(number.value, lib.BN_clear_free) as secret:
            private = ctypes.create_string_buffer(32)
            self._ok(lib.BN_bn2binpad(secret, private, 32) == 32)
        return private.raw, self._point(key)

    def point(self, private: bytes) -> bytes:
        """The public key of a private one."""
        return self._point(self._private(private, None))

    def sign(self, private: bytes, point: bytes, message: bytes, user_id: bytes) -> bytes:
        """The signature, DER."""
        lib = self._lib
        key = self._private(private, point)
        with self._digesting(key, user_id) as digesting:
            self._ok(lib.EVP_DigestSignInit(digesting, None, self._sm3, None, key.pointer))
            size = c_size_t(80)
            signature = ctypes.create_string_buffer(size.value)
            self._ok(lib.EVP_DigestSign(digesting, signature, byref(size), message, len(message)))
            return signature.raw[: size.value]

    def verify(self, point: bytes, message: bytes, signature: bytes, user_id: bytes) -> bool:
        """Whether the DER signature is right."""
        lib = self._lib
        key = self._public(point)
        with self._digesting(key, user_id) as digesting:
            self._ok(lib.EVP_DigestVerifyInit(digesting, None, self._sm3, None, key.pointer))
            right: bool = (
                lib.EVP_DigestVerify(digesting, signature, len(signature), message, len(message)) == 1
            )
            if not right:
                lib.ERR_clear_error()
            return right

    def encrypt(self, point: bytes, plain: bytes) -> bytes:
        """The ciphertext, DER."""
        return self._crypt("EVP_PKEY_encrypt", self._public(point), plain)

    def decrypt(self, private: bytes, point: bytes, cipher: bytes) -> bytes:
        """What was encrypted. Raises `LibcryptoError` for a ciphertext that is not for this key."""
        return self._crypt("EVP_PKEY_decrypt", self._private(private, point), cipher)

    # --- how ------------------------------------------------------------------------------------------------------

    def _crypt(self, name: str, key: _Key, data: bytes) -> bytes:
        lib, run = self._lib, getattr(self._lib, name)
        with self._freed(lib.EVP_PKEY_CTX_new(key.pointer, None), lib.EVP_PKEY_CTX_free) as context:
            size = c_size_t()
            self._ok(getattr(lib, f"{name}_init")(context))
            self._ok(run(context, None, byref(size), data, len(data)))
            out = ctypes.create_string_buffer(size.value)
            self._ok(run(context, out, byref(size), data, len(data)))
            return out.raw[: size.value]

    @contextmanager
    def _digesting(self, key: _Key, user_id: bytes) -> Iterator[int]:
        lib = self._lib
        with (
            self._freed(lib.EVP_PKEY_CTX_new(key.pointer, None), lib.EVP_PKEY_CTX_free) as context,
            self._freed(
                lib.EVP_MD_CTX_new(), lib.EVP_MD_CTX_free
            ) as digesting,  # freed first: it points there
        ):
            self._ok(lib.EVP_PKEY_CTX_set1_id(context, user_id, len(user_id)))
            lib.EVP_MD_CTX_set_pkey_ctx(digesting, context)  # which stays ours to free
            yield digesting

    def _private(self, private: bytes, point: bytes | None) -> _Key:
        return self._read("d2i_AutoPrivateKey", encodings.to_pkcs8(private, point))

    def _public(self, point: bytes) -> _Key:
        return self._read("d2i_PUBKEY", encodings.to_spki(point))

    def _read_key(self, function: str, der: bytes) -> _Key:
        pointer = getattr(self._lib, function)(None, byref(c_char_p(der)), len(der))
        if not pointer:
            self._ok(0)
        return _Key(pointer, self._lib.EVP_PKEY_free)

    def _point(self, key: _Key) -> bytes:
        der = c_void_p()
        size = self._lib.i2d_PUBKEY(key.pointer, byref(der))
        self._ok(size > 0)
        with self._freed(der.value, lambda pointer: self._lib.CRYPTO_free(pointer, b"", 0)) as start:
            return encodings.from_spki(ctypes.string_at(start, size))

    @contextmanager
    def _freed(self, pointer: int | None, free: Any) -> Iterator[int]:
        if not pointer:
            self._lib.ERR_clear_error()
            raise LibcryptoError("libcrypto refused")
        try:
            yield pointer
        finally:
            free(pointer)

    def _ok(self, result: int) -> None:
        if result != 1:
            self._lib.ERR_clear_error()
            raise LibcryptoError("libcrypto refused")


def _names() -> Iterator[str]:
    yield from _NAMES
    found = find_library("crypto")  # asks ldconfig and compilers: tens of milliseconds that are seldom needed
    if found is not None:
        yield found


def _load() -> Any:
    for name in _names():
        try:
            lib = ctypes.CDLL(name)
            for function, (result, arguments) in _FUNCTIONS.items():
                getattr(lib, function).restype = result
                getattr(lib, function).argtypes = arguments
        except (OSError, AttributeError):
            continue
        if lib.OpenSSL_version_num() >= _VERSION:
            return lib
    raise LibcryptoError("there is no libcrypto 3 on this machine")
