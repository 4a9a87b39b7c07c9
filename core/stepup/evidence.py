"""Evidence of a step-up: sealed as it is written, verified as often as anybody asks, without the running system.

A device's signature speaks for itself: with the exported message and public key any other program verifies it. A code
leaves no signature; there the seal (SM4-GCM under a key that is never retired, over all columns) says that this
installation wrote the row and that nobody has changed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from core.codec import canonical
from core.crypto import sm4
from core.crypto.keyring import Keyring
from core.crypto.ring import AUDIT
from core.crypto.sm3 import derive, sm3
from core.device_key import Algorithm, DeviceKey
from core.errors import BankhubError
from core.rng import Rng

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Who confirmed what, by which key or code, and when."""

    challenge_id: int
    enterprise_id: int
    person_id: int
    action: str
    algorithm: str
    point: bytes | None
    signature: bytes | None
    message: bytes
    proven_at: datetime

    @property
    def digest(self) -> bytes:
        return sm3(self.message)

    def place(self) -> bytes:
        """Everything but the message: what its seal is bound to."""
        return canonical(
            [
                self.challenge_id,
                self.enterprise_id,
                self.person_id,
                self.action,
                self.algorithm,
                self.point,
                self.signature,
                (self.proven_at - _EPOCH) // timedelta(microseconds=1),
            ]
        )

    def shown(self) -> str:
        """What another program needs to verify it, one line each; the signature is r || s, keys are points in hex."""
        lines = {
            "challenge": self.challenge_id,
            "person": self.person_id,
            "enterprise": self.enterprise_id,
            "action": self.action,
            "proven": self.proven_at.isoformat(),
            "algorithm": self.algorithm,
            "key": "" if self.point is None else self.point.hex(),
            "signature": "" if self.signature is None else self.signature.hex(),
            "digest": self.digest.hex(),
            "message": self.message.decode(),
        }
        return "\n".join(f"{name:<11}{value}" for name, value in lines.items())

    def holds(self) -> bool:
        """Whether the signature is of this message by this key; codes have none, their seal was opened already."""
        if self.algorithm not in ("ES256", "SM2"):
            return self.signature is None and self.point is None
        if self.point is None or self.signature is None:
            return False
        algorithm: Algorithm = "ES256" if self.algorithm == "ES256" else "SM2"
        try:
            return DeviceKey.from_point(algorithm, self.point).verify(self.message, self.signature)
        except BankhubError:
            return False


def seal(keys: Keyring, rng: Rng, message: bytes, place: bytes) -> tuple[int, bytes]:
    """(version of the key, the message encrypted for this place alone): it may hold somebody's phone number."""
    key, nonce = keys.current(AUDIT), rng.randbytes(sm4.NONCE_BYTES)
    return key.version, nonce + sm4.seal(_secret(key.material), nonce, message, place)


def unseal(keys: Keyring, version: int, sealed: bytes, place: bytes) -> bytes:
    """The message. Raises `NotAuthentic` where it, or one byte of its place, is not what was sealed."""
    nonce, rest = sealed[: sm4.NONCE_BYTES], sealed[sm4.NONCE_BYTES :]
    if len(nonce) < sm4.NONCE_BYTES:
        raise sm4.NotAuthentic
    return sm4.open_sealed(_secret(keys.get(AUDIT, version).material), nonce, rest, place)


def _secret(material: bytes) -> bytes:
    return derive(material, "step-up messages")[: sm4.KEY_BYTES]
