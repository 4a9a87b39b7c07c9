"""Messages by their actions, and by the hub beside them."""

from __future__ import annotations

import pytest

from core.errors import Conflict, Forbidden, Invalid, NotFound
from im import api
from tests.im.conftest import World

DAY_MS = 24 * 3_600_000


async def test_the_same_key_is_the_same_message_on_both_ways_in(world: World) -> None:
    i = await world.group(1, 2)
    options = {"reply_to": 2, "mentions": ["2"], "must_ack": True}
    client = await world.client(1)
    by_hub = await client.ask(5, str(i), "key-a", "text", "收到请回复", options)
    assert by_hub[0] == 6
    command = api.Send(
        conversation_id=i,
        key="key-a",
        body="收到请回复",
        options=api.Options(reply_to=2, mentions=[2], must_ack=True),
    )
    by_action = await world.call(1, command)
    assert (by_action.seq, str(by_action.entry_id), by_action.digest) == (by_hub[4], by_hub[5], by_hub[8])
    assert by_action.duplicate
    for other in (
        command.model_copy(update={"body": "别的"}),
        command.model_copy(update={"options": api.Options()}),
        command.model_copy(update={"conversation_id": await world.group(1, 3)}),
    ):
        with pytest.raises(Conflict):
            await world.call(1, other)
    with pytest.raises(Invalid):
        await world.call(
            1, api.Send(conversation_id=i, key="key-c", body="回谁", options=api.Options(reply_to=99))
        )
    first = await world.say(1, i, "先用动作", key="key-b")
    again = await client.ask(5, str(i), "key-b", "text", "先用动作", None)
    assert (again[4], again[7]) == (first.seq, True)
    assert not first.duplicate
    assert len(await world.entries(i)) == 4
    await world.check_chains()


async def test_what_an_action_sends_arrives_on_the_hub_and_counts_as_read_by_its_sender(world: World) -> None:
    i = await world.group(1, 2)
    client = await world.client(2)
    sent = await world.say(1, i, "你好")
    entry = await client.when(lambda f: f[0] == 7 and f[6] == "text")
    assert entry[2:9] == [str(i), sent.seq, str(sent.entry_id), "1", "text", sent.time_ms, "你好"]
    assert (await world.call(1, api.GetConversation(conversation_id=i))).unread == 0
    with pytest.raises(Invalid):
        await world.call(1, api.Send(conversation_id=i, key="k1", body=" "))
    with pytest.raises(Invalid):
        await world.call(1, api.Send(conversation_id=i, key="k2", kind="image", body="x"))
    with pytest.raises(Forbidden):
        await world.call(1, api.Send(conversation_id=i, key="k3", kind="membership", body={}))


async def test_the_hub_refuses_what_no_client_says(world: World) -> None:
    i = await world.group(1, 2)
    client = await world.client(1)
    for kind, code in (
        ("membership", "forbidden"),
        ("recall", "forbidden"),
        ("image", "invalid"),
        ("x", "invalid"),
    ):
        answer = await client.ask(5, str(i), f"key-{kind}", kind, {"added": ["3"], "removed": []}, None)
        assert (answer[0], answer[2]) == (21, code)
    assert len(await world.entries(i)) == 2


async def test_one_recalls_ones_own_for_a_day_and_an_owner_anything(world: World) -> None:
    i = await world.group(1, 2, 3)
    mine, old, last = [await world.say(2, i, text) for text in ("手滑", "旧话", "违规")]
    with pytest.raises(Forbidden):
        await world.call(3, api.Recall(conversation_id=i, seq=mine.seq, key="r-1"))
    done = await world.call(2, api.Recall(conversation_id=i, seq=mine.seq, key="r-2"))
    again = await world.call(2, api.Recall(conversation_id=i, seq=mine.seq, key="r-2"))
    assert (again.seq, again.duplicate, done.duplicate) == (done.seq, True, False)
    with pytest.raises(Conflict):
        await world.call(2, api.Recall(conversation_id=i, seq=mine.seq, key="r-3"))
    world.clock.later_ms = DAY_MS + 1
    with pytest.raises(Forbidden):
        await world.call(2, api.Recall(conversation_id=i, seq=old.seq, key="r-4"))
    client = await world.client(2)
    assert (await client.ask(10, str(i), old.seq, "r-5", "recall", None))[2] == "forbidden"
    await world.call(1, api.Recall(conversation_id=i, seq=last.seq, key="r-6"))
    push = await client.when(lambda f: f[0] == 7 and f[6] == "recall")
    assert (push[5], push[8]) == ("1", {"seq": last.seq, "value": None})
    bodies = {e.seq: e.body for e in await world.entries(i)}
    assert (bodies[mine.seq], bodies[last.seq]) == (None, None)
    assert bodies[old.seq] is not None
    shown = {e.seq: e for e in (await world.call(3, api.History(conversation_id=i))).entries}
    assert shown[mine.seq].body is None
    assert shown[mine.seq].digest == mine.digest
    for seq in (1, 2, done.seq):
        with pytest.raises(Invalid):
            await world.call(1, api.Recall(conversation_id=i, seq=seq, key=f"r-no-{seq}"))
    await world.check_chains()


