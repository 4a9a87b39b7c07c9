"""The bank's operations staff, managed as members of their own tenant."""

from __future__ import annotations

from core.actions import Context, action
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
from gateway.stepup import describe


@action(ListStaff, needs=STAFF_READ, audited=False)
async def list_staff(ctx: Context, command: ListStaff) -> Members:
    """The bank's operations staff, by id."""
    rows = await store.members_page(ctx.tx, ctx.enterprise_id, command.after, command.limit)
    found = await members_of(ctx, rows)
    return Members(members=found, next=found[-1].person_id if len(found) == command.limit else None)


@action(
    AddStaff,
    needs=STAFF_MANAGE,
    idempotent=True,
    step_up="sign",
    step_up_when=describe.gives_top,
    describe=describe.giving_roles,
)
async def add(ctx: Context, command: AddStaff) -> Member:
    """Take somebody into the staff: who belongs to no enterprise, and belongs to none from then on."""
    return await members.add(ctx, AddMember(**dict(command)))


@action(
    ChangeStaff,
    needs=STAFF_MANAGE,
    step_up="sign",
    step_up_when=describe.gives_top,
    describe=describe.giving_roles,
)
async def change(ctx: Context, command: ChangeStaff) -> Member:
    """Give somebody other roles; an administrator stays."""
    return await members.change(ctx, ChangeMember(**dict(command)))


@action(EndStaff, needs=STAFF_MANAGE)
async def end(ctx: Context, command: EndStaff) -> None:
    """Somebody is of the staff no more: every session there ends at once."""
    await members.end(ctx, EndMembership(**dict(command)))
