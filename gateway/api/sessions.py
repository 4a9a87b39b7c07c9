"""Sessions: logging in, staying logged in, going elsewhere, logging out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from core.actions import Command, Event, Id, Permission, Secret, Value
from gateway.api.identity import Enterprise, Person

Device = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
Platform = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z ._/-]{0,32}$")]

SESSIONS_MANAGE = Permission("sessions:manage", "结束成员的登录", {"administrator"}, risk=2)


class Session(Value):
    """One login on one device; ends at `expires_ms` at the latest. Times in ms since the epoch."""

    session_id: Id
    enterprise_id: Id
    device: str
    platform: str
    jkt: str | None  # thumbprint of the key it is bound to
    created_ms: int
    used_ms: int
    expires_ms: int
    current: bool


class AccessToken(Value):
    """A token for HTTP and HELLO, good for one enterprise until `access_expires_ms`.

    It goes with `Authorization: Bearer`; if the session began with a proof of possession (header DPoP, RFC 9449) it is
    bound to that key and goes with `Authorization: DPoP` and a new proof each time.
    """

    access_token: str
    access_expires_ms: int


class LoggedIn(AccessToken):
    """A session begun or carried on. The refresh token works once; keep the newest, on this device only."""

    refresh_token: str
    session_id: Id
    session_expires_ms: int
    person: Person
    enterprise: Enterprise | None  # None: a guest, or somebody who has not joined one yet
    enterprises: list[Enterprise]  # all one belongs to; switch_enterprise takes any


# --- commands -------------------------------------------------------------------------------------------------------


class Login(Command[LoggedIn], action="gateway.identity.login"):
    """`login` is a phone number or a login name."""

    login: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    password: Annotated[Secret, Field(min_length=1, max_length=128)]
    device: Device
    platform: Platform = ""
    enterprise_id: Id | None = None  # None: the one used last, else any
    second_factor: bool = False  # ask for one also where it need not be, if there is one to ask for


class Refresh(Command[LoggedIn], action="gateway.identity.refresh"):
    """Exchange the refresh token for its successor and a new access token."""

    refresh_token: Annotated[Secret, Field(min_length=1, max_length=128)]
    device: Device


class Logout(Command[None], action="gateway.identity.logout"):
    """End this session, here and on the hub."""


class SwitchEnterprise(Command[AccessToken], action="gateway.identity.switch_enterprise"):
    """Go on in another enterprise one belongs to. The hub needs a new connection for it."""

    enterprise_id: Id


class ListSessions(Command[list[Session]], action="gateway.identity.list_sessions"):
    """One's own sessions that have not ended."""


class RevokeSession(Command[None], action="gateway.identity.revoke_session"):
    """End one of one's own sessions; an administrator also those in the own enterprise."""

    session_id: Id


# --- events ---------------------------------------------------------------------------------------------------------


class SessionRevoked(Event, event="gateway.session_revoked"):
    """A session has ended before its time (close code 4512 on the hub). `enterprise_id` is its last one."""

    session_id: Id
    person_id: Id
    device: str
    why: Literal["logout", "revoked", "theft", "left", "credentials", "disabled", "too_many"]


class SessionMoved(Event, event="gateway.session_moved"):
    """A session goes on in another enterprise: what it has open in this one ends."""

    session_id: Id
    person_id: Id


class NewDevice(Event, event="gateway.new_device"):
    """Somebody has logged in from where the account was never used: the person's other devices are told."""

    session_id: Id
    person_id: Id
    device: str
    platform: str
    at_ms: int
