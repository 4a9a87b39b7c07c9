"""Conversations by their actions: direct ones, groups, owners, ends."""

from __future__ import annotations

from typing import Any

import pytest

from core.actions import Command
from core.context import Source
from core.db import Transaction
from core.errors import Conflict, Forbidden, Invalid, NotFound
from core.idempotency import KeyReused
from gateway.identity import store as identity
from hub.api import unpack
from im import api
from tests.im.conftest import World
from tests.world import somebody


async def told(world: World, conversation_id: int) -> list[tuple[str, int, object]]:
    """(kind, sender, body) of every entry."""
    return [
        (e.kind, e.sender_id, unpack(e.body) if e.body else None)
        for e in await world.entries(conversation_id)
    ]


async def test_two_people_have_one_direct_conversation(world: World) -> None:
    mine = await world.call(1, api.OpenDirect(person_id=2))
    theirs = await world.call(2, api.OpenDirect(person_id=1))
    again = await world.call(1, api.OpenDirect(person_id=2))
    assert mine.conversation_id == theirs.conversation_id == again.conversation_id
    assert (mine.peer_id, theirs.peer_id) == (2, 1)
    assert (mine.kind, mine.title, mine.member_count, mine.role) == ("direct", None, 2, "member")
    assert (mine.unread, theirs.unread) == (0, 0)
    assert await told(world, mine.conversation_id) == [
        ("membership", 0, {"added": ["1", "2"], "removed": [], "by": "1"})
    ]


async def test_a_direct_conversation_is_with_a_colleague_and_stays_what_it_is(world: World) -> None:
    with pytest.raises(Invalid):
        await world.call(1, api.OpenDirect(person_id=1))
    for stranger in (21, 999):
        with pytest.raises(NotFound):
            await world.call(1, api.OpenDirect(person_id=stranger))
    i = (await world.call(1, api.OpenDirect(person_id=3))).conversation_id
    commands: list[Command[Any]] = [
        api.AddMembers(conversation_id=i, members=[4]),
        api.RemoveMember(conversation_id=i, person_id=3),
        api.RemoveMember(conversation_id=i, person_id=1),
        api.Rename(conversation_id=i, title="wir"),
        api.SetOwner(conversation_id=i, person_id=1),
        api.Disband(conversation_id=i),
    ]
    for command in commands:
        with pytest.raises(Invalid):
            await world.call(1, command)


async def test_the_same_two_people_talk_apart_in_each_enterprise(world: World) -> None:
    async def join(tx: Transaction) -> None:
        await identity.join(tx, 2, 7, title=None, roles=["employee"], now=world.clock.now())

    await world.runtime.db.run(join)
    one = await world.call(7, api.OpenDirect(person_id=8))
    other = await world.call(7, api.OpenDirect(person_id=8), enterprise=2)
    assert one.conversation_id != other.conversation_id
    with pytest.raises(NotFound):
        await world.call(7, api.GetConversation(conversation_id=other.conversation_id))


async def test_a_group_is_made_once_for_a_key(world: World) -> None:
    command = api.CreateGroup(title="  财务   群 ", members=[2, 3, 2, 1])
    made = await world.call(1, command, key="create-1")
    again = await world.call(1, command, key="create-1")
    assert again.conversation_id == made.conversation_id
    assert (made.title, made.role, made.member_count, made.preview) == ("财务 群", "owner", 3, [1, 2, 3])
    assert await told(world, made.conversation_id) == [
        ("membership", 0, {"added": ["1", "2", "3"], "removed": [], "by": "1"}),
        ("title", 1, {"title": "财务 群"}),
    ]
    with pytest.raises(KeyReused):
        await world.call(1, api.CreateGroup(title="别的", members=[2]), key="create-1")


async def test_a_group_takes_colleagues_only_and_not_too_many(world: World) -> None:
    with pytest.raises(NotFound) as refused:
        await world.call(1, api.CreateGroup(title="群", members=[2, 21]))
    assert refused.value.detail == {"person_ids": ["21"]}
    with pytest.raises(Invalid):
        await world.call(1, api.CreateGroup(title="群", members=[1]))
    with pytest.raises(Conflict):
        await world.call(1, api.CreateGroup(title="群", members=[2, 3, 4, 5, 6, 7, 8]))
    i = await world.group(1, 2, 3, 4, 5)
    with pytest.raises(Conflict):
        await world.call(1, api.AddMembers(conversation_id=i, members=[6, 7, 8]))
    with pytest.raises(NotFound):
        await world.call(1, api.AddMembers(conversation_id=i, members=[6, 21]))
    assert (await world.call(1, api.GetConversation(conversation_id=i))).member_count == 5


