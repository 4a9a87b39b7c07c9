"""How a request to the SMS platform is signed: HMAC-SHA256 over its time, nonce and body, so that it cannot be replayed
or changed. The receiving side is here too: it is what the platform does, and what tests check."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final

KEY_ID: Final = "X-Sms-Key"
TIME: Final = "X-Sms-Time"
NONCE: Final = "X-Sms-Nonce"
SIGNATURE: Final = "X-Sms-Signature"


def signature(secret: bytes, time_ms: int, nonce: str, body: bytes) -> str:
    """Hexadecimal, over ``time \\n nonce \\n`` and the bytes of the body."""
    return hmac.digest(secret, f"{time_ms}\n{nonce}\n".encode() + body, sha256).hex()


def is_signed(secret: bytes, time_ms: int, nonce: str, body: bytes, given: str) -> bool:
    """Whether `given` is the signature of exactly this."""
    return hmac.compare_digest(signature(secret, time_ms, nonce, body).encode(), given.encode())
