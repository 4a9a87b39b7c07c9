"""The one way into an enterprise and the one way out, whoever opens the door."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from core.access import BANK, STAFF
from core.context import Context
from core.errors import Conflict, Invalid, NotFound
from gateway.access import store as access
from gateway.api import MemberAdded, MembershipEnded, Placement
from gateway.departments import store as departments
from gateway.identity import store
from gateway.identity.rules import may_leave, mixes
from gateway.parts import parts
from gateway.sessions import store as sessions
from im.api import RemovePerson

TOP = {"enterprise": "administrator", "bank": "bank_administrator"}
"""The role that an enterprise must not be without, by kind."""


async def admit(
    ctx: Context,
    enterprise_id: int,
    person_id: int,
    *,
    title: str | None,
    roles: Collection[str],
    placements: Sequence[Placement] = (),
) -> None:
    """Make a person a member, again if need be, with these roles and departments.

    Lock the enterprise first. Raises `Conflict` for who is a member already, or would mix the bank with an enterprise;
    `Invalid` for a role or department that is not there.
    """
    tx = ctx.tx
    person = await store.lock_person(tx, person_id)
    if person is None or person["state"] == "erased":
        raise NotFound
    kinds = await store.kinds_of(tx, person_id)
    if enterprise_id in kinds:
        raise Conflict("already a member", detail={"person_id": str(person_id)})
    kind = await checked_roles(ctx, enterprise_id, roles)
    if mixes(kind, kinds.values()):
        raise Conflict(
            "the bank's staff belong to no enterprise, and nobody of an enterprise to the bank's staff"
        )
    if await store.membership_state(tx, enterprise_id, person_id) is not None:
        # the event of the earlier leaving may still be on its way: nothing old is taken along
        await ctx.call(RemovePerson(person_id=person_id), as_service=True, enterprise_id=enterprise_id)
    await store.join(tx, enterprise_id, person_id, title=title, roles=roles, now=ctx.clock.now())
    await place(ctx, enterprise_id, person_id, placements)
    parts(ctx).regrant(ctx, [(person_id, enterprise_id)])
    ctx.emit(MemberAdded(enterprise_id=enterprise_id, person_id=person_id))


async def release(ctx: Context, enterprise_id: int, person_id: int, *, last_may: bool = False) -> None:
    """End a membership: sessions there end at once, conversations follow with the event.

    Raises `NotFound`, and `Conflict` for the last administrator unless `last_may`.
    """
    tx, now = ctx.tx, ctx.clock.now()
    await store.lock_enterprise(tx, enterprise_id)
    found = await store.enterprise(tx, enterprise_id)
    top = TOP[found["kind"]] if found is not None else ""
    if not last_may and not may_leave(person_id, await store.holders(tx, enterprise_id, top)):
        raise Conflict("the last administrator cannot leave")
    before = await store.roles_of(tx, enterprise_id, person_id)
    if not await store.leave(tx, enterprise_id, person_id, now):
        raise NotFound
    await departments.set_placements(tx, enterprise_id, person_id, [])
    ctx.audit(object=person_id, before=before)
    ended = await sessions.lock_in_enterprise(tx, person_id, enterprise_id, now)
    for row in ended:
        await sessions.end(tx, row["session_id"], "left", now)
    parts(ctx).end(ctx, [row["session_id"] for row in ended], [(person_id, enterprise_id)])
    parts(ctx).regrant(ctx, [(person_id, enterprise_id)])
    ctx.emit(MembershipEnded(enterprise_id=enterprise_id, person_id=person_id, by=ctx.caller.person_id))


async def checked_roles(ctx: Context, enterprise_id: int, roles: Collection[str]) -> str:
    """The enterprise's kind, if all these roles are there: built-in ones of the kind, or its own. Raises `Invalid`,
    the same for another enterprise's role and one that nobody has made; and for roles that would make one person maker
    and reviewer."""
    found = await store.enterprise(ctx.tx, enterprise_id)
    if found is None or found["state"] != store.ACTIVE:
        raise NotFound
    kind: str = found["kind"]
    unknown = set(roles) - (BANK if kind == "bank" else STAFF)
    if unknown:
        unknown -= set(await access.own_roles(ctx.tx, enterprise_id))
    if unknown:
        raise Invalid("there is no such role here")
    if {"finance_maker", "finance_reviewer"} <= set(roles):
        raise Invalid("nobody reviews what they make: maker or reviewer")
    return kind


async def check_placements(ctx: Context, enterprise_id: int, placements: Sequence[Placement]) -> None:
    """Raises `Invalid` where a department is not there."""
    known = {department_id for department_id, _ in await access.departments(ctx.tx, enterprise_id)}
    if not {one.department_id for one in placements} <= known:
        raise Invalid("there is no such department here")


async def place(ctx: Context, enterprise_id: int, person_id: int, placements: Sequence[Placement]) -> None:
    """Put a member into exactly these departments. Raises `Invalid` where one is not there."""
    await check_placements(ctx, enterprise_id, placements)
    rows = {one.department_id: one.is_head for one in placements}
    await departments.set_placements(ctx.tx, enterprise_id, person_id, sorted(rows.items()))
