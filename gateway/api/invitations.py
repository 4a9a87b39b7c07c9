"""Inviting people by a link or a code."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from core.actions import Command, Id, Secret, Value
from gateway.api.identity import Name, Placements, Role

InvitationCode = Annotated[Secret, Field(min_length=8, max_length=32)]


class Invitation(Value):
    """An invitation into one's own enterprise. Its code is shown once, when it is made."""

    invitation_id: Id
    roles: list[Role]
    departments: Placements
    title: str | None
    uses: int
    uses_max: int
    state: Literal["open", "used_up", "expired", "revoked"]
    expires_ms: int
    created_ms: int


class NewInvitation(Invitation):
    """With what to give to those who are invited. The link carries the code behind a #, which no server log sees."""

    code: str
    link: str


class InvitedTo(Value):
    """What an invitation is for."""

    enterprise: str
    title: str | None
    expires_ms: int


# --- commands -------------------------------------------------------------------------------------------------------


class CreateInvitation(Command[NewInvitation], action="gateway.invitations.create"):
    """Invite one person, or several with the same link."""

    roles: Annotated[list[Role], Field(min_length=1, max_length=10)] = Field(
        default_factory=lambda: ["employee"]
    )
    departments: Placements = Field(default_factory=list)
    title: Name | None = None
    uses_max: Annotated[int, Field(ge=1, le=1000)] = 1
    life_s: Annotated[int, Field(ge=60, le=30 * 86_400)] = 3 * 86_400


class ListInvitations(Command[list[Invitation]], action="gateway.invitations.list"):
    """The newest hundred of one's own enterprise."""


class RevokeInvitation(Command[None], action="gateway.invitations.revoke"):
    """Nobody comes in by it any more."""

    invitation_id: Id


class LookAtInvitation(Command[InvitedTo], action="gateway.invitations.look"):
    """What a code is for, before one accepts."""

    code: InvitationCode


class AcceptInvitation(Command[Id], action="gateway.invitations.accept"):
    """Join; the enterprise's id, to switch to."""

    code: InvitationCode
