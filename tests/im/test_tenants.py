"""Every action of im against everybody it is not for: the other enterprise, those outside, those who were removed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.actions import INTERNAL, Command
from core.context import Source
from core.errors import BankhubError, Forbidden, NotFound, Unauthenticated
from core.rng import SystemRng
from im import api
from im.service import ImService
from tests.im.conftest import World
from tests.world import somebody

Make = Callable[[int, int], Command]  # type: ignore[type-arg]


def _key() -> str:
    return SystemRng().token()[:20]


ON_A_CONVERSATION: dict[str, Make] = {
    "im.conversations.get": lambda i, p: api.GetConversation(conversation_id=i),
    "im.conversations.members": lambda i, p: api.ListMembers(conversation_id=i),
    "im.conversations.add_members": lambda i, p: api.AddMembers(conversation_id=i, members=[p]),
    "im.conversations.remove_member": lambda i, p: api.RemoveMember(conversation_id=i, person_id=2),
    "im.conversations.rename": lambda i, p: api.Rename(conversation_id=i, title="被改名"),
    "im.conversations.set_owner": lambda i, p: api.SetOwner(conversation_id=i, person_id=2),
    "im.conversations.disband": lambda i, p: api.Disband(conversation_id=i),
    "im.messages.send": lambda i, p: api.Send(conversation_id=i, key=_key(), body="闯入"),
    "im.messages.recall": lambda i, p: api.Recall(conversation_id=i, seq=3, key=_key()),
    "im.messages.history": lambda i, p: api.History(conversation_id=i),
    "im.messages.readers": lambda i, p: api.WhoHasRead(conversation_id=i, seq=3),
}
ON_PEOPLE: dict[str, Make] = {
    "im.conversations.open_direct": lambda i, p: api.OpenDirect(person_id=p),
    "im.conversations.create_group": lambda i, p: api.CreateGroup(title="越界", members=[p]),
}
ON_ONESELF = {"im.conversations.list"}


def test_every_action_is_tried_here() -> None:
    tried = ON_A_CONVERSATION.keys() | ON_PEOPLE.keys() | ON_ONESELF
    assert {a.name for a in ImService.actions if a.needs is not INTERNAL} == tried
    assert {a.name for a in ImService.actions if a.needs is INTERNAL} == {"im.people.remove"}


@pytest.mark.parametrize("action", ON_A_CONVERSATION)
async def test_a_conversation_is_not_there_for_others(world: World, action: str) -> None:
    make = ON_A_CONVERSATION[action]
    i = await world.group(1, 2, 3)
    await world.say(1, i, "内部消息")
    await world.call(1, api.RemoveMember(conversation_id=i, person_id=3))
    before = await world.entries(i)
    for person, enterprise in ((5, 1), (3, 1), (21, 2), (8, 2), (1, 2)):
        # of the house but not in it; removed; of another house; of both; a member with the other house's token
        with pytest.raises(NotFound):
            await world.call(person, make(i, person), enterprise=enterprise)
    with pytest.raises(Unauthenticated):
        await world.runtime.calls.perform(
            action, make(i, 5).model_dump(), principal=None, source=Source(edge="http")
        )
    assert await world.entries(i) == before
    assert (await world.call(1, api.GetConversation(conversation_id=i))).member_count == 2


@pytest.mark.parametrize("action", ON_PEOPLE)
async def test_people_of_other_enterprises_are_not_there(world: World, action: str) -> None:
    make = ON_PEOPLE[action]
    for me, enterprise, other in ((1, 1, 21), (21, 2, 1), (1, 1, 0), (8, 2, 1)):
        with pytest.raises(NotFound):
            await world.call(me, make(0, other), enterprise=enterprise)
    with pytest.raises(Forbidden):  # a token of an enterprise one does not belong to (any more)
        await world.call(1, make(0, 21), enterprise=2)
    service = somebody("service", person_id=0)
    with pytest.raises(BankhubError):
        await world.runtime.calls.call(make(0, 1), principal=service)


async def test_lists_show_ones_own_enterprise_only(world: World) -> None:
    here = await world.group(8, 1)
    there = (await world.call(8, api.CreateGroup(title="那边", members=[21]), enterprise=2)).conversation_id
    for enterprise, mine, not_mine in ((1, here, there), (2, there, here)):
        listed = await world.call(8, api.ListConversations(limit=200), enterprise=enterprise)
        ids = [c.conversation_id for c in listed.conversations]
        assert mine in ids
        assert not_mine not in ids


async def test_the_hub_says_the_same_to_strangers(world: World) -> None:
    i = await world.group(1, 2)
    await world.say(1, i, "内部消息")
    for person, enterprise in ((5, 1), (21, 2), (1, 2)):
        client = await world.client(person, enterprise=enterprise, resume={str(i): 0})
        for frame in (
            (3, str(i), 0, 10), (5, str(i), _key(), "text", "闯入", None), (10, str(i), 3, _key(), "recall", None),
            (17, str(i), "typing", True),
        ):  # fmt: skip
            answer = await client.ask(*frame)
            assert (answer[0], answer[2]) == (21, "not_found")
        assert "内部消息" not in repr(client.frames)
    assert len(await world.entries(i)) == 3
