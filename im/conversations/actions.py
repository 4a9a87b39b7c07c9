"""Conversations: opened, listed, joined, left, named, owned and ended."""

from __future__ import annotations

from collections.abc import Sequence

from core.actions import INTERNAL, Context, Rate, action
from core.clock import to_ms
from core.db import Record, UniqueViolation
from core.errors import Conflict, Internal, Invalid, NotFound
from hub import api as hub
from im.api import (
    CONVERSATIONS_MANAGE,
    MESSAGES_READ,
    AddMembers,
    Changed,
    Conversation,
    ConversationDetail,
    Conversations,
    CreateGroup,
    Disband,
    GetConversation,
    ListConversations,
    ListMembers,
    Member,
    Members,
    OpenDirect,
    RemoveMember,
    RemovePerson,
    Rename,
    SetOwner,
)
from im.conversations import rules, store
from im.messages.rules import DISBANDED, OWNERS, TITLE
from im.parts import colleagues, mine, shown

_MAKE = Rate(burst=60, per_s=0.5)  # people do not make conversations all day; a runaway script does
_CHANGE = Rate(burst=60, per_s=2)
_READ = Rate(burst=100, per_s=20)


@action(OpenDirect, needs=CONVERSATIONS_MANAGE, limit=_MAKE)
async def open_direct(ctx: Context, command: OpenDirect) -> Conversation:
    """The one conversation with a colleague; made by whoever asks first."""
    me, other, tx, enterprise = ctx.caller.person_id, command.person_id, ctx.tx, ctx.enterprise_id
    low, high = rules.pair(me, other)
    await colleagues(ctx, [me, other])
    conversation_id = await store.pair(tx, enterprise, low, high)
    if conversation_id is None:
        fresh = ctx.ids.next()
        try:
            async with tx.savepoint():
                await store.insert_pair(tx, enterprise, low, high, fresh)
        except UniqueViolation:  # the other one asked at the same moment, and has committed
            conversation_id = await store.pair(tx, enterprise, low, high)
        else:
            conversation_id = fresh
            await _make(ctx, fresh, rules.DIRECT, None)
    if conversation_id is None:
        raise Conflict("the conversation is being opened by somebody else", retry_ms=200)
    await store.lock(tx, conversation_id, enterprise)
    present = await store.roles_of(tx, conversation_id, enterprise, [low, high])
    absent = [person for person in (low, high) if person not in present]
    if absent:  # new, or somebody is back in the enterprise
        await _admit(ctx, conversation_id, [(person, rules.MEMBER) for person in absent], seen_by=absent)
    ctx.audit(object=conversation_id)
    return (await shown(ctx, [await mine(ctx, conversation_id)]))[0]


@action(CreateGroup, needs=CONVERSATIONS_MANAGE, limit=_MAKE)
async def create_group(ctx: Context, command: CreateGroup) -> Conversation:
    """A group of colleagues with oneself as owner."""
    me = ctx.caller.person_id
    others = [person for person in dict.fromkeys(command.members) if person != me]
    if not others:
        raise Invalid("a group has somebody else in it")
    rules.require_room(1, len(others), ctx.runtime.settings.im_group_members_max)
    await colleagues(ctx, others)
    conversation_id = ctx.ids.next()
    await _make(ctx, conversation_id, rules.GROUP, command.title)
    await _admit(ctx, conversation_id, [(me, rules.OWNER), *((person, rules.MEMBER) for person in others)])
    await hub.append(ctx, conversation_id, TITLE, {"title": command.title}, sender_id=me)
    ctx.audit(object=conversation_id)
    return (await shown(ctx, [await mine(ctx, conversation_id)]))[0]


@action(ListConversations, needs=MESSAGES_READ, audited=False, limit=_READ)
async def list_conversations(ctx: Context, command: ListConversations) -> Conversations:
    """One's own conversations, by id, with what is unread and what was said last."""
    rows = await store.page_of_person(
        ctx.tx, ctx.caller.person_id, ctx.enterprise_id, command.after, command.limit
    )
    return Conversations(
        conversations=await shown(ctx, rows),
        next=rows[-1]["conversation_id"] if len(rows) == command.limit else None,
    )


