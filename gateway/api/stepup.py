"""Step-up: confirming one call before it is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from core.actions import Command, Id, Value
from gateway.api.codes import Code, CodeSent

_DEPTH = 16


def _shallow(fields: dict[str, Any]) -> dict[str, Any]:
    waiting: list[tuple[Any, int]] = [(fields, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEPTH:
            raise ValueError("too deep")
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting += [(one, depth + 1) for one in inner]
    return fields


Way = Literal["sign", "totp", "sms"]


class StepUpChallenge(Value):
    """What is to be confirmed: show the `lines`, then prove by one of the `ways`, then call with the id.

    `message` is what a device signs, byte for byte (UTF-8): canonical JSON with the command, the lines and for whom and
    until when they are. `digest` is its SM3, hex; a code by short message is bound to it.
    """

    challenge_id: Id
    ways: list[Way]
    lines: list[str]
    message: str
    digest: str
    expires_ms: int


class StepUpProven(Value):
    """Good for one call, of exactly what was confirmed, in this session: header `Step-Up`, or `step_up` of a CALL."""

    challenge_id: Id
    expires_ms: int


# --- commands -------------------------------------------------------------------------------------------------------


class BeginStepUp(Command[StepUpChallenge], action="gateway.stepup.begin"):
    """Ask what has to be confirmed for a call: its action and exactly the fields it will have."""

    action: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    fields: Annotated[dict[str, Any], AfterValidator(_shallow)] = Field(default_factory=dict)


class SendStepUpCode(Command[CodeSent], action="gateway.stepup.send_code"):
    """Ask for a code to one's own phone; the text names what it confirms, and it confirms nothing else."""

    challenge_id: Id


class ProveStepUp(Command[StepUpProven], action="gateway.stepup.prove"):
    """Prove a challenge: with the signature of the message by the session's trusted key (r || s, base64url), or with
    a code."""

    challenge_id: Id
    way: Way
    signature: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{86}$")] | None = None
    code: Code | None = None
