"""One-time codes by short message."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from core.actions import Command, Secret, Value
from gateway.api.identity import Phone

Code = Annotated[Secret, Field(min_length=6, max_length=6)]


class CodeSent(Value):
    """A code is on its way, if this phone may have one. The same answer whether anybody has the number or not."""

    expires_ms: int
    next_ms: int  # when another may be asked for


class SendCode(Command[CodeSent], action="gateway.codes.send"):
    """Ask for a code to log in with (a new number becomes a guest by it), or to set a new password."""

    phone: Phone
    purpose: Literal["login", "reset_password"]
