"""SM2 (GM/T 0003-2012, GB/T 32918): signatures and public-key encryption with keys that are in memory.

    key = sm2.generate()
    signature = sm2.sign(key, b"transfer 100.00 to …")      # r || s; encodings.signature_to_der for the outside
    assert sm2.verify(key.point, b"transfer 100.00 to …", signature)

Keys of the bank that must not be in memory are used through `core.crypto.provider`. Functions block for a quarter of a
millisecond with the GIL released: one call may stay on the event loop's thread, many belong to a `SoftwareProvider`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Final, Protocol

from core.crypto import encodings
from core.crypto.encodings import Malformed
from core.crypto.gmssl import Gmssl
from core.crypto.libcrypto import Libcrypto, LibcryptoError
from core.crypto.sm3 import sm3
from core.errors import Internal, Invalid

DEFAULT_ID: Final = b"1234567812345678"
"""Who signs, where nothing else was agreed (GM/T 0009, 10)."""
ID_BYTES: Final = 8191  # its length in bits has two bytes
PLAIN_BYTES: Final = 255  # what every engine encrypts: SM2 is for keys; for more, encrypt an SM4 key


class Engine(Protocol):
    """Who does the arithmetic. Signatures and ciphertexts of engines are DER; they may raise anything."""

    name: str

    def generate(self) -> tuple[bytes, bytes]: ...
    def point(self, private: bytes) -> bytes: ...
    def sign(self, private: bytes, point: bytes, message: bytes, user_id: bytes) -> bytes: ...
    def verify(self, point: bytes, message: bytes, signature: bytes, user_id: bytes) -> bool: ...
    def encrypt(self, point: bytes, plain: bytes) -> bytes: ...
    def decrypt(self, private: bytes, point: bytes, cipher: bytes) -> bytes: ...


@cache
def engine() -> Engine:
    """libcrypto 3 if there is one with SM2, else gmssl_pyx. Raises `Internal` where there is neither."""
    try:
        return Libcrypto()
    except LibcryptoError as reason:
        try:
            return Gmssl()
        except ImportError:
            raise Internal(f"SM2: {reason}, and gmssl_pyx is not installed") from reason


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key with its public one."""

    private: bytes = field(repr=False)
    point: bytes

    @classmethod
    def of(cls, private: bytes) -> PrivateKey:
        """The key of this number. Raises `Malformed`."""
        return cls(private, engine().point(encodings.check_scalar(private)))

    @classmethod
    def from_pkcs8(cls, der: bytes) -> PrivateKey:
        """Raises `Malformed`. A public key inside is not believed but computed."""
        return cls.of(encodings.from_pkcs8(der))

    def to_pkcs8(self) -> bytes:
        """For a file that nobody else can read."""
        return encodings.to_pkcs8(self.private, self.point)


def generate() -> PrivateKey:
    """A new key pair, from the engine's own generator of random numbers."""
    return PrivateKey(*engine().generate())


def sign(key: PrivateKey, message: bytes, user_id: bytes = DEFAULT_ID) -> bytes:
    """r || s. Two signatures of one message differ."""
    return encodings.signature_from_der(engine().sign(key.private, key.point, message, _checked(user_id)))


def verify(point: bytes, message: bytes, signature: bytes, user_id: bytes = DEFAULT_ID) -> bool:
    """Whether r || s is the signature of exactly this message by the holder of this key under this id.

    False for anything else, also for signatures and keys that are none.
    """
    try:
        encodings.check_point(point)
        der = encodings.signature_to_der(signature)
    except Malformed:
        return False
    return engine().verify(point, message, der, _checked(user_id))


def signed_digest(point: bytes, message: bytes, user_id: bytes = DEFAULT_ID) -> bytes:
    """What the signature's arithmetic is about: e = SM3(Z || message), with Z from id, curve and key.

    For machines that sign digests (SDF); GM/T 0003.2, 5.5 and 6.1.
    """
    bits = 8 * len(_checked(user_id))
    curve = encodings.A.to_bytes(32) + encodings.B.to_bytes(32) + encodings.G
    z = sm3(bits.to_bytes(2), user_id, curve, encodings.check_point(point)[1:])
    return sm3(z, message)


def encrypt(point: bytes, plain: bytes) -> bytes:
    """C1 || C3 || C2 of 1 to 255 bytes. Raises `Malformed` for a point that is no key, `Invalid` for a wrong size."""
    if not 1 <= len(plain) <= PLAIN_BYTES:
        raise Invalid(f"SM2 encrypts 1 to {PLAIN_BYTES} bytes")
    return encodings.ciphertext_from_der(engine().encrypt(encodings.check_point(point), plain))


def decrypt(key: PrivateKey, cipher: bytes) -> bytes:
    """What was encrypted for this key. Raises `Invalid`, always the same whatever is wrong."""
    try:
        return engine().decrypt(key.private, key.point, encodings.ciphertext_to_der(cipher))
    except Exception as error:
        raise Invalid("the ciphertext is not for this key") from error


def _checked(user_id: bytes) -> bytes:
    if not 1 <= len(user_id) <= ID_BYTES:
        raise ValueError("an id has 1 to 8191 bytes")
    return user_id
