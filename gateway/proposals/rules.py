"""When a decision that needs two persons is carried out, decided without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the first person decided."""

    decision: str
    by: int
    at_ms: int


class Step(Enum):
    """What a decision amounts to."""

    PROPOSE = "propose"  # note it: somebody else has to decide the same
    CARRY_OUT = "carry_out"  # it is the second person
    SAME_PERSON = "same_person"  # refuse


def step(open_: Proposal | None, decision: str, by: int, now_ms: int, life_ms: int) -> Step:
    """Decide. A proposal lives `life_ms`. Another decision takes the place of an open one; nobody is the second
    person to themselves."""
    if open_ is None or open_.decision != decision or now_ms - open_.at_ms >= life_ms:
        return Step.PROPOSE
    return Step.SAME_PERSON if open_.by == by else Step.CARRY_OUT
