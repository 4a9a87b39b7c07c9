"""What a one-time code is worth, decided without I/O (security.md S09; NIST SP 800-63B 5.1.3)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final

DIGITS: Final = 6
_DAY_MS: Final = 86_400_000


def slot(secret: bytes, purpose: str, phone: str, about: str) -> bytes:
    """Where the code for this purpose, phone and object is kept. Another object has another slot, so a code that was
    asked for one payment is nothing for another. Keyed: the table tells nobody whose codes there are."""
    return hmac.digest(secret, f"slot\0{purpose}\0{phone}\0{about}".encode(), sha256)


def digest(secret: bytes, where: bytes, code: str) -> bytes:
    """What is stored of a code. Keyed: a million candidates are nothing for whoever only has the table."""
    return hmac.digest(secret, b"code\0" + where + code.encode(), sha256)


def count_key(secret: bytes, kind: str, who: str) -> bytes:
    """The row that messages to a phone, or asked for by a source, are counted under."""
    return hmac.digest(secret, f"count\0{kind}\0{who}".encode(), sha256)


@dataclass(frozen=True, slots=True)
class Stored:
    """A code as the database knows it."""

    code_digest: bytes
    tries: int
    expires_ms: int


class Verdict(Enum):
    """What follows from a code that somebody typed."""

    RIGHT = "right"  # use it up
    WRONG = "wrong"  # count the try
    GONE = "gone"  # there is none, or it is too late, or it was tried too often: nothing to count


def judge(stored: Stored | None, typed: bytes, now_ms: int, tries: int) -> Verdict:
    """Decide. After `tries` wrong ones even the right code is refused."""
    if stored is None or now_ms >= stored.expires_ms or stored.tries >= tries:
        return Verdict.GONE
    return Verdict.RIGHT if hmac.compare_digest(stored.code_digest, typed) else Verdict.WRONG


# --- how many ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """Messages under one key so far; times in ms since the epoch."""

    count: int
    window_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `per_day` in a day, never two within `gap_ms`."""

    gap_ms: int
    per_day: int


def wait_ms(sent: Sent | None, limit: Limit, now_ms: int) -> int:
    """How long the next message has to wait; 0: not at all."""
    if sent is None:
        return 0
    wait = max(0, sent.last_ms + limit.gap_ms - now_ms)
    if sent.count >= limit.per_day:
        wait = max(wait, sent.window_ms + _DAY_MS - now_ms)
    return wait


def after_sending(sent: Sent | None, now_ms: int) -> Sent:
    """Count one more."""
    if sent is None or now_ms - sent.window_ms >= _DAY_MS:
        return Sent(1, now_ms, now_ms)
    return Sent(sent.count + 1, sent.window_ms, now_ms)
