"""From a phone that answered to a person with a name: registration, the forgotten password, another phone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from core.actions import Command, Id, Secret
from gateway.api.codes import Code
from gateway.api.identity import Phone
from gateway.api.sessions import Device, LoggedIn, Platform


class LoginByCode(Command[LoggedIn], action="gateway.registration.login"):
    """Log in with a code; a number that nobody has becomes a guest. With the password too it counts as two factors."""

    phone: Phone
    code: Code
    password: Annotated[Secret, Field(min_length=1, max_length=128)] | None = None
    device: Device
    platform: Platform = ""
    enterprise_id: Id | None = None
