"""One-time passwords by time (RFC 6238) and recovery codes, decided without I/O."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

DIGITS: Final = 6
STEP_S: Final = 30
SECRET_BYTES: Final = 20  # RFC 4226, 4: as long as the hash
WINDOW: Final = 1  # steps before and after: clocks of phones, and somebody who types slowly
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: nothing that looks like something else
_CODE_CHARACTERS: Final = 16  # 80 bits: not to be guessed, so a digest without a slow hash will do


def hotp(secret: bytes, counter: int, digits: int = DIGITS, algorithm: str = "sha1") -> str:
    """The code of a counter (RFC 4226, 5.3). SHA-1 is what authenticators speak; as a MAC it holds."""
    mac = hmac.digest(secret, counter.to_bytes(8), algorithm)
    start = mac[-1] & 0x0F
    number = int.from_bytes(mac[start : start + 4]) & 0x7FFF_FFFF
    return f"{number % 10**digits:0{digits}d}"


def accepted_step(secret: bytes, code: str, now_ms: int, last_step: int) -> int | None:
    """The step that `code` is of, if it is near enough and newer than the last that was accepted."""
    here, found = now_ms // (STEP_S * 1000), None
    for step in range(here - WINDOW, here + WINDOW + 1):
        right = hmac.compare_digest(hotp(secret, max(step, 0)).encode(), code.encode())
        if right and step > last_step and step >= 0:
            found = step
    return found


def shown_secret(secret: bytes) -> str:
    """For typing: base32 without padding."""
    return base64.b32encode(secret).decode().rstrip("=")


def unshown(text: str) -> bytes:
    """The secret of its text."""
    return base64.b32decode(text + "=" * (-len(text) % 8))


def uri(secret: bytes, account: str, issuer: str) -> str:
    """For the QR code that authenticators read."""
    return (
        f"otpauth://totp/{quote(issuer)}:{quote(account)}?secret={shown_secret(secret)}"
        f"&issuer={quote(issuer)}&algorithm=SHA1&digits={DIGITS}&period={STEP_S}"
    )


# --- recovery codes ---------------------------------------------------------------------------------------------------


def recovery_code(pick: Callable[[int, int], int]) -> str:
    """A new one, in groups of four; `pick(0, n)` is the source of randomness."""
    letters = "".join(_ALPHABET[pick(0, len(_ALPHABET) - 1)] for _ in range(_CODE_CHARACTERS))
    return "-".join(letters[i : i + 4] for i in range(0, _CODE_CHARACTERS, 4))


def recovery_digest(secret: bytes, person_id: int, code: str) -> bytes:
    """What is stored of one; case, spaces and hyphens do not matter."""
    plain = (
        code.upper().replace("-", "").replace(" ", "").replace("O", "0").replace("I", "1").replace("L", "1")
    )
    return hmac.digest(secret, f"recovery\0{person_id}\0{plain}".encode(), sha256)


# --- logging in -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """Who has shown one thing and wants in."""

    acr: int  # of what was shown so far
    trusted_key: bool  # on a device of the person's that is trusted: that is a second factor
    totp: bool
    staff: bool  # of the bank
    by_code: bool  # what was shown is a code by short message
    wants_two: bool = False  # who logs in asks to be asked, and has a phone for it


def asks_more(standing: Standing) -> bool:
    """Whether one thing is not enough. A code by short message is one thing too, but of staff who have nothing else
    it begins a session that may do nothing (A06): there is nothing to ask for."""
    if standing.acr >= 2 or standing.trusted_key:
        return False
    return standing.totp or standing.wants_two or (standing.staff and not standing.by_code)


def bound(secret: bytes, *parts: Any) -> bytes:
    """What a ticket is tied to: the device, where it is, its key."""
    return hmac.digest(secret, "\0".join(["ticket", *map(str, parts)]).encode(), sha256)