@action(GetConversation, needs=MESSAGES_READ, audited=False, limit=_READ)
async def get_conversation(ctx: Context, command: GetConversation) -> ConversationDetail:
    """One conversation with its owners and its first 200 members."""
    row = await mine(ctx, command.conversation_id)
    page = await _members(ctx, command.conversation_id, 0, 200)
    owners = await store.with_role(ctx.tx, command.conversation_id, ctx.enterprise_id, rules.OWNER)
    (summary,) = await shown(ctx, [row])
    return ConversationDetail(**dict(summary), owners=owners, members=page.members, next=page.next)


@action(ListMembers, needs=MESSAGES_READ, audited=False, limit=_READ)
async def list_members(ctx: Context, command: ListMembers) -> Members:
    """Who is in it, by person."""
    await mine(ctx, command.conversation_id)
    return await _members(ctx, command.conversation_id, command.after, command.limit)


@action(AddMembers, needs=CONVERSATIONS_MANAGE, limit=_CHANGE)
async def add_members(ctx: Context, command: AddMembers) -> Changed:
    """Any member brings colleagues in; who is in already is passed over."""
    await mine(ctx, command.conversation_id)  # strangers hold nobody's membership
    await colleagues(ctx, command.members)
    row = await _my_group(ctx, command.conversation_id)
    if command.history:
        rules.require_owner(row["member_role"])
    tx, enterprise = ctx.tx, ctx.enterprise_id
    present = await store.roles_of(tx, command.conversation_id, enterprise, command.members)
    new = [person for person in dict.fromkeys(command.members) if person not in present]
    limit = ctx.runtime.settings.im_group_members_max
    rules.require_room(row["member_count"], len(new), limit)
    if new:
        roles = [(person, rules.MEMBER) for person in new]
        await _admit(ctx, command.conversation_id, roles, history=command.history)
    return Changed(added=new, removed=[], member_count=row["member_count"] + len(new))


@action(RemoveMember, needs=CONVERSATIONS_MANAGE, limit=_CHANGE)
async def remove_member(ctx: Context, command: RemoveMember) -> Changed:
    """An owner takes a member out; anybody leaves. Ownership passes on to whoever is in it longest."""
    row = await _my_group(ctx, command.conversation_id)
    me, person = ctx.caller.person_id, command.person_id
    found = await store.roles_of(ctx.tx, command.conversation_id, ctx.enterprise_id, [person])
    rules.check_removal(row["member_role"], me, person, found.get(person, rules.MEMBER))
    if not found:
        return Changed(added=[], removed=[], member_count=row["member_count"])
    ctx.audit(object=person, before=[command.conversation_id, found[person]])
    await _dismiss(ctx, command.conversation_id, person, found[person])
    return Changed(added=[], removed=[person], member_count=row["member_count"] - 1)


@action(Rename, needs=CONVERSATIONS_MANAGE, limit=_CHANGE)
async def rename(ctx: Context, command: Rename) -> None:
    """An owner gives the group another title."""
    row = await _my_group(ctx, command.conversation_id)
    rules.require_owner(row["member_role"])
    if row["title"] == command.title:
        return
    await store.set_title(ctx.tx, command.conversation_id, ctx.enterprise_id, command.title)
    body = {"title": command.title}
    await hub.append(ctx, command.conversation_id, TITLE, body, sender_id=ctx.caller.person_id)


@action(SetOwner, needs=CONVERSATIONS_MANAGE, limit=_CHANGE)
async def set_owner(ctx: Context, command: SetOwner) -> list[int]:
    """An owner names another one, hands over, or steps down."""
    row = await _my_group(ctx, command.conversation_id)
    rules.require_owner(row["member_role"])
    tx, enterprise, me, person = ctx.tx, ctx.enterprise_id, ctx.caller.person_id, command.person_id
    if not await store.roles_of(tx, command.conversation_id, enterprise, [person]):
        raise NotFound("no such member in this conversation")
    owners = await store.with_role(tx, command.conversation_id, enterprise, rules.OWNER)
    added, removed = rules.owners_changed(owners, me, person, owner=command.owner, transfer=command.transfer)
    await _change_owners(ctx, command.conversation_id, added, removed, by=me)
    return sorted((set(owners) | set(added)) - set(removed))


