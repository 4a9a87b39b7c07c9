"""Messages on two nodes: committed before answered, once, in order, for members only."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from hub.streams.store import StreamStore
from hub.verify import verify
from tests.hub.harness import World


async def test_a_message_reaches_every_device_on_every_node(world: World) -> None:
    await world.node("a")
    await world.node("b")
    room = await world.conversation(1, 2)
    here, phone, tablet = (
        await world.client("a", 1), await world.client("b", 2), await world.client("a", 2, device="tablet")
    )  # fmt: skip
    sent = await here.say(room, "早上好", mentions=["2"])
    assert sent[0] == 6
    for client in (here, phone, tablet):
        entry = await client.when(lambda f: f[0] == 7 and f[6] == "text")
        assert entry[2:6] == [room, sent[4], sent[5], "1"]
        assert entry[8:] == ["早上好", sent[8], {"mentions": ["2"]}]
    (row,) = await StreamStore(world.db).entries(int(room), sent[4] - 1, 10)
    assert (row.seq, str(row.entry_id), row.digest) == (sent[4], sent[5], sent[8])


async def test_the_same_key_from_two_nodes_at_once_is_one_message(world: World) -> None:
    await world.node("a")
    await world.node("b")
    room = await world.conversation(1, 2)
    one, other = await world.client("a", 1), await world.client("b", 1, device="tablet")
    for round_ in range(20):
        answers = await asyncio.gather(
            one.say(room, f"text {round_}", key=f"{room}-{round_}"),
            other.say(room, f"text {round_}", key=f"{room}-{round_}"),
        )
        assert answers[0][3:7] == answers[1][3:7]
        assert sorted(answer[7] for answer in answers) == [False, True]
    assert len(await StreamStore(world.db).entries(int(room), 1, 100)) == 20


async def test_the_same_key_with_other_content_is_a_conflict(world: World) -> None:
    await world.node("a")
    await world.node("b")
    room, second = await world.conversation(1, 2), await world.conversation(1, 3)
    one, other = await world.client("a", 1), await world.client("b", 1, device="tablet")
    assert (await one.say(room, "pay 100", key=room))[0] == 6
    for client in (one, other):
        for answer in (
            await client.say(room, "pay 900", key=room),
            await client.say(second, "pay 100", key=room),
            await client.say(room, "pay 100", key=room, must_ack=True),
        ):
            assert answer[0] == 21
            assert answer[2] == "conflict"
    assert (await one.say(room, "pay 100", key=room))[7] is True


async def test_order_is_the_same_for_all_under_concurrency(world: World) -> None:
    await world.node("a", sends_per_s=1000, sends_burst=1000)
    await world.node("b", sends_per_s=1000, sends_burst=1000)
    people = [1, 2, 3, 4, 5, 6]
    room = await world.conversation(*people)
    clients = [await world.client("ab"[p % 2], p) for p in people]

    async def talk(client: object) -> None:
        for n in range(25):
            answer = await client.say(room, f"{n}")  # type: ignore[attr-defined]
            assert answer[0] == 6

    await asyncio.gather(*(talk(client) for client in clients))
    last = 1 + 25 * len(people)
    for client in clients:
        await client.when(lambda f: f[0] == 7 and f[3] == last)
        assert client.seqs(room) == list(range(2, last + 1)), client.person
    assert clients[0].texts(room) == clients[1].texts(room)
    result = await verify(world.db, int(room))
    assert (result.entries, result.faults) == (last, [])


async def test_who_is_removed_neither_hears_nor_speaks_nor_reads(world: World) -> None:
    await world.node("a")
    await world.node("b")
    room = await world.conversation(1, 2, 3)
    one, two = await world.client("a", 1), await world.client("b", 2)
    await one.say(room, "before")
    await two.when(lambda f: f[0] == 7 and f[8] == "before")
    await world.change(room, removed=[2])
    last = await two.when(lambda f: f[0] == 7 and f[6] == "membership")
    assert last[8]["removed"] == ["2"]
    await one.say(room, "after")
    await one.when(lambda f: f[0] == 7 and f[8] == "after")
    assert (await two.say(room, "I am still here"))[2] == "not_found"
    assert (await two.ask(3, room, 0, 10))[2] == "not_found"
    assert (await two.ask(10, room, 2, f"{room}-k-amend", "react", "x"))[2] == "not_found"
    assert "after" not in two.texts(room)


async def test_a_removed_member_loses_the_race_even_if_the_node_has_not_heard(world: World) -> None:
    node = await world.node("a")
    room = await world.conversation(1, 2)
    two = await world.client("a", 2)
    node.recovery.changed = lambda changes: None  # type: ignore[method-assign]  # this node hears nothing
    await world.change(room, removed=[2])
    answer = await two.say(room, "too late")
    assert (answer[0], answer[2]) == (21, "forbidden")


async def test_who_is_added_hears_at_once_and_from_there_on(world: World) -> None:
    await world.node("a")
    await world.node("b")
    room = await world.conversation(1)
    one, two = await world.client("a", 1), await world.client("b", 2)
    await one.say(room, "not for two")
    await world.change(room, added=[2])
    gap = await two.when(lambda f: f[0] in (7, 12) and f[2] == room)
    assert gap[3] == 3
    await one.say(room, "for two")
    await two.when(lambda f: f[0] == 7 and f[8] == "for two")
    page = await two.ask(3, room, 0, 10)
    assert [entry[1] for entry in page[5]] == [3, 4]
    assert (await two.ask(3, room, 1, 10))[2] == "reset"


async def test_an_added_member_may_speak_at_once_on_any_node(world: World) -> None:
    node = await world.node("a")
    two = await world.client("a", 2)
    node.recovery.changed = lambda changes: None  # type: ignore[method-assign]
    room = await world.conversation(1, 2)
    assert (await two.say(room, "here I am"))[0] == 6


@pytest.mark.parametrize("op", ["send", "sync", "amend", "signal"])
async def test_another_enterprises_stream_does_not_exist(world: World, op: str) -> None:
    await world.node("a")
    theirs = await world.conversation(1, 2, enterprise=7)
    mine = await world.client("a", 1)  # the same person, in enterprise 1
    frames: dict[str, list[object]] = {
        "send": [5, theirs, f"{theirs}-s", "text", "hello"],
        "sync": [3, theirs, 0, 10],
        "amend": [10, theirs, 1, f"{theirs}-k", "recall"],
        "signal": [17, theirs, "typing", True],
    }
    answer = await mine.ask(*frames[op])  # type: ignore[arg-type]
    assert answer[2] == "not_found"
    listed = await mine.ask(3, "streams", 0, 200)
    assert theirs not in [entry["stream"] for entry in listed[5]]
    at_home = await world.client("a", 1, device="other", enterprise=7)
    assert (await at_home.say(theirs, "hello"))[0] == 6


async def test_a_recall_removes_the_body_and_keeps_the_chain(world: World) -> None:
    await world.node("a")
    room = await world.conversation(1, 2)
    one, two = await world.client("a", 1), await world.client("a", 2)
    sent = await one.say(room, "a mistake")
    assert (await two.ask(10, room, sent[4], f"{room}-not-mine", "recall"))[2] == "forbidden"
    recalled = await one.ask(10, room, sent[4], f"{room}-recall-1", "recall")
    assert recalled[0] == 6
    entry = await two.when(lambda f: f[0] == 7 and f[6] == "recall")
    assert entry[8] == {"seq": sent[4], "value": None}
    page = await two.ask(3, room, sent[4] - 1, 10)
    assert [e[6] for e in page[5]] == [None, {"seq": sent[4], "value": None}]
    assert (await one.ask(10, room, sent[4], f"{room}-recall-1", "recall"))[7] is True
    assert (await one.ask(10, room, sent[4], f"{room}-recall-2", "recall"))[2] == "conflict"
    result = await verify(world.db, int(room))
    assert (result.removed, result.faults) == (1, [])
    newcomer = await world.client("a", 2, device="second", resume={room: sent[4] - 1})
    await newcomer.when(lambda f: f[0] == 7 and f[6] == "recall")
    assert newcomer.texts(room) == [None]


@pytest.mark.parametrize(
    ("tampering", "why"),
    [
        ("UPDATE hub_entries SET body = '\\xa139' WHERE seq = 3", "content"),
        ("UPDATE hub_entries SET sender_id = 2 WHERE seq = 3", "digest"),
        ("UPDATE hub_entries SET time_ms = time_ms + 1 WHERE seq = 3", "digest"),
        ("UPDATE hub_entries SET digest = content_digest WHERE seq = 3", "digest"),
        ("DELETE FROM hub_entries WHERE seq = 3", "missing"),
        ("UPDATE hub_entries SET body = NULL, options = NULL WHERE seq = 3", "no recall"),
        ("DELETE FROM hub_entries WHERE seq = 6", "missing"),
        ("UPDATE hub_streams SET digest = '\\x00' WHERE head = 6", "head"),
    ],
)
async def test_verification_finds_what_was_tampered_with(
    world: World, database: str, tampering: str, why: str
) -> None:
    await world.node("a")
    room = await world.conversation(1, 2)
    one = await world.client("a", 1)
    for n in range(5):
        await one.say(room, f"{n}")
    assert (await verify(world.db, int(room))).faults == []
    connection = await asyncpg.connect(database)
    assert await connection.execute(f"{tampering} AND stream_id = {room}") in ("UPDATE 1", "DELETE 1")
    await connection.close()
    (fault,) = (await verify(world.db, int(room))).faults
    assert why in fault.why


async def test_a_reply_is_to_something_that_its_sender_may_see(world: World) -> None:
    await world.node("a")
    room = await world.conversation(1, 2)
    one = await world.client("a", 1)
    first = await one.say(room, "问题")
    assert (await one.say(room, "回答", reply_to=first[4]))[0] == 6
    for nothing in (first[4] + 50, 2**53):
        refused = await one.say(room, "回答", reply_to=nothing)
        assert (refused[0], refused[2], refused[4]) == (21, "invalid", False)
    await world.change(room, added=[3])
    late = await world.client("a", 3)
    refused = await late.say(room, "回答", reply_to=first[4])
    assert refused[2] == "invalid", "from before their time"
    assert len(await StreamStore(world.db).entries(int(room), first[4] - 1, 100)) == 3


async def test_cards_are_refused_for_good_until_they_are_served(world: World) -> None:
    await world.node("a")
    client = await world.client("a", 1)
    answer = await client.ask(13, "1", 1, "approve", None, "a-key", None)
    assert (answer[0], answer[2], answer[4]) == (21, "unavailable", False)