async def test_any_member_adds_and_new_ones_see_nothing_from_before(world: World) -> None:
    i = await world.group(1, 2)
    await world.say(1, i, "以前的话")
    changed = await world.call(2, api.AddMembers(conversation_id=i, members=[3, 2, 1]))
    assert (changed.added, changed.member_count) == ([3], 3)
    await world.say(1, i, "以后的话")
    seen = await world.call(3, api.History(conversation_id=i))
    assert [e.kind for e in seen.entries] == ["membership", "text"]
    assert (seen.floor, seen.head, seen.more) == (3, 5, False)
    with pytest.raises(Forbidden):
        await world.call(2, api.AddMembers(conversation_id=i, members=[4], history=True))
    await world.call(1, api.AddMembers(conversation_id=i, members=[4], history=True))
    seen = await world.call(4, api.History(conversation_id=i))
    assert [e.body for e in seen.entries if e.kind == "text"] == ["以前的话", "以后的话"]


async def test_unread_is_what_others_did_since(world: World) -> None:
    i = await world.group(1, 2, 3)

    async def unread(person: int) -> int:
        return (await world.call(person, api.GetConversation(conversation_id=i))).unread

    assert [await unread(p) for p in (1, 2, 3)] == [0, 2, 2]
    await world.say(2, i, "一")
    assert [await unread(p) for p in (1, 2, 3)] == [1, 0, 3]
    await world.say(3, i, "二")
    await world.say(3, i, "三")
    assert [await unread(p) for p in (1, 2, 3)] == [3, 2, 0]
    await world.call(1, api.AddMembers(conversation_id=i, members=[4]))
    assert [await unread(p) for p in (1, 2, 3, 4)] == [0, 3, 1, 1]
    await world.call(1, api.RemoveMember(conversation_id=i, person_id=4))
    await world.say(1, i, "四")
    await world.call(1, api.AddMembers(conversation_id=i, members=[4]))
    assert await unread(4) == 1  # the entry that says that one is back


async def test_owners_remove_and_everybody_leaves(world: World) -> None:
    i = await world.group(1, 2, 3, 4)
    with pytest.raises(Forbidden):
        await world.call(2, api.RemoveMember(conversation_id=i, person_id=3))
    assert (await world.call(1, api.RemoveMember(conversation_id=i, person_id=3))).removed == [3]
    assert (await world.call(1, api.RemoveMember(conversation_id=i, person_id=3))).removed == []
    assert (await world.call(4, api.RemoveMember(conversation_id=i, person_id=4))).member_count == 2
    for gone in (3, 4):
        commands: list[Command[Any]] = [
            api.GetConversation(conversation_id=i),
            api.History(conversation_id=i),
            api.Send(conversation_id=i, key=f"gone-{gone}", body="noch da"),
            api.RemoveMember(conversation_id=i, person_id=2),
        ]
        for command in commands:
            with pytest.raises(NotFound):
                await world.call(gone, command)
    listed = await world.call(3, api.ListConversations())
    assert i not in [c.conversation_id for c in listed.conversations]


async def test_ownership_is_shared_handed_over_and_inherited(world: World) -> None:
    i = await world.group(1, 2, 3, 4)
    with pytest.raises(Forbidden):
        await world.call(2, api.SetOwner(conversation_id=i, person_id=2))
    with pytest.raises(Conflict):
        await world.call(1, api.SetOwner(conversation_id=i, person_id=1, owner=False))
    with pytest.raises(NotFound):
        await world.call(1, api.SetOwner(conversation_id=i, person_id=5))
    assert await world.call(1, api.SetOwner(conversation_id=i, person_id=4)) == [1, 4]
    assert await world.call(1, api.SetOwner(conversation_id=i, person_id=4)) == [1, 4]
    with pytest.raises(Forbidden):
        await world.call(1, api.RemoveMember(conversation_id=i, person_id=4))
    with pytest.raises(Forbidden):
        await world.call(4, api.SetOwner(conversation_id=i, person_id=1, owner=False))
    assert await world.call(4, api.SetOwner(conversation_id=i, person_id=3, transfer=True)) == [1, 3]
    await world.call(1, api.RemoveMember(conversation_id=i, person_id=1))
    await world.call(3, api.RemoveMember(conversation_id=i, person_id=3))
    detail = await world.call(2, api.GetConversation(conversation_id=i))
    assert detail.owners == [2]  # the one of those who came first
    assert (await told(world, i))[-2:] == [
        ("membership", 0, {"added": [], "removed": ["3"], "by": "3"}),
        ("owners", 0, {"added": ["2"], "removed": []}),
    ]
    await world.call(2, api.RemoveMember(conversation_id=i, person_id=2))
    await world.call(4, api.RemoveMember(conversation_id=i, person_id=4))  # the last one closes the door


async def test_titles(world: World) -> None:
    i = await world.group(1, 2)
    with pytest.raises(Forbidden):
        await world.call(2, api.Rename(conversation_id=i, title="我的群"))
    await world.call(1, api.Rename(conversation_id=i, title="新名"))
    await world.call(1, api.Rename(conversation_id=i, title=" 新名 "))
    assert (await world.call(2, api.GetConversation(conversation_id=i))).title == "新名"
    assert [e for e in await told(world, i) if e[0] == "title"] == [
        ("title", 1, {"title": "财务群"}),
        ("title", 1, {"title": "新名"}),
    ]


