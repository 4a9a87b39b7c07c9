"""Addresses that say themselves what they allow: one file, one variant, for one person, for some minutes.

    <base64url of msgpack [version, file, variant, enterprise, person, expires_s, inline]>.<base64url of HMAC-SHA256>

Whoever has one may read, as with an address signed by the store: so it is short-lived, made for one person and never
logged, and names nothing but ids.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from typing import Final, Literal, cast

from core.codec import pack, unpack
from core.errors import BankhubError, NotFound

Variant = Literal["original", "thumbnail", "preview"]
VARIANTS: Final = ("original", "thumbnail", "preview")
_VERSION: Final = 1
_TOKEN_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Pass:
    """What an address allows."""

    file_id: int
    variant: Variant
    enterprise_id: int
    person_id: int
    expires_s: int
    inline: bool


def sign(secret: bytes, allowed: Pass) -> str:
    """The token of an address."""
    body = pack(
        [
            _VERSION, allowed.file_id, allowed.variant, allowed.enterprise_id, allowed.person_id, allowed.expires_s,
            allowed.inline,
        ]
    )  # fmt: skip
    return f"{_text(body)}.{_text(hmac.digest(secret, body, 'sha256'))}"


def check(secret: bytes, token: str, now_s: float) -> Pass:
    """What the token allows. Raises `NotFound` for one that is not ours or is over: the two look alike."""
    gone = NotFound("this address is not valid any more")
    body, _, mac = token.partition(".")
    if len(token) > _TOKEN_MAX:
        raise gone
    try:
        packed, given = _bytes(body), _bytes(mac)
    except ValueError:
        raise gone from None
    if not hmac.compare_digest(given, hmac.digest(secret, packed, "sha256")):
        raise gone
    try:
        version, *fields = cast("list[object]", unpack(packed))
        allowed = Pass(*fields)  # type: ignore[arg-type]  # signed by us
    except (BankhubError, TypeError, ValueError):
        raise gone from None
    if version != _VERSION or allowed.expires_s < now_s:
        raise gone
    return allowed


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    if not text.isascii():
        raise ValueError("not base64url")
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(data) != text:  # bits that say nothing: one address, one spelling
        raise ValueError("not base64url")
    return data
