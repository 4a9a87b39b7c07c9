"""The gateway's contract: who people are, where they belong, and the sessions they have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from core.actions import Command, Event, Id, Secret, Value

Role = Literal["employee", "finance_maker", "finance_reviewer", "boss", "administrator"]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
Phone = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^1[3-9][0-9]{9}$")]
LoginName = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[A-Za-z][A-Za-z0-9._-]{2,31}$")]
Device = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
Platform = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z ._/-]{0,32}$")]


class Person(Value):
    """A person as that person sees it."""

    person_id: Id
    name: str
    login_name: str | None
    phone: str | None  # masked: 138****0001


class Enterprise(Value):
    """An enterprise one belongs to, and as what."""

    enterprise_id: Id
    name: str
    roles: list[Role]


class Member(Value):
    """Somebody of one's own enterprise."""

    person_id: Id
    name: str
    title: str | None
    phone: str | None  # masked
    roles: list[Role]


class Members(Value):
    """A page of members by id; `next` is the `after` of the following page."""

    members: list[Member]
    next: Id | None


class Session(Value):
    """One login on one device; ends at `expires_ms` at the latest. Times in ms since the epoch."""

    session_id: Id
    enterprise_id: Id
    device: str
    platform: str
    created_ms: int
    used_ms: int
    expires_ms: int
    current: bool


class AccessToken(Value):
    """A token for `Authorization: Bearer` and HELLO, good for one enterprise until `access_expires_ms`."""

    access_token: str
    access_expires_ms: int


class LoggedIn(AccessToken):
    """A session begun or carried on. The refresh token works once; keep the newest, on this device only."""

    refresh_token: str
    session_id: Id
    session_expires_ms: int
    person: Person
    enterprise: Enterprise
    enterprises: list[Enterprise]  # all one belongs to; switch_enterprise takes any


class Me(Value):
    """Who the token says one is, as the database knows it now."""

    person: Person
    session_id: Id
    enterprise: Enterprise
    enterprises: list[Enterprise]


# --- commands -------------------------------------------------------------------------------------------------------


class Login(Command[LoggedIn], action="gateway.identity.login"):
    """`login` is a phone number or a login name."""

    login: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    password: Annotated[Secret, Field(min_length=1, max_length=128)]
    device: Device
    platform: Platform = ""
    enterprise_id: Id | None = None  # None: the one used last, else any


class Refresh(Command[LoggedIn], action="gateway.identity.refresh"):
    """Exchange the refresh token for its successor and a new access token."""

    refresh_token: Annotated[Secret, Field(min_length=1, max_length=128)]
    device: Device


class Logout(Command[None], action="gateway.identity.logout"):
    """End this session, here and on the hub."""


class WhoAmI(Command[Me], action="gateway.identity.me"):
    """Ask who one is."""


class SwitchEnterprise(Command[AccessToken], action="gateway.identity.switch_enterprise"):
    """Go on in another enterprise one belongs to. The hub needs a new connection for it."""

    enterprise_id: Id


class ListMembers(Command[Members], action="gateway.identity.list_members"):
    """The people of one's own enterprise."""

    after: Id = 0
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class AddMember(Command[Member], action="gateway.identity.add_member"):
    """Take a person in; one whose phone is not known yet is created, with `password` to begin with."""

    phone: Phone
    name: Name
    roles: Annotated[list[Role], Field(min_length=1, max_length=5)]
    title: Name | None = None
    login_name: LoginName | None = None
    password: Annotated[Secret, Field(min_length=10, max_length=128)] | None = None


class EndMembership(Command[None], action="gateway.identity.end_membership"):
    """Somebody leaves the enterprise: at once, everywhere."""

    person_id: Id


class ListSessions(Command[list[Session]], action="gateway.identity.list_sessions"):
    """One's own sessions that have not ended."""


class RevokeSession(Command[None], action="gateway.identity.revoke_session"):
    """End one of one's own sessions; an administrator also those in the own enterprise."""

    session_id: Id


class FindMembers(Command[list[Member]], action="gateway.identity.find_members"):
    """For services: those of these people who are members of the caller's enterprise now."""

    person_ids: Annotated[list[Id], Field(max_length=512)]


# --- events ---------------------------------------------------------------------------------------------------------


class MemberAdded(Event, event="gateway.member_added"):
    """A person belongs to the enterprise from now on."""

    person_id: Id

    def order_key(self) -> str:
        return f"gateway.member.{self.enterprise_id}.{self.person_id}"


class MembershipEnded(Event, event="gateway.membership_ended"):
    """A person no longer belongs to the enterprise: every session and conversation there ends (close code 4511)."""

    person_id: Id
    by: Id

    def order_key(self) -> str:
        return f"gateway.member.{self.enterprise_id}.{self.person_id}"


class SessionRevoked(Event, event="gateway.session_revoked"):
    """A session has ended before its time (close code 4512 on the hub). `enterprise_id` is its last one."""

    session_id: Id
    person_id: Id
    device: str
    why: Literal["logout", "revoked", "theft", "left"]
