"""The bank's operations staff, managed as members of their own tenant."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final

from core.actions import Context, action
from core.errors import Forbidden, NotFound
from core.stepup.rules import canonical
from gateway.api import (
    STAFF_MANAGE,
    STAFF_READ,
    AddMember,
    AddStaff,
    ChangeMember,
    ChangeStaff,
    EndMembership,
    EndStaff,
    ListStaff,
    Member,
    Members,
)
from gateway.identity import store
from gateway.identity.actions import members_of
from gateway.members import actions as members
from gateway.members.joining import checked_roles
from gateway.parts import parts
from gateway.proposals.second import seconded
from gateway.stepup import describe

_ADD: Final = "staff_add"
_CHANGE: Final = "staff_change"


@action(ListStaff, needs=STAFF_READ, audited=False)
async def list_staff(ctx: Context, command: ListStaff) -> Members:
    """The bank's operations staff, by id."""
    rows = await store.members_page(ctx.tx, ctx.enterprise_id, command.after, command.limit)
    found = await members_of(ctx, rows)
    return Members(members=found, next=found[-1].person_id if len(found) == command.limit else None)


@action(
    AddStaff,
    needs=STAFF_MANAGE,
    step_up="sign",
    describe=describe.giving_roles,
)
async def add(ctx: Context, command: AddStaff) -> Member | None:
    """Take somebody into the staff, when a second administrator decides the same: who belongs to no enterprise, and
    belongs to none from then on. One alone could make two persons of two numbers and be both."""
    await store.lock_enterprise(ctx.tx, ctx.enterprise_id)
    await checked_roles(ctx, ctx.enterprise_id, command.roles)
    number = hmac.digest(parts(ctx).attempt_secret, f"staff {command.phone}".encode(), sha256)
    if not await seconded(ctx, _ADD, int.from_bytes(number[:8]) >> 1, _same(command)):
        return None
    return await members.add(ctx, AddMember(**dict(command)))


@action(
    ChangeStaff,
    needs=STAFF_MANAGE,
    step_up="sign",
    describe=describe.giving_roles,
)
async def change(ctx: Context, command: ChangeStaff) -> Member | None:
    """Give somebody other roles, when a second administrator decides the same; an administrator stays. Nobody decides
    about their own."""
    await store.lock_enterprise(ctx.tx, ctx.enterprise_id)
    if command.person_id == ctx.caller.person_id:
        raise Forbidden("others decide about one's own roles")
    await checked_roles(ctx, ctx.enterprise_id, command.roles)
    if await store.membership_state(ctx.tx, ctx.enterprise_id, command.person_id) != store.ACTIVE:
        raise NotFound
    if not await seconded(ctx, _CHANGE, command.person_id, _same(command)):
        return None
    return await members.change(ctx, ChangeMember(**dict(command)))


@action(EndStaff, needs=STAFF_MANAGE, step_up="sign", describe=describe.ending)
async def end(ctx: Context, command: EndStaff) -> None:
    """Somebody is of the staff no more: every session there ends at once."""
    await members.end(ctx, EndMembership(**dict(command)))


def _same(command: AddStaff | ChangeStaff) -> str:
    """Tells whether two decide the same, to the letter."""
    fields = command.model_dump(mode="json") | {"roles": sorted(set(command.roles))}
    return sha256(canonical(fields)).hexdigest()[:32]
