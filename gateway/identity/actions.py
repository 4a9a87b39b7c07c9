"""Who one is and who the others are."""

from __future__ import annotations

from collections.abc import Sequence

from core.access import Level
from core.actions import INTERNAL, PERSON, Context, action
from core.db import Record
from core.errors import Forbidden
from gateway.access import rules as access
from gateway.access import store as grants
from gateway.api import (
    CONTACTS_READ,
    FindMembers,
    FindNames,
    ListMembers,
    Me,
    Member,
    Members,
    Names,
    PersonName,
    WhoAmI,
)
from gateway.departments import store as departments
from gateway.identity import store
from gateway.people.phones import shown_phone
from gateway.sessions.issue import own_person, shown


@action(WhoAmI, needs=PERSON, audited=False)
async def me(ctx: Context, command: WhoAmI) -> Me:
    """Who one is and where one belongs, as of now."""
    who = ctx.caller
    enterprises = shown(await store.enterprises_of(ctx.tx, who.person_id))
    current = next((e for e in enterprises if e.enterprise_id == who.enterprise_id), None)
    if current is None and who.enterprise_id:
        raise Forbidden("the membership has ended")
    level = ctx.grants.level if ctx.grants is not None else None
    return Me(
        person=await own_person(ctx, who.person_id),
        session_id=who.session_id,
        level=(level or Level.GUEST).name.lower(),
        enterprise=current,
        enterprises=enterprises,
    )


@action(ListMembers, needs=CONTACTS_READ, audited=False)
async def list_members(ctx: Context, command: ListMembers) -> Members:
    """The people of one's own enterprise, by id: of a department and those below, with a name like this."""
    tx, enterprise_id, reach = ctx.tx, ctx.enterprise_id, ctx.reach
    within: frozenset[int] | None = None if reach.everything else reach.department_ids
    if command.department_id is not None:
        below = access.below(await grants.departments(tx, enterprise_id), [command.department_id])
        within = below if within is None else below & within
    rows = await store.members_page(
        tx,
        enterprise_id,
        command.after,
        command.limit,
        name=command.name,
        departments=within,
        owner_id=None if within is None or command.department_id is not None else ctx.caller.person_id,
    )
    members = await members_of(ctx, rows)
    return Members(members=members, next=members[-1].person_id if len(members) == command.limit else None)


@action(FindNames, needs=CONTACTS_READ, audited=False)
async def find_names(ctx: Context, command: FindNames) -> Names:
    """Names of people who are or were members of one's own enterprise."""
    rows = await store.names(ctx.tx, ctx.enterprise_id, command.person_ids)
    return Names(
        people=[
            PersonName(person_id=row["person_id"], name=row["full_name"], member=row["state"] == store.ACTIVE)
            for row in rows
        ]
    )


@action(FindMembers, needs=INTERNAL, audited=False)
async def find_members(ctx: Context, command: FindMembers) -> list[Member]:
    """Those of these people who are members of the caller's enterprise now."""
    return await members_of(ctx, await store.members(ctx.tx, ctx.enterprise_id, command.person_ids))


async def members_of(ctx: Context, rows: Sequence[Record]) -> list[Member]:
    """Members as their colleagues see them, of rows of `store.members`."""
    roles = await store.roles_of_many(ctx.tx, ctx.enterprise_id, [row["person_id"] for row in rows])
    placed = await departments.of_many(ctx.tx, ctx.enterprise_id, [row["person_id"] for row in rows])
    return [
        Member.model_validate(
            {
                "person_id": row["person_id"],
                "name": row["full_name"],
                "title": row["title"],
                "phone": shown_phone(ctx.columns, row),
                "roles": roles.get(row["person_id"], []),
                "departments": placed.get(row["person_id"], []),
            }
        )
        for row in rows
    ]