@action(Disband, needs=CONVERSATIONS_MANAGE, limit=_CHANGE)
async def disband(ctx: Context, command: Disband) -> None:
    """An owner ends the group: it says so, then everybody is out of it."""
    row = await _my_group(ctx, command.conversation_id)
    rules.require_owner(row["member_role"])
    tx, enterprise, me = ctx.tx, ctx.enterprise_id, ctx.caller.person_id
    await hub.append(ctx, command.conversation_id, DISBANDED, {}, sender_id=me)
    while True:
        some = await store.oldest(tx, command.conversation_id, enterprise, rules.MEMBERS_PER_CHANGE)
        if not some:
            break
        await hub.change_members(ctx, command.conversation_id, removed=some, by=me)
        await store.remove(tx, command.conversation_id, enterprise, some)
    await store.set_state(tx, command.conversation_id, enterprise, rules.DISBANDED)


@action(RemovePerson, needs=INTERNAL)
async def remove_person(ctx: Context, command: RemovePerson) -> int:
    """Somebody leaves the enterprise, and with it every conversation there."""
    tx, enterprise, person = ctx.tx, ctx.enterprise_id, command.person_id
    left = 0
    for conversation_id in await store.ids_of_person(tx, person, enterprise):
        await store.lock(tx, conversation_id, enterprise)
        found = await store.roles_of(tx, conversation_id, enterprise, [person])
        if found:
            await _dismiss(ctx, conversation_id, person, found[person])
            left += 1
    ctx.audit(object=person, before=left, after=0)
    return left


async def _my_group(ctx: Context, conversation_id: int) -> Record:
    """A group that the caller is in, locked. Raises `NotFound` and `Invalid`."""
    row = await mine(ctx, conversation_id, lock=True)
    rules.require_group(row["kind"])
    ctx.audit(object=conversation_id, before=[row["title"], row["member_count"], row["member_role"]])
    return row


async def _make(ctx: Context, conversation_id: int, kind: str, title: str | None) -> None:
    await hub.open_stream(ctx, conversation_id, ctx.enterprise_id)
    await store.insert(
        ctx.tx, conversation_id, ctx.enterprise_id, kind=kind, title=title, state=rules.ACTIVE,
        by=ctx.caller.person_id, now=ctx.clock.now(),
    )  # fmt: skip


async def _admit(
    ctx: Context, conversation_id: int, roles: Sequence[tuple[int, str]], *, history: bool = False,
    seen_by: Sequence[int] = (),
) -> None:  # fmt: skip
    """Takes in people who are not in it, as the caller's doing."""
    people = [person for person, _ in roles]
    joined, _ = await hub.change_members(
        ctx, conversation_id, added=people, by=ctx.caller.person_id, history=history, seen_by=seen_by
    )
    if joined != people:
        raise Internal("members and subscribers of a conversation are not the same")
    await store.add(ctx.tx, conversation_id, ctx.enterprise_id, roles, ctx.clock.now())


async def _dismiss(ctx: Context, conversation_id: int, person: int, role: str) -> None:
    """Takes out somebody who is in it. A group left without an owner gets the one who is in it longest."""
    tx, enterprise = ctx.tx, ctx.enterprise_id
    _, left = await hub.change_members(ctx, conversation_id, removed=[person], by=ctx.caller.person_id)
    if left != [person]:
        raise Internal("members and subscribers of a conversation are not the same")
    await store.remove(tx, conversation_id, enterprise, [person])
    if role == rules.OWNER:
        owners = await store.with_role(tx, conversation_id, enterprise, rules.OWNER)
        heir = rules.successor(owners, await store.oldest(tx, conversation_id, enterprise, 1))
        if heir is not None:
            await _change_owners(ctx, conversation_id, [heir], [], by=hub.SYSTEM)


async def _change_owners(
    ctx: Context, conversation_id: int, added: Sequence[int], removed: Sequence[int], *, by: int
) -> None:
    if not added and not removed:
        return
    await store.set_role(ctx.tx, conversation_id, ctx.enterprise_id, added, rules.OWNER)
    await store.set_role(ctx.tx, conversation_id, ctx.enterprise_id, removed, rules.MEMBER)
    body = {"added": [str(person) for person in added], "removed": [str(person) for person in removed]}
    await hub.append(ctx, conversation_id, OWNERS, body, sender_id=by)


async def _members(ctx: Context, conversation_id: int, after: int, limit: int) -> Members:
    rows = await store.members_page(ctx.tx, conversation_id, ctx.enterprise_id, after, limit)
    members = [
        Member(person_id=row["person_id"], role=row["member_role"], joined_ms=to_ms(row["joined_at"]))
        for row in rows
    ]
    return Members(members=members, next=members[-1].person_id if len(members) == limit else None)
