"""The way of a contract, decided without I/O.

    APPLIED -> CORE_CHECK -> SIGNING -> BANK_REVIEW -> ACTIVE <-> SUSPENDED -> ENDED

The core banking system may refuse (back to APPLIED, with its reason), the bank may return (back to SIGNING) or reject
(ENDED). An ended contract can be applied for anew. No step is skipped or repeated.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a contract is."""

    APPLIED = "applied"
    CORE_CHECK = "core_check"
    SIGNING = "signing"
    BANK_REVIEW = "bank_review"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ENDED = "ended"


class Step(StrEnum):
    """What happens to it."""

    APPLY = "apply"
    CHECK_PASSED = "check_passed"
    CHECK_FAILED = "check_failed"
    SIGN = "sign"
    PASS = "pass"  # noqa: S105 - a decision
    RETURN = "return"
    REJECT = "reject"
    SUSPEND = "suspend"
    RESUME = "resume"
    END = "end"


_WAY: Final[dict[tuple[State | None, Step], State]] = {
    (None, Step.APPLY): State.CORE_CHECK,
    (State.APPLIED, Step.APPLY): State.CORE_CHECK,
    (State.CORE_CHECK, Step.APPLY): State.CORE_CHECK,  # whoever asked the core died meanwhile: ask again
    (State.ENDED, Step.APPLY): State.CORE_CHECK,
    (State.CORE_CHECK, Step.CHECK_PASSED): State.SIGNING,
    (State.CORE_CHECK, Step.CHECK_FAILED): State.APPLIED,
    (State.SIGNING, Step.SIGN): State.BANK_REVIEW,
    (State.BANK_REVIEW, Step.PASS): State.ACTIVE,
    (State.BANK_REVIEW, Step.RETURN): State.SIGNING,
    (State.BANK_REVIEW, Step.REJECT): State.ENDED,
    (State.ACTIVE, Step.SUSPEND): State.SUSPENDED,
    (State.SUSPENDED, Step.RESUME): State.ACTIVE,
    (State.ACTIVE, Step.END): State.ENDED,
    (State.SUSPENDED, Step.END): State.ENDED,
}

TWO_PERSONS: Final = frozenset({Step.PASS, Step.SUSPEND, Step.RESUME, Step.END})
"""Decisions that open or close banking to an enterprise."""
NEEDS_REASON: Final = frozenset({Step.RETURN, Step.REJECT, Step.SUSPEND, Step.END})


def after(state: State | None, step: Step) -> State | None:
    """Where a contract is after this step; None: the step is not possible here."""
    return _WAY.get((state, step))


def stage(state: State | None) -> str:
    """What the enterprise is: contracted only while the contract is active."""
    return "contracted" if state is State.ACTIVE else "verified"
