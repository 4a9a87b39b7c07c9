"""What the gateway promises about sessions, decided without I/O: delays after failures, refresh and its theft."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from hashlib import sha256
from typing import Final

# --- failed logins ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Throttle:
    """How failures turn into delays: `free` of them cost nothing, then `delay_s` doubles up to `delay_max_s`."""

    free: int
    delay_s: float
    delay_max_s: float
    forget_s: float


@dataclass(frozen=True, slots=True)
class Failures:
    """Failures under one key so far; times in ms since the epoch."""

    count: int
    last_ms: int
    blocked_until_ms: int


NO_FAILURES: Final = Failures(0, 0, 0)


def remaining_ms(failures: Failures, now_ms: int) -> int:
    """How long the next attempt has to wait; 0: not at all."""
    return max(0, failures.blocked_until_ms - now_ms)


def after_failure(failures: Failures, throttle: Throttle, now_ms: int) -> Failures:
    """Count one more failure. Old ones are forgotten first, so nobody stays locked out who stops trying."""
    idle_ms = now_ms - max(failures.last_ms, failures.blocked_until_ms)
    count = 1 if idle_ms > throttle.forget_s * 1000 else failures.count + 1
    over = count - throttle.free
    if over <= 0:
        return Failures(count, now_ms, 0)
    delay_s = min(throttle.delay_max_s, throttle.delay_s * 2.0 ** min(over - 1, 30))
    return Failures(count, now_ms, now_ms + int(delay_s * 1000))


def attempt_key(secret: bytes, *parts: str) -> bytes:
    """The row that failures are counted under. Keyed: the table tells nobody who tried to log in as whom."""
    return hmac.digest(secret, "\0".join(parts).encode(), sha256)


# --- how many ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """A live session of somebody who begins another one."""

    session_id: int
    acr: int  # 0: it has not been used for so long that nobody can go on with it
    used_ms: int


def crowded_out(held: Iterable[Held], most: int, acr: int) -> list[int] | None:
    """Which sessions end so that one of strength `acr` more makes `most`; None: it may not begin.

    The weakest go first, of those the longest unused, and none that is stronger than the newcomer: who knows no more
    than a password cannot throw the owner's devices out.
    """
    order = sorted(held, key=lambda one: (one.acr, one.used_ms, one.session_id))
    going = order[: max(0, len(order) + 1 - most)]
    return None if any(one.acr > acr for one in going) else [one.session_id for one in going]


# --- ends -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a session lasts without being used, and at all."""

    idle_s: float
    absolute_s: float

    def idle_end(self, now: datetime, absolute_end: datetime) -> datetime:
        """Until when a refresh token made now is good."""
        return min(absolute_end, now + timedelta(seconds=self.idle_s))


# --- refresh ----------------------------------------------------------------------------------------------------------


def token_digest(token: str) -> bytes:
    """What is stored of a refresh token. It has 256 random bits, so a plain hash cannot be searched."""
    return sha256(token.encode()).digest()


def successor(secret: bytes, token: str) -> str:
    """The refresh token after `token`: the same every time for us, unpredictable for whoever lacks the secret.

    So a repeated refresh can be given the same answer though only digests are stored.
    """
    return urlsafe_b64encode(hmac.digest(secret, token.encode(), sha256)).rstrip(b"=").decode()


class Verdict(Enum):
    """What to do with a refresh token that was presented."""

    ROTATE = "rotate"  # give the successor
    REPEAT = "repeat"  # the answer was lost on its way: give the same successor again
    REFUSE = "refuse"  # unknown, or its time is over
    THEFT = "theft"  # two parties have it: end the session for both


@dataclass(frozen=True, slots=True)
class Presented:
    """A refresh token as the database knows it; times in ms since the epoch, None: has not happened."""

    device: str
    expires_ms: int
    rotated_ms: int | None
    successor_used: bool
    session_expires_ms: int
    session_ended: bool


def judge(
    token: Presented | None, device: str, now_ms: int, grace_s: float, *, same_key: bool = True
) -> Verdict:
    """Decide. Without the proof of the session's key (`same_key`) a token is worth nothing, and ends nothing.

    A rotated token may be repeated for `grace_s`, on its device, until its successor has been used.

    Once the successor has been used its owner has received it, so the old token can only come from somebody else
    (RFC 9700, 4.14.2).
    """
    if token is None or token.session_ended or now_ms >= min(token.expires_ms, token.session_expires_ms):
        return Verdict.REFUSE
    if not same_key:
        return Verdict.REFUSE
    if token.device != device:
        return Verdict.THEFT
    if token.rotated_ms is None:
        return Verdict.ROTATE
    if not token.successor_used and now_ms - token.rotated_ms < grace_s * 1000:
        return Verdict.REPEAT
    return Verdict.THEFT
