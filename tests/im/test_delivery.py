"""Membership as connected clients live it: in at once, out at once, nothing before, nothing after."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from core.db import Transaction
from core.errors import Forbidden, NotFound, TooManyRequests
from gateway.identity import store as identity
from im import api
from tests.im.conftest import World


async def test_who_is_added_hears_from_then_on(world: World) -> None:
    i = await world.group(1, 2)
    await world.say(1, i, "以前的话")
    client = await world.client(3)
    await world.call(1, api.AddMembers(conversation_id=i, members=[3]))
    await client.when(lambda f: f[0] in (7, 12) and f[2] == str(i), within_s=2)
    sent = await world.say(1, i, "欢迎")
    await client.when(lambda f: f[0] == 7 and f[3] == sent.seq)
    page = await client.ask(3, str(i), 0, 100)
    assert [e[4] for e in page[5]] == ["membership", "text"]
    assert "以前的话" not in repr(client.frames)
    assert (await client.ask(10, str(i), 3, f"{i}", "react", "👍"))[2] == "not_found"
    streams = await client.ask(3, "streams", 0, 100)
    mine = next(s for s in streams[5] if s["stream"] == str(i))
    listed = next(
        c for c in (await world.call(3, api.ListConversations())).conversations if c.conversation_id == i
    )
    assert {k: mine[k] for k in ("head", "floor", "read", "unread")} == {
        k: getattr(listed, k) for k in ("head", "floor", "read", "unread")
    }
    assert mine["unread"] == 2


async def test_who_is_removed_is_out_within_two_seconds_on_every_device(world: World) -> None:
    i = await world.group(1, 2, 3)
    client = await world.client(3)
    assert (await client.say(str(i), "还在"))[0] == 6
    await world.call(1, api.RemoveMember(conversation_id=i, person_id=3))
    entry = await client.when(
        lambda f: f[0] == 7 and f[6] == "membership" and f[8]["removed"] == ["3"], within_s=2
    )
    after = await world.say(1, i, "他走了")
    for frame in (
        (5, str(i), "k-out", "text", "还在吗", None),
        (3, str(i), 0, 10),
        (10, str(i), 3, "k-r", "recall", None),
    ):
        answer = await client.ask(*frame)
        assert (answer[0], answer[2]) == (21, "not_found")
    assert client.seqs(str(i))[-1] == entry[3] == after.seq - 1
    assert "他走了" not in repr(client.frames)
    again = await world.client(3, resume={str(i): 0})
    await again.ask(19, 0)
    assert "他走了" not in repr(again.frames)


def _is_membership(room: str, frame: list[Any]) -> bool:
    return (frame[0], frame[2]) == (7, room) and bool(frame[6] == "membership")


async def test_who_leaves_the_enterprise_hears_nothing_more(world: World) -> None:
    rooms = [await world.group(1, 2, 7) for _ in range(5)]
    client = await world.client(7)
    await world.call(1, api.RemovePerson(person_id=7))
    for room in map(str, rooms):
        await client.when(partial(_is_membership, room), within_s=2)
        await world.say(1, int(room), "之后的话")
    await client.ask(19, 0)
    assert "之后的话" not in repr(client.frames)


async def test_two_who_open_a_direct_conversation_at_once_get_the_same_one(world: World) -> None:
    for one, other in ((1, 2), (3, 4), (5, 6), (2, 5)):
        opened = await asyncio.gather(
            *(
                world.call(*who)
                for who in 4
                * [(one, api.OpenDirect(person_id=other)), (other, api.OpenDirect(person_id=one))]
            )
        )
        (i,) = {o.conversation_id for o in opened}
        assert [e.kind for e in await world.entries(i)] == ["membership"]
        assert {o.member_count for o in opened} == {2}


async def test_the_same_two_without_the_lock_on_memberships(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unique pair alone decides, whatever the composition root hands in as `People`."""

    class Everybody:
        async def active(self, tx: object, enterprise_id: int, person_ids: list[int]) -> set[int]:
            return set(person_ids)

    im = world.runtime.calls.dispatcher._services["im"]
    monkeypatch.setattr(im, "people", Everybody())
    for other in range(40, 45):
        opened = await asyncio.gather(
            *(world.call(39, api.OpenDirect(person_id=other)) for _ in range(3)),
            *(world.call(other, api.OpenDirect(person_id=39)) for _ in range(3)),
        )
        (i,) = {o.conversation_id for o in opened}
        assert len(await world.entries(i)) == 1


