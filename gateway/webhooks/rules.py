"""What is signed, when it is tried again, and where it may go. Decided without I/O."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from hmac import digest as hmac
from typing import Final
from urllib.parse import urlsplit

PREFIX: Final = "whsec_"
GONE: Final = 410  # by Standard Webhooks: the receiver wants nothing any more

# --- signing ----------------------------------------------------------------------------------------------------------


def shown_secret(secret: bytes) -> str:
    """The secret as receivers configure it."""
    return PREFIX + base64.b64encode(secret).decode()


def signed_headers(
    secrets: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes
) -> dict[str, str]:
    """The three headers of Standard Webhooks: a signature for each secret that is good, the newest first."""
    content = f"{message_id}.{timestamp_s}.".encode() + body
    signatures = ["v1," + base64.b64encode(hmac(secret, content, sha256)).decode() for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(signatures),
    }


# --- retries ----------------------------------------------------------------------------------------------------------


class Outcome(Enum):
    """What becomes of a delivery after an attempt."""

    DELIVERED = 1
    AGAIN = 2
    FAILED = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, when the next attempt is due, and whether the webhook is to be disabled (and why)."""

    outcome: Outcome
    pause_s: float = 0.0
    disable: str | None = None


def judge(
    status: int | None,
    attempt: int,
    delays_s: Sequence[float],
    failing_s: float,
    disable_after_s: float,
    jitter: float,
) -> Verdict:
    """After the `attempt`-th attempt (from 1), answered with `status` (None: not at all).

    `failing_s`: since when nothing has got through to this webhook. `jitter` from 0 to 1 keeps retries apart.
    """
    if status is not None and 200 <= status < 300:
        return Verdict(Outcome.DELIVERED)
    disable = "gone" if status == GONE else "failing" if failing_s >= disable_after_s else None
    if disable is not None or attempt > len(delays_s):
        return Verdict(Outcome.FAILED, disable=disable)
    return Verdict(Outcome.AGAIN, pause_s=delays_s[attempt - 1] * (0.9 + 0.2 * jitter))


# --- where to ---------------------------------------------------------------------------------------------------------

_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All that is given out of IPv6. Beside it stand loopback, old site-local ones, and IPv4 in other clothes."""
_6TO4: Final = ipaddress.IPv6Network("2002::/16")  # an IPv4 address stands inside that a router might reach
_NAME: Final = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
"""A name with a dot whose last part begins with a letter: no other way to write an address. No other letters either:
a library further on might take them for digits."""
_INSIDE: Final = (".local", ".internal", ".localhost")


def public_address(address: str) -> bool:
    """Whether an address is one of the internet: not private, link-local, loopback, shared, reserved or multicast."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip.scope_id is not None or ip not in _UNICAST or ip in _6TO4:
            return False
    return ip.is_global and not ip.is_multicast


def refused_url(url: str, *, plain: bool, private: bool) -> str | None:
    """Why nothing is sent to this URL, None if it may be. `plain` allows http, `private` every address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "this is not a URL"
    if parts.scheme != "https" and not (plain and parts.scheme == "http"):
        return "only https"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "without user, password and fragment"
    host = parts.hostname or ""
    if not host or port == 0:
        return "this is not a URL"
    if private:
        return None
    try:
        ipaddress.ip_address(host)
    except ValueError:
        on_the_internet = _NAME.fullmatch(host) is not None and not host.endswith(_INSIDE)
        return None if on_the_internet else "this host is not on the internet"
    return None if public_address(host) else "this address is not on the internet"
