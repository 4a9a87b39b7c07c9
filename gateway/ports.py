"""What the gateway asks of systems that are not ours: the SMS platform, the core banking system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from core.errors import Internal, Unavailable


class SmsFailed(Unavailable):
    """The SMS platform did not take the message; it may later."""


class SmsRefused(Internal):
    """The SMS platform will never take this message."""


class SmsSender(Protocol):
    """A way to a phone. Adapters stand in `gateway.sms`."""

    async def send(self, phone: str, template: str, params: Mapping[str, str]) -> None:
        """Hand one message over: the template of `gateway.sms.templates` with its parameters.

        Returns when the platform has taken it, which does not mean that the phone has it. Raises `SmsFailed`,
        `SmsRefused`.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class CoreAnswer:
    """What the core banking system says about an enterprise's account; the reason is for its people, in Chinese."""

    passed: bool
    reason: str | None = None


class CoreCheck(Protocol):
    """The core banking system, asked before a contract is signed. `gateway.contracts.core_check` until there is one."""

    async def check(
        self, *, enterprise: str, credit_code: str, account_no: str, legal_person: str
    ) -> CoreAnswer:
        """Whether the account is open and belongs to this enterprise and legal person. Raises `Unavailable`."""
        ...