async def test_a_recall_takes_what_was_edited_with_it(world: World) -> None:
    i = await world.group(1, 2)
    client = await world.client(1)
    sent, other = await world.say(1, i, "密码是一"), await world.say(1, i, "别的话")
    for seq, text in ((sent.seq, "密码是二"), (other.seq, "另外的话")):
        assert (await client.ask(10, str(i), seq, f"e-{i}-{seq}", "edit", text))[0] == 6
    assert (await client.ask(10, str(i), sent.seq, f"r-{i}", "recall", None))[0] == 6
    kept = [e.body for e in await world.entries(i) if e.body is not None]
    assert not any("密码".encode() in body for body in kept)
    assert any("另外的话".encode() in body for body in kept)
    reader = await world.client(2, resume={str(i): 2})
    page = await reader.ask(3, str(i), 2, 100)
    assert [e[4] for e in page[5]] == ["text", "text", "edit", "edit", "recall"]
    assert "密码" not in repr([*page, *reader.frames])
    await world.check_chains()


async def test_reactions_and_pins_are_everybodys(world: World) -> None:
    i = await world.group(1, 2)
    sent = await world.say(1, i, "辛苦了")
    client = await world.client(2)
    for n, (change, value) in enumerate((("react", "👍"), ("react", None), ("pin", True), ("pin", False))):
        answer = await client.ask(10, str(i), sent.seq, f"{i}-{n}", change, value)
        assert answer[0] == 6
    for n, (change, wrong, code) in enumerate(
        (
            ("edit", "我没说", "forbidden"),
            ("recall", None, "forbidden"),
            ("react", "a b", "invalid"),
            ("pin", 1, "invalid"),
        )
    ):
        answer = await client.ask(10, str(i), sent.seq, f"{i}-no-{n}", change, wrong)
        assert (answer[0], answer[2]) == (21, code)


async def test_history_goes_both_ways(world: World) -> None:
    i = await world.group(1, 2)
    for n in range(10):
        await world.say(1, i, f"{n}")

    async def page(**asked: int) -> tuple[list[int], bool]:
        found = await world.call(2, api.History(conversation_id=i, **asked))
        return [e.seq for e in found.entries], found.more

    assert await page(limit=3) == ([10, 11, 12], True)
    assert await page(before=10, limit=5) == ([5, 6, 7, 8, 9], True)
    assert await page(before=3, limit=5) == ([1, 2], False)
    assert await page(after=9, limit=5) == ([10, 11, 12], False)
    assert await page(after=0, limit=2) == ([1, 2], True)
    assert await page(before=1) == ([], False)
    assert await page(after=99) == ([], False)
    with pytest.raises(Invalid):
        await page(before=3, after=1)


async def test_who_has_read(world: World) -> None:
    i = await world.group(1, 2, 3, 4)
    sent = await world.say(1, i, "请阅")
    two, three = await world.client(2), await world.client(3)
    await two.send(9, 1, [[str(i), sent.seq]])
    await three.send(8, 1, [[str(i), sent.seq]])
    await world.say(4, i, "收到")
    await world.call(1, api.AddMembers(conversation_id=i, members=[5]))

    async def readers() -> dict[int, tuple[bool, bool]]:
        found = await world.call(1, api.WhoHasRead(conversation_id=i, seq=sent.seq))
        return {r.person_id: (r.delivered, r.read) for r in found.readers}

    wanted = {2: (True, True), 3: (True, False), 4: (True, True)}  # 5 came later: it is not for them
    for _ in range(100):
        if await readers() == wanted:
            break
        await two.ask(19, 0)
    assert await readers() == wanted
    found = await world.call(1, api.WhoHasRead(conversation_id=i, seq=sent.seq))
    two_read = next(r for r in found.readers if r.person_id == 2)
    assert two_read.read_ms is not None
    assert two_read.read_ms >= sent.time_ms
    page = await world.call(1, api.WhoHasRead(conversation_id=i, seq=sent.seq, limit=2))
    assert [r.person_id for r in page.readers] == [2]
    assert page.next == 2
    for seq in (99,):
        with pytest.raises(NotFound):
            await world.call(1, api.WhoHasRead(conversation_id=i, seq=seq))
    with pytest.raises(NotFound):
        await world.call(5, api.WhoHasRead(conversation_id=i, seq=sent.seq))
