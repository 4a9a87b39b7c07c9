"""Who one is, who the others are, joining and leaving."""

from __future__ import annotations

from collections.abc import Sequence

from core.access import Level
from core.actions import INTERNAL, PERSON, Context, action
from core.db import Record, UniqueViolation
from core.errors import Conflict, Forbidden, Invalid, NotFound
from gateway.api import (
    CONTACTS_READ,
    MEMBERS_MANAGE,
    AddMember,
    EndMembership,
    FindMembers,
    ListMembers,
    Me,
    Member,
    MemberAdded,
    Members,
    MembershipEnded,
    WhoAmI,
)
from gateway.identity import store
from gateway.identity.rules import masked_phone, may_leave
from gateway.parts import parts
from gateway.sessions import store as sessions
from gateway.sessions.actions import own_person, shown
from im.api import RemovePerson


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
    """The people of one's own enterprise, by id."""
    rows = await store.members_page(ctx.tx, ctx.enterprise_id, command.after, command.limit)
    members = await _members(ctx, rows)
    return Members(members=members, next=members[-1].person_id if len(members) == command.limit else None)


@action(FindMembers, needs=INTERNAL, audited=False)
async def find_members(ctx: Context, command: FindMembers) -> list[Member]:
    """Those of these people who are members of the caller's enterprise now."""
    return await _members(ctx, await store.members(ctx.tx, ctx.enterprise_id, command.person_ids))


@action(AddMember, needs=MEMBERS_MANAGE, idempotent=True)
async def add_member(ctx: Context, command: AddMember) -> Member:
    """Take a person in, by phone number; one who is not known yet is created with a first password."""
    tx, now = ctx.tx, ctx.clock.now()
    await store.lock_enterprise(tx, ctx.enterprise_id)
    person_id = await store.person_by_phone(tx, command.phone)
    if person_id is None:
        if command.password is None:
            raise Invalid("a person who is not known yet needs a first password")
        person_id = ctx.ids.next()
        try:
            await store.insert_person(
                tx,
                person_id,
                phone=command.phone,
                login_name=command.login_name,
                name=command.name,
                password_hash=await parts(ctx).passwords.hash(command.password.get_secret_value()),
                now=now,
            )
        except UniqueViolation as error:
            raise Conflict("the login name or the phone is taken") from error
    else:
        state = await store.membership_state(tx, ctx.enterprise_id, person_id)
        if state == store.ACTIVE:
            raise Conflict("already a member", detail={"person_id": str(person_id)})
        if (
            state is not None
        ):  # the event of the earlier leaving may still be on its way: nothing old is taken along
            await ctx.call(RemovePerson(person_id=person_id), as_service=True)
    await store.join(tx, ctx.enterprise_id, person_id, title=command.title, roles=command.roles, now=now)
    ctx.audit(object=person_id, after=sorted(set(command.roles)))
    parts(ctx).regrant(ctx, [(person_id, ctx.enterprise_id)])
    ctx.emit(MemberAdded(enterprise_id=ctx.enterprise_id, person_id=person_id))
    return (await _members(ctx, await store.members(tx, ctx.enterprise_id, [person_id])))[0]


@action(EndMembership, needs=MEMBERS_MANAGE)
async def end_membership(ctx: Context, command: EndMembership) -> None:
    """Somebody leaves the enterprise: sessions there end at once, conversations follow with the event."""
    tx, now, person_id = ctx.tx, ctx.clock.now(), command.person_id
    await store.lock_enterprise(tx, ctx.enterprise_id)
    if not may_leave(person_id, await store.holders(tx, ctx.enterprise_id, "administrator")):
        raise Conflict("the last administrator cannot leave")
    before = await store.roles_of(tx, ctx.enterprise_id, person_id)
    if not await store.leave(tx, ctx.enterprise_id, person_id, now):
        raise NotFound
    ctx.audit(object=person_id, before=before)
    ended = await sessions.lock_in_enterprise(tx, person_id, ctx.enterprise_id, now)
    for row in ended:
        await sessions.end(tx, row["session_id"], "left", now)
    parts(ctx).end(ctx, [row["session_id"] for row in ended], [(person_id, ctx.enterprise_id)])
    parts(ctx).regrant(ctx, [(person_id, ctx.enterprise_id)])
    ctx.emit(MembershipEnded(enterprise_id=ctx.enterprise_id, person_id=person_id, by=ctx.caller.person_id))


async def _members(ctx: Context, rows: Sequence[Record]) -> list[Member]:
    roles = await store.roles_of_many(ctx.tx, ctx.enterprise_id, [row["person_id"] for row in rows])
    return [
        Member.model_validate(
            {
                "person_id": row["person_id"],
                "name": row["full_name"],
                "title": row["title"],
                "phone": masked_phone(row["phone"]),
                "roles": roles.get(row["person_id"], []),
            }
        )
        for row in rows
    ]
