"""By what somebody may confirm, decided without I/O."""

from __future__ import annotations

from dataclasses import dataclass

from core.actions import StepUp
from gateway.api.stepup import Way


@dataclass(frozen=True, slots=True)
class Means:
    """What a person has at hand."""

    trusted_here: bool  # the session's key is one of the person's trusted devices
    new_here: bool  # and has been one for less than device_new_s
    devices: int  # other trusted ones
    totp: bool
    phone: bool  # a code to it shows more than the session began with


def ways(proof: StepUp, means: Means) -> list[Way]:
    """Decide; none: it cannot be confirmed from here.

    A signature shows what was seen, a code only that somebody has the phone: where a person has a trusted device and
    the action asks for a signature, a code will not do, or a stolen SIM would be enough. Whoever has lost the device
    revokes it first, by a code.

    What a new device may not do in its first day is this: its signature confirms nothing. What asks for one ("sign")
    needs the authenticator, or is done on a device that the person has had longer; who has neither confirms by a code.
    """
    factors: list[Way] = []
    if means.totp:
        factors.append("totp")
    if means.phone:
        factors.append("sms")
    if means.trusted_here and not means.new_here:
        return ["sign"] if proof == "sign" else ["sign", *factors]
    if proof == "sign" and means.devices:
        return [way for way in factors if way == "totp" and means.new_here]
    return factors