async def test_a_message_is_before_the_removal_or_refused(world: World) -> None:
    """Whoever talks while being removed and added again: what was answered SENT lies within their time."""
    i = await world.group(1, 2, 3)
    client = await world.client(3)
    stop = asyncio.Event()
    sent: list[int] = []

    async def talk_on_the_hub() -> None:
        while not stop.is_set():
            answer = await client.say(str(i), "说")
            if answer[0] == 6:
                sent.append(answer[4])
            else:
                assert answer[2] in ("forbidden", "not_found", "too_many_requests")
                await asyncio.sleep(0.005)

    async def talk_by_actions() -> None:
        while not stop.is_set():
            try:
                sent.append((await world.say(3, i, "说")).seq)
            except (NotFound, Forbidden, TooManyRequests):
                await asyncio.sleep(0.005)

    talking = [asyncio.create_task(talk_on_the_hub()), asyncio.create_task(talk_by_actions())]
    for _ in range(10):
        await world.call(1, api.RemoveMember(conversation_id=i, person_id=3))
        await asyncio.sleep(0.02)
        await world.call(2, api.AddMembers(conversation_id=i, members=[3]))
        await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*talking)

    member, said = False, []
    for entry in (await world.call(1, api.History(conversation_id=i, after=0, limit=200))).entries:
        if entry.kind == "membership":
            member = (member or "3" in entry.body["added"]) and "3" not in entry.body["removed"]
        elif entry.sender_id == 3:
            assert member, entry.seq
            said.append(entry.seq)
    assert sorted(sent) == said
    assert len(said) > 10
    await world.check_chains()


async def test_members_who_come_and_go_at_once_are_counted_right(world: World) -> None:
    i = await world.group(1, 2)
    for _ in range(3):
        await asyncio.gather(
            *(world.call(1, api.AddMembers(conversation_id=i, members=[p])) for p in (3, 4, 5)),
            *(world.call(2, api.AddMembers(conversation_id=i, members=[p])) for p in (3, 4, 5)),
        )
        assert (await world.call(1, api.GetConversation(conversation_id=i))).member_count == 5
        await asyncio.gather(
            *(world.call(1, api.RemoveMember(conversation_id=i, person_id=p)) for p in (3, 4, 5)),
            *(world.call(p, api.RemoveMember(conversation_id=i, person_id=p)) for p in (3, 4, 5)),
            return_exceptions=True,
        )
        detail = await world.call(1, api.GetConversation(conversation_id=i))
        assert (detail.member_count, detail.preview) == (2, [1, 2])
    await world.check_chains()


async def test_a_group_is_never_too_large_whoever_comes_at_once(world: World) -> None:
    i = await world.group(1, 2, 3, 4, 5)
    results = await asyncio.gather(
        *(world.call(p, api.AddMembers(conversation_id=i, members=[q])) for p, q in ((1, 6), (2, 7), (3, 8))),
        return_exceptions=True,
    )
    assert sum(isinstance(r, Exception) for r in results) == 1
    assert (await world.call(1, api.GetConversation(conversation_id=i))).member_count == 7


async def test_nobody_is_added_behind_the_end_of_their_membership(world: World) -> None:
    """An addition and the end of a membership at once: afterwards the person is in no conversation."""
    for n in range(8):
        i = await world.group(1, 2)

        async def end(tx: Transaction) -> None:
            """What the gateway does, in its order."""
            await identity.lock_enterprise(tx, 1)
            assert await identity.leave(tx, 1, 7, world.clock.now())

        async def leave(n: int = n) -> None:
            await asyncio.sleep(0.003 * (n % 4))
            await world.runtime.db.run(end)
            await world.call(1, api.RemovePerson(person_id=7))

        await asyncio.gather(
            world.call(1, api.AddMembers(conversation_id=i, members=[7])), leave(), return_exceptions=True
        )
        assert 7 not in (await world.call(1, api.GetConversation(conversation_id=i))).preview

        async def back(tx: Transaction) -> None:
            await identity.join(tx, 1, 7, title=None, roles=["employee"], now=world.clock.now())

        await world.runtime.db.run(back)
