"""What the gateway promises about identities, decided without I/O: codes, logins, lock-outs, refresh, leaving."""

from __future__ import annotations

import hmac
import ipaddress
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final

# --- 统一社会信用代码 -------------------------------------------------------------------------------------------------

_CODE_DIGITS: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CODE: Final = re.compile(rf"[{_CODE_DIGITS}]{{17}}")


def credit_code_check_digit(first: str) -> str:
    """The 18th character of a unified social credit code from the first 17 (GB 32100-2015: base 31, weights 3^i).

    Raises `ValueError` where there are not 17 characters of its alphabet (no I, O, S, V, Z).
    """
    if not _CODE.fullmatch(first):
        raise ValueError("17 characters of the code's alphabet")
    total = sum(_CODE_DIGITS.index(c) * pow(3, i, 31) for i, c in enumerate(first))
    return _CODE_DIGITS[-total % 31]


def is_credit_code(code: str) -> bool:
    """Whether `code` is a well-formed unified social credit code with the right check digit."""
    return len(code) == 18 and bool(_CODE.fullmatch(code[:17])) and credit_code_check_digit(code[:17]) == code[17]


# --- logins -----------------------------------------------------------------------------------------------------------


def normal_login(typed: str) -> str:
    """What somebody typed to log in, as it is stored: a phone number without decoration, or a name in lower case."""
    compact = re.sub(r"[\s()-]", "", typed)
    phone = re.fullmatch(r"(?:\+?86)?(1[3-9][0-9]{9})", compact)
    return phone[1] if phone else typed.strip().lower()


def masked_phone(phone: str | None) -> str | None:
    """The first three and last four digits: enough to recognise one's own."""
    return None if phone is None else f"{phone[:3]}****{phone[-4:]}"


def source_of(address: str) -> str:
    """Who an address counts as: one host of IPv4, a /64 of IPv6, which one subscriber has for itself."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


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


def judge(token: Presented | None, device: str, now_ms: int, grace_s: float) -> Verdict:
    """Decide. A rotated token may be repeated for `grace_s`, on its device, until its successor has been used.

    Once the successor has been used its owner has received it, so the old token can only come from somebody else
    (RFC 9700, 4.14.2).
    """
    if token is None or token.session_ended or now_ms >= min(token.expires_ms, token.session_expires_ms):
        return Verdict.REFUSE
    if token.device != device:
        return Verdict.THEFT
    if token.rotated_ms is None:
        return Verdict.ROTATE
    if not token.successor_used and now_ms - token.rotated_ms <= grace_s * 1000:
        return Verdict.REPEAT
    return Verdict.THEFT


# --- memberships ------------------------------------------------------------------------------------------------------


def choose_enterprise(active: list[int], wanted: int | None, last: int | None) -> int | None:
    """The enterprise a session begins in: the wanted one or none; else the last used, else the first."""
    if wanted is not None:
        return wanted if wanted in active else None
    if last is not None and last in active:
        return last
    return min(active, default=None)


def may_leave(person_id: int, administrators: list[int]) -> bool:
    """An enterprise keeps at least one administrator: the last one cannot leave or be removed."""
    return administrators != [person_id]
