"""What a step-up is about, decided without I/O: the canonical form, the message that is signed, who may spend it.

The message is one JSON object in canonical form (RFC 8785, of which only what commands have is allowed: no fractions,
no integers beyond 2^53). It holds the command, the lines that the person reads, and whom, where, and until when they
are for, so a signature of it is a signature of what was seen. Secrets are in it as keyed digests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from core.crypto.sm3 import hmac_sm3, same, sm3
from core.errors import Internal
from core.values import Hidden

if TYPE_CHECKING:
    from core.actions import Action, Command

VERSION: Final = "bankhub.step-up.1"
NONCE_BYTES: Final = 16
_EXACT: Final = 1 << 53  # beyond it JSON's numbers are not what they seem


def canonical(value: object) -> bytes:
    """Equal values, equal bytes. Raises `Internal` for what has no one form in JSON."""
    text = json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _ordered(value: object) -> object:
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise Internal("the names of what is signed are texts")
        return {key: _ordered(value[key]) for key in sorted(value, key=lambda key: key.encode("utf-16-be"))}
    if isinstance(value, list | tuple):
        return [_ordered(one) for one in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int) and -_EXACT < value < _EXACT:
        return value
    raise Internal(f"{type(value).__name__} has no one form in what is signed")


def fields_of(command: Command[Any], secret: bytes, nonce: bytes) -> dict[str, Any]:
    """The command as it is signed: ids as decimal strings, a secret as a digest that is worth nothing elsewhere."""

    def hide(value: str) -> str:
        return "secret:" + hmac_sm3(secret, nonce, value.encode()).hex()

    fields: dict[str, Any] = command.model_dump(mode="json", context=Hidden(hide))
    return fields


def command_digest(action: str, fields: Mapping[str, Any], nonce: bytes) -> bytes:
    """Tells whether a call asks for exactly what was confirmed."""
    return sm3(nonce, canonical([action, fields]))


@dataclass(frozen=True, slots=True)
class Challenge:
    """What somebody is asked to confirm; times in ms since the epoch."""

    challenge_id: int
    enterprise_id: int
    person_id: int
    session_id: int
    action: str
    nonce: bytes
    issued_ms: int
    expires_ms: int

    def message(self, fields: Mapping[str, Any], lines: Sequence[str]) -> bytes:
        """What is signed, byte for byte."""
        return canonical(
            {
                "version": VERSION,
                "challenge": str(self.challenge_id),
                "nonce": self.nonce.hex(),
                "enterprise": str(self.enterprise_id),
                "person": str(self.person_id),
                "session": str(self.session_id),
                "action": self.action,
                "command": fields,
                "lines": list(lines),
                "issued_ms": self.issued_ms,
                "expires_ms": self.expires_ms,
            }
        )


def digest(message: bytes) -> bytes:
    """What a code is bound to, and what a signature's evidence is found by."""
    return sm3(message)


def title_of(message: bytes) -> str:
    """The first line of what the person reads."""
    title: str = json.loads(message)["lines"][0]
    return title


def lines_of(action: Action[Any, Any], command: Command[Any], fields: Mapping[str, Any]) -> list[str]:
    """What the person reads before confirming: as the action describes itself, else its fields one by one."""
    if action.describe is not None:
        return action.describe(command)
    shown = (
        f"{name}：{'（保密）' if isinstance(value, str) and value.startswith('secret:') else value}"
        for name, value in fields.items()
    )
    return [action.name, *shown]


# --- spending ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """A challenge as the database knows it."""

    enterprise_id: int
    person_id: int
    session_id: int
    action: str
    nonce: bytes
    command_digest: bytes
    expires_ms: int
    proven: bool
    spent: bool


def may_spend(
    kept: Kept, *, enterprise_id: int, person_id: int, session_id: int, action: str, asked: bytes, now_ms: int
) -> bool:
    """Whether this challenge lets this call through: proven, in time, not spent, for exactly this and nobody else."""
    return (
        kept.proven
        and not kept.spent
        and now_ms < kept.expires_ms
        and (kept.enterprise_id, kept.person_id, kept.session_id) == (enterprise_id, person_id, session_id)
        and kept.action == action
        and same(kept.command_digest, asked)
    )
