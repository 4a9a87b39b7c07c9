"""签约: how an enterprise signs with the bank, and what its people may do from then on."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from core.actions import Command, Id, Permission, Secret, Value
from gateway.api.enterprises import Reason
from gateway.api.identity import Name

CONTRACTS_SIGN = Permission("contracts:sign", "申请签约", {"boss", "administrator"}, risk=3, assignable=False)
CONTRACTS_REVIEW = Permission(
    "contracts:review", "签约审核", {"bank_operator", "bank_reviewer"}, realm="bank", risk=3
)

ContractState = Literal["applied", "core_check", "signing", "bank_review", "active", "suspended", "ended"]


class Contract(Value):
    """Where an enterprise stands. `proposed`: what one of the bank's staff has decided so far."""

    enterprise_id: Id
    name: str
    state: ContractState
    account_tail: str | None
    reason: str | None
    agreement: str | None
    proposed: str | None
    changed_ms: int


def _digits(number: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[0-9]{12,32}", number.get_secret_value()):
        raise ValueError("an account number has 12 to 32 digits")
    return number


class ApplyForContract(Command[Contract], action="gateway.contracts.apply"):
    """Ask for a contract with the settlement account of the enterprise; the core banking system is asked about it."""

    account_no: Annotated[Secret, Field(min_length=12, max_length=32), AfterValidator(_digits)]
    legal_person: Name


class SignContract(Command[Contract], action="gateway.contracts.sign"):
    """Sign the agreement that was read."""

    agreement: Annotated[str, Field(min_length=1, max_length=32)]


class ShowContract(Command[Contract | None], action="gateway.contracts.mine"):
    """Where one's own enterprise stands."""


class ListContracts(Command[list[Contract]], action="gateway.contracts.list"):
    """For the bank's staff: contracts in a state, those that wait longest first."""

    state: ContractState = "bank_review"


class DecideContract(Command[Contract], action="gateway.contracts.decide"):
    """For the bank's staff: pass, suspend and end (two persons), return, reject, resume."""

    enterprise_id: Id
    decision: Literal["pass", "return", "reject", "suspend", "resume", "end"]
    reason: Reason | None = None
