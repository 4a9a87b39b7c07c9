"""How enterprises come to be here, and how people ask to join one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from core.actions import BANK, Command, Id, Permission, Value
from core.values import one_line
from gateway.api.identity import Member, Placements, Role
from gateway.identity.rules import is_credit_code

ENTERPRISES_READ = Permission("enterprises:read", "查看企业", BANK, realm="bank", risk=1)
ENTERPRISES_VERIFY = Permission(
    "enterprises:verify", "核实企业", {"bank_operator", "bank_reviewer"}, realm="bank", risk=3
)


def _checked(code: str) -> str:
    if not is_credit_code(code):
        raise ValueError(
            "not a unified social credit code (GB 32100): 18 characters with a right check digit"
        )
    return code


CreditCode = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_upper=True, max_length=18),
    AfterValidator(_checked),
    Field(description="unified social credit code: 18 characters, the last one checks the others (GB 32100)"),
]
EnterpriseName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=2, max_length=128), AfterValidator(one_line)
]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=2, max_length=200)]


class Application(Value):
    """Somebody wants an enterprise to be here. `proposed`: what one of the bank's staff has decided so far."""

    application_id: Id
    name: str
    credit_code: str
    state: Literal["applied", "verified", "returned", "rejected"]
    reason: str | None
    enterprise_id: Id | None  # what it became
    proposed: str | None
    created_ms: int


class FoundEnterprise(Value):
    """An enterprise one may ask to join."""

    enterprise_id: Id
    name: str


class EnterpriseInfo(Value):
    """An enterprise as the bank's staff see it."""

    enterprise_id: Id
    name: str
    credit_code: str  # masked
    stage: Literal["applied", "verified", "contracted"]
    members: int
    created_ms: int


class JoinRequest(Value):
    """Somebody wants to join."""

    request_id: Id
    name: str  # of the person
    phone: str | None  # masked
    message: str | None
    state: Literal["open", "accepted", "refused"]
    created_ms: int


# --- commands -------------------------------------------------------------------------------------------------------


class ApplyForEnterprise(Command[Application], action="gateway.enterprises.apply"):
    """Ask the bank to take an enterprise in. Who asked is its administrator once it is verified."""

    name: EnterpriseName
    credit_code: CreditCode


class ListMyApplications(Command[list[Application]], action="gateway.enterprises.my_applications"):
    """What became of one's own applications."""


class ListApplications(Command[list[Application]], action="gateway.enterprises.applications"):
    """For the bank's staff: applications in a state, oldest first."""

    state: Literal["applied", "verified", "returned", "rejected"] = "applied"
    after: Id = 0
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class DecideApplication(Command[Application], action="gateway.enterprises.decide"):
    """For the bank's staff: verify (two persons), return or reject."""

    application_id: Id
    decision: Literal["verify", "return", "reject"]
    reason: Reason | None = None


class ListEnterprises(Command[list[EnterpriseInfo]], action="gateway.enterprises.list"):
    """For the bank's staff: enterprises by id."""

    after: Id = 0
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class FindEnterprise(Command[FoundEnterprise], action="gateway.enterprises.find"):
    """The enterprise of exactly this code."""

    credit_code: CreditCode


class AskToJoin(Command[JoinRequest], action="gateway.enterprises.ask_to_join"):
    """Ask the administrators of an enterprise to be taken in."""

    credit_code: CreditCode
    message: Annotated[str, StringConstraints(max_length=200)] | None = None


class ListJoinRequests(Command[list[JoinRequest]], action="gateway.enterprises.join_requests"):
    """Who wants to join one's own enterprise; the newest hundred that are open."""


class DecideJoinRequest(Command[Member | None], action="gateway.enterprises.decide_join"):
    """Take somebody in who asked, or do not."""

    request_id: Id
    accept: bool
    roles: Annotated[list[Role], Field(min_length=1, max_length=10)] = Field(
        default_factory=lambda: ["employee"]
    )
    departments: Placements = Field(default_factory=list)
