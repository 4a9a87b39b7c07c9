"""Second factors, and logging in with one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from core.actions import Command, Id, Secret, Value
from gateway.api.codes import Code, CodeSent, Ticket
from gateway.api.sessions import Device, LoggedIn, Platform


class Factors(Value):
    """One's second factors."""

    totp: bool
    recovery_left: int


class NewTotp(Value):
    """A secret for an authenticator, shown this once; `uri` is for a QR code. It is no factor until confirmed."""

    secret: str
    uri: str


class RecoveryCodes(Value):
    """Each good once, shown this once, in place of those before."""

    recovery_codes: list[str]


# --- commands -------------------------------------------------------------------------------------------------------


class ShowFactors(Command[Factors], action="gateway.factors.show"):
    """Which second factors one has."""


class EnrolTotp(Command[NewTotp], action="gateway.factors.enrol"):
    """Ask for a secret. One that is a factor already has to be removed first."""


class ConfirmTotp(Command[RecoveryCodes], action="gateway.factors.confirm"):
    """Show a code of the new secret: it is a factor from now on."""

    code: Code


class RemoveTotp(Command[None], action="gateway.factors.remove"):
    """No codes by time any more; recovery codes go with them."""


class RenewRecoveryCodes(Command[RecoveryCodes], action="gateway.factors.renew_recovery_codes"):
    """Ten new ones."""


class SendLoginCode(Command[CodeSent], action="gateway.factors.send_login_code"):
    """Ask for a code to the phone of who has a login ticket, from where the ticket was given."""

    ticket: Ticket
    device: Device


class CompleteLogin(Command[LoggedIn], action="gateway.factors.complete_login"):
    """Begin the session with the second factor. `ticket` is from the refusal of the first step."""

    ticket: Ticket
    way: Literal["totp", "recovery", "sms"]
    code: Annotated[Secret, Field(min_length=6, max_length=24)]
    device: Device
    platform: Platform = ""
    enterprise_id: Id | None = None