async def test_a_disbanded_group_is_nobodys(world: World) -> None:
    i = await world.group(1, 2, 3)
    with pytest.raises(Forbidden):
        await world.call(2, api.Disband(conversation_id=i))
    await world.call(1, api.Disband(conversation_id=i))
    for person in (1, 2, 3):
        with pytest.raises(NotFound):
            await world.call(person, api.GetConversation(conversation_id=i))
    assert [kind for kind, *_ in await told(world, i)] == ["membership", "title", "disbanded", "membership"]
    await world.check_chains()


async def test_lists_come_in_pages_with_what_was_said_last(world: World) -> None:
    made = [await world.group(5, 6, title=f"群 {n}") for n in range(5)]
    await world.say(6, made[2], "最后一句")
    pages, after = [], 0
    while True:
        page = await world.call(5, api.ListConversations(after=after, limit=2))
        pages.append(page)
        if page.next is None:
            break
        after = page.next
    listed = [c for page in pages for c in page.conversations if c.conversation_id >= made[0]]
    assert [c.conversation_id for c in listed] == made
    assert [c.title for c in listed] == [f"群 {n}" for n in range(5)]
    last = listed[2].last
    assert last is not None
    assert (last.kind, last.body, last.sender_id, listed[2].unread) == ("text", "最后一句", 6, 1)


async def test_members_come_in_pages(world: World) -> None:
    i = await world.group(3, 1, 2, 4, 5)
    detail = await world.call(1, api.GetConversation(conversation_id=i))
    assert [(m.person_id, m.role) for m in detail.members] == [
        (1, "member"), (2, "member"), (3, "owner"), (4, "member"), (5, "member"),
    ]  # fmt: skip
    first = await world.call(1, api.ListMembers(conversation_id=i, limit=3))
    rest = await world.call(1, api.ListMembers(conversation_id=i, after=first.next or 0, limit=3))
    assert first.members + rest.members == detail.members
    assert rest.next is None


async def test_who_leaves_the_enterprise_leaves_its_conversations(world: World) -> None:
    owned, joined = await world.group(6, 3, 4), await world.group(4, 6)
    direct = (await world.call(6, api.OpenDirect(person_id=4))).conversation_id
    elsewhere = await world.call(8, api.CreateGroup(title="别处", members=[21]), enterprise=2)
    with pytest.raises(NotFound):  # it does not exist from outside
        await world.runtime.calls.perform(
            "im.people.remove",
            {"person_id": "6"},
            principal=somebody(person_id=4),
            source=Source(edge="http"),
        )
    before = len((await world.call(6, api.ListConversations(limit=200))).conversations)
    assert await world.call(4, api.RemovePerson(person_id=6)) == before
    assert (await world.call(6, api.ListConversations())).conversations == []
    assert (await world.call(3, api.GetConversation(conversation_id=owned))).owners == [3]
    assert (await world.call(4, api.GetConversation(conversation_id=joined))).member_count == 1
    alone = await world.call(4, api.GetConversation(conversation_id=direct))
    assert (alone.member_count, alone.peer_id) == (1, 6)
    await world.call(4, api.RemovePerson(person_id=8))
    assert (await world.call(8, api.ListConversations(), enterprise=2)).conversations != []
    assert elsewhere.member_count == 2
    back = await world.call(4, api.OpenDirect(person_id=6))
    assert (back.conversation_id, back.member_count) == (direct, 2)
    await world.check_chains()


async def test_entries_applied_to_an_old_state_give_the_new_one(world: World) -> None:
    """What a client has followed by entries is what a fresh look shows."""
    i = await world.group(1, 2, 3)
    followed, owners, title = {1, 2, 3}, {1}, ""
    await world.call(1, api.AddMembers(conversation_id=i, members=[4, 5]))
    await world.call(1, api.SetOwner(conversation_id=i, person_id=5, transfer=True))
    await world.call(5, api.Rename(conversation_id=i, title="改名"))
    await world.call(5, api.RemoveMember(conversation_id=i, person_id=1))
    await world.call(5, api.RemoveMember(conversation_id=i, person_id=5))
    for kind, _, body in await told(world, i):
        assert isinstance(body, dict)
        if kind == "membership":
            followed = (followed | set(map(int, body["added"]))) - set(map(int, body["removed"]))
            owners &= followed
        elif kind == "owners":
            owners = (owners | set(map(int, body["added"]))) - set(map(int, body["removed"]))
        elif kind == "title":
            title = body["title"]
    detail = await world.call(2, api.GetConversation(conversation_id=i))
    assert {m.person_id for m in detail.members} == followed
    assert set(detail.owners) == owners
    assert detail.title == title
