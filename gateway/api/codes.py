"""One-time codes by short message."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from core.actions import Command, Secret, Value
from gateway.api.identity import Phone

Code = Annotated[Secret, Field(min_length=6, max_length=6)]
Ticket = Annotated[Secret, Field(min_length=43, max_length=43)]


class CodeSent(Value):
    """A code is on its way, if this phone may have one. The same answer whether anybody has the number or not."""

    expires_ms: int
    next_ms: int  # when another may be asked for


class AskedCode(CodeSent):
    """The same to somebody whom nobody knows yet. The code is good together with this ticket only, which nobody but
    the asker has: others can neither guess at it nor use it up."""

    ticket: str


class SendCode(Command[AskedCode], action="gateway.codes.send"):
    """Ask for a code to log in with (a new number becomes a guest by it), or to set a new password."""

    phone: Phone
    purpose: Literal["login", "reset_password"]
