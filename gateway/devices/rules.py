"""What the gateway promises about devices, decided without I/O.

A device is trusted once its key was bound with a second factor. Logging in on a trusted one is two factors: something
known and something had. For a day after it was bound it is new: its signature confirms nothing
(`gateway.stepup.rules.ways`), so it neither gives roles nor shows or exports anybody's data, nor revokes other devices
by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from core.access import SECOND_FACTOR


class Standing(Enum):
    """What a key is to somebody who logs in with it."""

    NONE = "none"  # no key was shown
    UNKNOWN = "unknown"  # a key that this person has not bound, or has revoked
    TRUSTED = "trusted"


@dataclass(frozen=True, slots=True)
class Login:
    """What a login comes to: how strong it is, and whether the key becomes a trusted device by it."""

    acr: int
    bind: bool


def judge(standing: Standing, acr: int, bound: int, most: int) -> Login:
    """Decide. `acr` is what was shown besides the key, `bound` how many devices the person has.

    A second factor binds the key at once, as long as there is room; without one a new key is only what the tokens are
    tied to.
    """
    if standing is Standing.TRUSTED:
        return Login(SECOND_FACTOR, bind=False)
    bind = standing is Standing.UNKNOWN and acr >= SECOND_FACTOR and bound < most
    return Login(acr, bind)


def is_new(bound_ms: int, now_ms: int, new_s: float) -> bool:
    """Whether a device has been bound for less than `new_s`."""
    return now_ms - bound_ms < new_s * 1000
