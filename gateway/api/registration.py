"""From a phone that answered to a person with a name: registration, the forgotten password, another phone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from core.actions import Command, Id, Secret, Value
from gateway.api.codes import Code, CodeSent, Ticket
from gateway.api.identity import LoginName, Name, Person, Phone
from gateway.api.sessions import Device, LoggedIn, Platform


class LoginByCode(Command[LoggedIn], action="gateway.registration.login"):
    """Log in with a code; a number that nobody has becomes a guest. With the password too it counts as two factors."""

    phone: Phone
    ticket: Ticket  # of gateway.codes.send
    code: Code
    password: Annotated[Secret, Field(min_length=1, max_length=128)] | None = None
    device: Device
    platform: Platform = ""
    enterprise_id: Id | None = None


NewPassword = Annotated[Secret, Field(min_length=10, max_length=128)]


class Agreement(Value):
    """The version of the user agreement in force; its text is a page of the clients."""

    version: str


class ShowAgreement(Command[Agreement], action="gateway.registration.agreement"):
    """Which agreement one accepts by registering."""


class CompleteRegistration(Command[Person], action="gateway.registration.complete"):
    """A guest gives a name and a password and accepts the agreement; the person stays the same."""

    name: Name
    login_name: LoginName | None = None
    password: NewPassword
    agreement: Annotated[str, Field(min_length=1, max_length=32)]  # the version that was read


class ResetPassword(Command[None], action="gateway.registration.reset_password"):
    """Set a new password with a code. Every session ends.

    Who has a second factor shows that too: the call is made with a trusted device's key (DPoP), or `factor` is a code
    by time or a recovery code.
    """

    phone: Phone
    ticket: Ticket  # of gateway.codes.send
    code: Code
    password: NewPassword
    factor: Annotated[Secret, Field(min_length=6, max_length=24)] | None = None


class ChangePassword(Command[None], action="gateway.registration.change_password"):
    """Set a new password with the old one. Every session ends, this one too."""

    old_password: Annotated[Secret, Field(min_length=1, max_length=128)]
    password: NewPassword


class SendPhoneCode(Command[CodeSent], action="gateway.registration.send_phone_code"):
    """Ask for a code to the number one wants to have from now on."""

    phone: Phone


class ChangePhone(Command[None], action="gateway.registration.change_phone"):
    """Take another number, with the code that was sent to it and the password. Every session ends."""

    phone: Phone
    code: Code
    password: Annotated[Secret, Field(min_length=1, max_length=128)]
