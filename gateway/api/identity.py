"""Who people are and where they belong."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from core.actions import STAFF, Command, Event, Id, Permission, Value
from core.values import one_line

Role = Annotated[str, StringConstraints(pattern=r"^([a-z][a-z_]{2,30}|[1-9][0-9]{0,18})$")]
"""A built-in role by its name, or one of the enterprise's own by its decimal id."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(one_line)]
Phone = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^1[3-9][0-9]{9}$")]
LoginName = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[A-Za-z][A-Za-z0-9._-]{2,31}$")]

CONTACTS_READ = Permission("contacts:read", "查看通讯录", STAFF, risk=1, scope=True)
MEMBERS_MANAGE = Permission("members:manage", "管理成员", {"administrator"}, risk=2)


class Person(Value):
    """A person as that person sees it."""

    person_id: Id
    name: str
    login_name: str | None
    phone: str | None  # masked: 138****0001
    registered: bool  # False: a guest, nothing but a phone


class Enterprise(Value):
    """An enterprise one belongs to, and as what."""

    enterprise_id: Id
    name: str
    roles: list[Role]


class Placement(Value):
    """A department somebody is in, and whether as its head."""

    department_id: Id
    is_head: bool = False


class Member(Value):
    """Somebody of one's own enterprise."""

    person_id: Id
    name: str
    title: str | None
    phone: str | None  # masked
    roles: list[Role]
    departments: list[Placement]


Placements = Annotated[list[Placement], Field(max_length=20)]


class Members(Value):
    """A page of members by id; `next` is the `after` of the following page."""

    members: list[Member]
    next: Id | None


class Me(Value):
    """Who the token says one is, as the database knows it now."""

    person: Person
    session_id: Id
    level: Literal["guest", "registered", "member", "contracted"]
    enterprise: Enterprise | None
    enterprises: list[Enterprise]


# --- commands -------------------------------------------------------------------------------------------------------


class WhoAmI(Command[Me], action="gateway.identity.me"):
    """Ask who one is."""


class ListMembers(Command[Members], action="gateway.identity.list_members"):
    """The people of one's own enterprise: all, or of a department and those below it, or with a name like this."""

    department_id: Id | None = None
    name: Name | None = None  # a part of it
    after: Id = 0
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class AddMember(Command[Member], action="gateway.identity.add_member"):
    """Take a person in. One whose phone is not known yet logs in with a code and completes the registration first."""

    phone: Phone
    name: Name
    roles: Annotated[list[Role], Field(min_length=1, max_length=10)]
    title: Name | None = None
    departments: Placements = Field(default_factory=list)


class EndMembership(Command[None], action="gateway.identity.end_membership"):
    """Somebody leaves the enterprise: at once, everywhere."""

    person_id: Id


class ChangeMember(Command[Member], action="gateway.identity.change_member"):
    """Another title, other roles or departments. What is left out stays."""

    person_id: Id
    title: Name | None = None
    roles: Annotated[list[Role], Field(min_length=1, max_length=10)] | None = None
    departments: Placements | None = None


class Leave(Command[None], action="gateway.identity.leave"):
    """Leave the enterprise of the token: at once, everywhere."""


class PersonName(Value):
    """Somebody of one's own enterprise, now or formerly."""

    person_id: Id
    name: str
    member: bool  # still


class Names(Value):
    """Those who are known; the others never were here."""

    people: list[PersonName]


class FindNames(Command[Names], action="gateway.identity.names"):
    """Who these people are: also of those who have left, whose messages stay."""

    person_ids: Annotated[list[Id], Field(max_length=200)]


class FindMembers(Command[list[Member]], action="gateway.identity.find_members"):
    """For services: those of these people who are members of the caller's enterprise now."""

    person_ids: Annotated[list[Id], Field(max_length=512)]


# --- events ---------------------------------------------------------------------------------------------------------


class MemberAdded(Event, event="gateway.member_added", webhook=True):
    """A person belongs to the enterprise from now on."""

    person_id: Id

    def order_key(self) -> str:
        return f"gateway.member.{self.enterprise_id}.{self.person_id}"


class MembershipEnded(Event, event="gateway.membership_ended", webhook=True):
    """A person no longer belongs to the enterprise: every session and conversation there ends (close code 4511)."""

    person_id: Id
    by: Id

    def order_key(self) -> str:
        return f"gateway.member.{self.enterprise_id}.{self.person_id}"
