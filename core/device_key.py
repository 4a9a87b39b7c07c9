"""Public keys of devices: P-256 of browsers (WebCrypto, never exportable) and SM2 of native shells, as JWK.

SM2 has no registered name among JOSE's algorithms. Between our own clients and us it is `kty` EC, `crv` SM2, `alg`
SM2: SM3 as the digest, the default user id, r || s (docs/decisions/0011-keys-of-devices.md).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from core.crypto import sm2
from core.crypto.encodings import Malformed, check_point
from core.errors import Invalid

Algorithm = Literal["ES256", "SM2"]
_CURVES: Final[Mapping[str, Algorithm]] = {"P-256": "ES256", "SM2": "SM2"}
_COORDINATE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A public key on one of the two curves: the algorithm it signs by, and its uncompressed point (65 bytes)."""

    algorithm: Algorithm
    point: bytes

    @classmethod
    def from_jwk(cls, jwk: object) -> DeviceKey:
        """The key of a JWK. Raises `Invalid` for another type or curve, a point that is none, or a private key."""
        if not isinstance(jwk, dict) or "d" in jwk or jwk.get("kty") != "EC" or jwk.get("crv") not in _CURVES:
            raise Invalid("a device's key is a public EC key on P-256 or SM2")
        algorithm = _CURVES[jwk["crv"]]
        if jwk.get("alg", algorithm) != algorithm:
            raise Invalid("the key's algorithm does not fit its curve")
        point = b"\x04" + _coordinate(jwk.get("x")) + _coordinate(jwk.get("y"))
        return cls.from_point(algorithm, point)

    @classmethod
    def from_point(cls, algorithm: Algorithm, point: bytes) -> DeviceKey:
        """The key of an uncompressed point. Raises `Invalid` where it is not on the curve."""
        try:
            if algorithm == "SM2":
                check_point(point)
            else:
                ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        except (Malformed, ValueError) as error:
            raise Invalid("the key is not a point of its curve") from error
        return cls(algorithm, point)

    @property
    def jwk(self) -> dict[str, str]:
        """With the members that matter, in the order of RFC 7638."""
        curve = "P-256" if self.algorithm == "ES256" else "SM2"
        return {"crv": curve, "kty": "EC", "x": b64url(self.point[1:33]), "y": b64url(self.point[33:])}

    @property
    def thumbprint(self) -> str:
        """SHA-256 of the JWK in its canonical form (RFC 7638): what `cnf.jkt` of a token names."""
        return b64url(sha256(orjson.dumps(self.jwk)).digest())

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether r || s is this device's signature of exactly this message."""
        if len(signature) != 2 * _COORDINATE_BYTES:
            return False
        if self.algorithm == "SM2":
            return sm2.verify(self.point, message, signature)
        r, s = (int.from_bytes(half) for half in (signature[:32], signature[32:]))
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.point)
        try:
            key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def b64url(raw: bytes) -> str:
    """Base64 for URLs, without padding, as JOSE writes it."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    """The bytes of canonical unpadded base64 for URLs. Raises `ValueError` for anything else."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64 for URLs") from error
    if b64url(raw) != text:
        raise ValueError("not canonical")  # the same bytes in other letters are another text
    return raw


def _coordinate(given: Any) -> bytes:
    try:
        raw = unb64url(given) if isinstance(given, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != _COORDINATE_BYTES:
        raise Invalid("a coordinate has 32 bytes")
    return raw
