"""A device with a key, as browsers (P-256) and native shells (SM2) have one."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from itertools import count
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.crypto import sm2
from core.device_key import DeviceKey, b64url

_names = count()


class Device:
    """Signs proofs (RFC 9449), wrong ones too."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self.algorithm = algorithm
        if algorithm == "SM2":
            pair = sm2.generate()
            point = pair.point
            self.sign: Callable[[bytes], bytes] = lambda message: sm2.sign(pair, message)
        else:
            private = ec.generate_private_key(ec.SECP256R1())
            point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

            def sign(message: bytes) -> bytes:
                r, s = decode_dss_signature(private.sign(message, ec.ECDSA(SHA256())))
                return r.to_bytes(32) + s.to_bytes(32)

            self.sign = sign
        self.key = DeviceKey.from_point(algorithm, point)  # type: ignore[arg-type]

    def proof(
        self,
        url: str,
        now_s: float,
        *,
        method: str = "POST",
        token: str | None = None,
        header: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A proof for this request; `header` and `claims` replace what would be there, None removes."""
        head = {"typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.key.jwk} | (header or {})
        body = {"jti": f"proof number {next(_names)}", "htm": method, "htu": url, "iat": now_s}
        if token is not None:
            body["ath"] = b64url(sha256(token.encode()).digest())
        body |= claims
        body = {name: value for name, value in body.items() if value is not None}
        signed = f"{b64url(orjson.dumps(head))}.{b64url(orjson.dumps(body))}"
        return f"{signed}.{b64url(self.sign(signed.encode()))}"
