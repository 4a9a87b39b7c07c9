"""What an invitation is worth, decided without I/O."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal

ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # nothing that looks like something else
LENGTH: Final = 12  # 59 bits: nobody finds one by trying

State = Literal["open", "used_up", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation as the database knows it; times in ms since the epoch."""

    uses: int
    uses_max: int
    expires_ms: int
    revoked: bool


def state(invitation: Invitation, now_ms: int) -> State:
    """Only an open one lets anybody in."""
    if invitation.revoked:
        return "revoked"
    if invitation.uses >= invitation.uses_max:
        return "used_up"
    return "expired" if now_ms >= invitation.expires_ms else "open"


def normal(code: str) -> str:
    """A code as somebody typed it: without spaces and dashes, in capitals."""
    return "".join(char for char in code.upper() if char.isascii() and char.isalnum())


def digest(secret: bytes, code: str) -> bytes:
    """What is stored of a code."""
    return hmac.digest(secret, b"invitation\0" + normal(code).encode(), sha256)


def shown(code: str) -> str:
    """In groups of four, to be read out."""
    return "-".join(code[i : i + 4] for i in range(0, len(code), 4))
