"""What the bank's staff do about people, and about each other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from core.actions import BANK, Command, Id, Permission, Value
from gateway.api.enterprises import Reason
from gateway.api.identity import Member, Members, Name, Phone, Role

PEOPLE_SUPPORT = Permission(
    "people:support", "用户支持", {"bank_support", "bank_operator"}, realm="bank", risk=2
)
STAFF_READ = Permission("staff:read", "查看运营人员", BANK, realm="bank", risk=1)
STAFF_MANAGE = Permission(
    "staff:manage", "管理运营人员", {"bank_administrator"}, realm="bank", risk=3, assignable=False
)


class PersonCard(Value):
    """A person as the bank's staff see one: masked. `proposed`: what one of them has decided so far."""

    person_id: Id
    name: str  # 张*
    phone: str | None  # 138****0001
    level: Literal["guest", "registered"]
    state: Literal["active", "disabled"]
    enterprises: list[str]
    sessions: int
    proposed: str | None
    created_ms: int


class FindPerson(Command[PersonCard], action="gateway.people.find"):
    """The person of a phone number or a login name, or of an id."""

    login: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    person_id: Id | None = None


class DisablePerson(Command[PersonCard], action="gateway.people.disable"):
    """Nobody logs in as this person any more; every session ends."""

    person_id: Id
    reason: Reason


class EnablePerson(Command[PersonCard], action="gateway.people.enable"):
    """The person may log in again: by two of the staff."""

    person_id: Id
    reason: Reason


class ForgetFactors(Command[PersonCard], action="gateway.people.forget_factors"):
    """A person has lost every second factor: trusted devices, codes by time and recovery codes go, by two of the staff.

    Then the phone is enough to set a new password.
    """

    person_id: Id
    reason: Reason


class EndPersonSessions(Command[None], action="gateway.people.end_sessions"):
    """Every session of a person ends, wherever."""

    person_id: Id
    reason: Reason


class ListStaff(Command[Members], action="gateway.staff.list"):
    """The bank's operations staff."""

    after: Id = 0
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class AddStaff(Command[Member | None], action="gateway.staff.add"):
    """Take somebody into the staff, who belongs to no enterprise: by two of the administrators, who say the same.
    Nothing comes back while the second one has not."""

    phone: Phone
    name: Name
    roles: Annotated[list[Role], Field(min_length=1, max_length=10)]
    title: Name | None = None


class ChangeStaff(Command[Member | None], action="gateway.staff.change"):
    """Other roles: by two of the administrators, in the same way."""

    person_id: Id
    roles: Annotated[list[Role], Field(min_length=1, max_length=10)]


class EndStaff(Command[None], action="gateway.staff.end"):
    """Somebody is of the staff no more."""

    person_id: Id
