"""Taking people in, giving them roles and places, and letting them go."""

from __future__ import annotations

from collections.abc import Iterable

from core.access import Resource
from core.actions import MEMBER, Context, Rate, action
from core.db import UniqueViolation
from core.errors import Conflict, Forbidden, NotFound
from gateway.api import (
    MEMBERS_MANAGE,
    AddMember,
    ChangeMember,
    EndMembership,
    Leave,
    Member,
    Placement,
)
from gateway.departments import store as departments
from gateway.identity import store
from gateway.identity.actions import members_of
from gateway.identity.rules import may_give, may_leave, may_place
from gateway.members.joining import TOP, admit, checked_roles, place, release
from gateway.parts import parts
from gateway.stepup import describe


@action(
    AddMember,
    needs=MEMBERS_MANAGE,
    idempotent=True,
    limit=Rate(burst=100, per_s=0.05),  # a firm begins with everybody at once; nobody goes through numbers
    step_up="sign",
    step_up_when=describe.gives_power,
    describe=describe.giving_roles,
)
async def add_member(ctx: Context, command: AddMember) -> Member:
    """Take a person in, by phone number: a new one, or a former member.

    A new one may nothing until they have shown the phone, chosen a password of their own and agreed
    (`gateway.registration.complete`): a number is not anybody's who types it, and nobody else knows the password.
    Somebody else who has this number already is asked first: invite them. Otherwise an administrator could turn numbers
    into names, and put strangers into the enterprise.
    """
    return await add(ctx, command)


async def add(ctx: Context, command: AddMember) -> Member:
    """What `add_member` does, once the caller has been let through."""
    tx = ctx.tx
    check_gift(ctx, command.roles, command.departments)
    await store.lock_enterprise(tx, ctx.enterprise_id)
    person_id = await store.person_by_phone(tx, ctx.columns, command.phone)
    if person_id is None:
        person_id = ctx.ids.next()
        try:
            await store.insert_person(
                tx,
                ctx.columns,
                person_id,
                phone=command.phone,
                login_name=None,
                name=command.name,
                password_hash=None,
                now=ctx.clock.now(),
            )
        except UniqueViolation as error:
            raise Conflict("the phone is taken") from error
    elif await store.membership_state(tx, ctx.enterprise_id, person_id) is None:
        raise Conflict("whoever has this phone must agree: send an invitation")
    await admit(
        ctx,
        ctx.enterprise_id,
        person_id,
        title=command.title,
        roles=command.roles,
        placements=command.departments,
    )
    ctx.audit(object=person_id, after=sorted(set(command.roles)))
    return (await members_of(ctx, await store.members(tx, ctx.enterprise_id, [person_id])))[0]


@action(
    ChangeMember,
    needs=MEMBERS_MANAGE,
    step_up="sign",
    step_up_when=describe.changes_roles,
    describe=describe.giving_roles,
)
async def change_member(ctx: Context, command: ChangeMember) -> Member:
    """Another title, other roles or departments; what is left out stays. Holds at once.

    An enterprise keeps an administrator. Who manages members without being one gives no roles but employee.
    """
    return await change(ctx, command)


async def change(ctx: Context, command: ChangeMember) -> Member:
    """What `change_member` does, once the caller has been let through."""
    tx, enterprise_id, person_id = ctx.tx, ctx.enterprise_id, command.person_id
    await store.lock_enterprise(tx, enterprise_id)
    found = await store.members(tx, enterprise_id, [person_id])
    if not found:
        raise NotFound
    before = (await members_of(ctx, found))[0]
    _reaches(ctx, person_id, (one.department_id for one in before.departments))
    if command.title is not None:
        await store.set_title(tx, enterprise_id, person_id, command.title)
    if command.roles is not None and set(command.roles) != set(before.roles):
        kind = await checked_roles(ctx, enterprise_id, command.roles)
        _may_give(ctx, set(before.roles) ^ set(command.roles))
        top = TOP[kind]
        if top not in command.roles and not may_leave(person_id, await store.holders(tx, enterprise_id, top)):
            raise Conflict("the last administrator stays one")
        await store.set_roles(tx, enterprise_id, person_id, command.roles)
    if command.departments is not None:
        moved = {one.department_id for one in set(before.departments) ^ set(command.departments)}
        if not may_place(ctx.reach, moved, new=False):
            raise Forbidden("not into or out of these departments")
        await place(ctx, enterprise_id, person_id, command.departments)
    after = (await members_of(ctx, await store.members(tx, enterprise_id, [person_id])))[0]
    ctx.audit(object=person_id, before=before.model_dump(), after=after.model_dump())
    parts(ctx).regrant(ctx, [(person_id, enterprise_id)])
    return after


@action(EndMembership, needs=MEMBERS_MANAGE, step_up="sign", describe=describe.ending)
async def end_membership(ctx: Context, command: EndMembership) -> None:
    """Somebody leaves the enterprise: sessions there end at once, conversations follow with the event."""
    await end(ctx, command)


async def end(ctx: Context, command: EndMembership) -> None:
    """What `end_membership` does, once the caller has been let through."""
    placed = await departments.of_many(ctx.tx, ctx.enterprise_id, [command.person_id])
    _reaches(ctx, command.person_id, (one.department_id for one in placed.get(command.person_id, [])))
    _may_give(ctx, await store.roles_of(ctx.tx, ctx.enterprise_id, command.person_id))
    await release(ctx, ctx.enterprise_id, command.person_id)


@action(Leave, needs=MEMBER)
async def leave(ctx: Context, command: Leave) -> None:
    """Leave the enterprise of the token by oneself. Other enterprises of the person are not touched."""
    await release(ctx, ctx.enterprise_id, ctx.caller.person_id)


def check_gift(ctx: Context, roles: Iterable[str], placements: Iterable[Placement]) -> None:
    """Whether the caller may take somebody in with these roles, into these departments. Raises `Forbidden`."""
    _may_give(ctx, roles)
    if not may_place(ctx.reach, {one.department_id for one in placements}, new=True):
        raise Forbidden("not into these departments")


def _may_give(ctx: Context, roles: Iterable[str]) -> None:
    """Raises `Forbidden`."""
    grants = ctx.held[0]
    top = TOP[grants.realm or "enterprise"]
    if not ctx.caller.is_service and not may_give(grants.roles, roles, top):
        raise Forbidden("only administrators give and take these roles")


def _reaches(ctx: Context, person_id: int, department_ids: Iterable[int]) -> None:
    """Raises `NotFound` for members beyond what one manages."""
    try:
        ctx.allow(Resource(owner_id=person_id, department_ids=frozenset(department_ids)))
    except Forbidden as error:
        raise NotFound from error
