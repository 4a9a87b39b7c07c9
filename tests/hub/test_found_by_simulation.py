"""What `tests/sim` found, once more on the real engines."""

from __future__ import annotations

from typing import Any

import pytest

from hub import api
from tests.hub.harness import World


async def test_out_and_in_again_before_the_node_looks(world: World) -> None:
    """Seed 21: both entries come in one read; the only follower's room was closed by one and used by the other."""
    node = await world.node("a")
    name = await world.conversation(1, 2)
    client = await world.client("a", 1)

    async def out_and_in(ctx: Any) -> None:
        await api.change_members(ctx, int(name), removed=[1])
        await api.change_members(ctx, int(name), added=[1])

    await world.together(out_and_in)
    await client.when(lambda f: f[0] == 7 and f[2] == name and f[3] == 3)
    assert int(name) in node.rooms
    assert (await client.say(name, "here I am again"))[0] == 6
    await client.when(lambda f: f[0] == 7 and f[2] == name and f[3] == 4)


async def test_a_mark_ahead_of_the_room_counts_once_the_room_is_there(world: World) -> None:
    """Seed 7: the client has read an entry by SYNC that the node has not heard of, and acknowledges it once."""
    node = await world.node("a")
    name = await world.conversation(1, 2)
    client, other = await world.client("a", 1), await world.client("a", 2)
    await client.say(name, "hello")
    room = node.rooms[int(name)]
    newest, room.head = (
        room.head,
        room.head - 1,
    )  # as if it had not come yet; the node will find out by itself
    await other.send(8, 0, [[name, newest]])
    await client.when(lambda f: f[0] == 11 and f[2] == name and ["2", newest, 0] in f[3])


async def test_a_slow_client_is_told_that_it_was_taken_out(world: World) -> None:
    """Seed 131: the entry that says so was one of those that a slow connection is not sent."""
    node = await world.node("a")
    name = await world.conversation(1, 2)
    client = await world.client("a", 1)
    (conn,) = node.connections_of(1, 1)
    conn.slow = True
    await world.change(name, removed=[1])
    gap = await client.when(lambda f: f[0] == 12 and f[2] == name)
    assert gap[5] == "forbidden"


async def test_taken_out_while_coming_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 10144: the subscriptions were read, the room saw the removal, and then the session entered all the same."""
    node = await world.node("a")
    name = await world.conversation(1, 2)
    other = await world.client("a", 2)
    load_rings = node.admission._load_rings

    async def slowly(*args: Any) -> None:
        await load_rings(*args)
        await world.change(name, removed=[1])
        await other.when(
            lambda f: f[0] == 7 and f[2] == name and f[6] == "membership" and f[8]["removed"] == ["1"]
        )

    monkeypatch.setattr(node.admission, "_load_rings", slowly)
    client = await world.client("a", 1, resume={name: 1})
    (conn,) = node.connections_of(1, 1)
    assert conn.session is not None
    assert int(name) not in conn.session.floors
    await client.when(lambda f: f[0] == 12 and f[2] == name and f[5] == "forbidden")
