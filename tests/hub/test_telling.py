"""What the bank's services tell one person: signals that need not arrive, and words in the inbox that do."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest
import websockets
from websockets.typing import Subprotocol

from core.errors import Invalid
from hub import api
from hub.client import Client, Signal, Token
from hub.node.session import INBOX
from hub.streams.store import StreamStore
from hub.wire.codec import unpack
from tests.hub.harness import ENTERPRISE, World

PROGRESS = {"file_id": "7", "done": 500, "size": 1_000}


def signal(world: Any, *what: Any) -> None:
    """A world has as much of a `Runtime` as is needed."""
    api.signal_person(world, *what)


def is_signal(frame: list[Any]) -> bool:
    return bool(frame[0] == 17)


async def test_a_signal_reaches_every_session_of_that_person_in_that_enterprise_on_every_node(
    world: World,
) -> None:
    for name in ("a", "b"):
        await world.node(name)
    phone = await world.client("a", 1, device="phone")
    desk = await world.client("b", 1, device="desk")
    elsewhere = await world.client("b", 1, device="phone", enterprise=2)
    other = await world.client("a", 2)
    text = await websockets.connect(
        f"ws://127.0.0.1:{world.ports['a']}/", subprotocols=[Subprotocol("bankhub.v1.json")], compression=None
    )
    await text.send(f'[[1, 1, "1:{ENTERPRISE}", "page"]]')
    await text.recv()
    signal(world, ENTERPRISE, 1, "upload", PROGRESS)
    for client in (phone, desk):
        assert await client.when(is_signal) == [17, 0, "inbox", "upload", PROGRESS, "0"]
    assert '[17,0,"inbox","upload",{"done":500,"file_id":"7","size":1000},"0"]' in await text.recv()
    await text.close()
    signal(world, ENTERPRISE, 2, "upload", None)
    assert (await other.when(is_signal))[3:] == ["upload", None, "0"]  # behind the other one, on the same way
    await elsewhere.ask(19, 0)
    assert not any(is_signal(frame) for frame in elsewhere.frames)
    assert sum(is_signal(frame) for frame in other.frames) == 1


async def test_a_slow_session_does_without_and_others_do_not(world: World) -> None:
    node = await world.node("a")
    slow, quick = await world.client("a", 1, device="phone"), await world.client("a", 1, device="desk")
    conn = next(c for c in node.sessions() if c.session is not None and c.session.device == "phone")
    conn.slow = True
    node.signal_person(ENTERPRISE, 1, "upload", 1)
    conn.slow = False
    node.signal_person(ENTERPRISE, 1, "upload", 2)
    assert (await slow.when(is_signal))[4] == 2
    assert (await quick.when(is_signal))[4] == 1


async def test_a_signal_is_small_and_no_name_of_the_hubs_own(world: World) -> None:
    await world.node("a")
    client = await world.client("a", 1)
    fits = "x" * (1_024 - 3)
    assert len(msgpack.packb(fits)) == 1_024
    for what, value in (
        ("upload", fits + "x"), ("upload", {1: 2}), ("upload", object()), ("upload", 2**64), ("", 1), ("x" * 33, 1),
        ("presence", 1), ("typing", True),
    ):  # fmt: skip
        with pytest.raises(Invalid):
            signal(world, ENTERPRISE, 1, what, value)
    signal(world, ENTERPRISE, 1, "upload", fits)
    assert (await client.when(is_signal))[4] == fits
    await client.ask(19, 0)
    assert sum(is_signal(frame) for frame in client.frames) == 1


async def test_the_client_hands_signals_over_and_survives_those_it_does_not_understand(world: World) -> None:
    node = await world.node("a")

    async def token() -> Token:
        return Token(f"1:{ENTERPRISE}")

    heard: list[Signal] = []
    news = asyncio.Event()

    def listen(what: object) -> None:
        if isinstance(what, Signal):
            heard.append(what)
            news.set()

    async with Client(
        f"ws://127.0.0.1:{world.ports['a']}/", token, device="phone", on_heard=listen
    ) as client:
        await client.online()
        for conn in node.sessions():
            conn.push((17, 0, None, "presence", None))
            conn.push((17, 0, None, "presence", {"online": True}))
            conn.push((17, 0))
        signal(world, ENTERPRISE, 1, "upload", PROGRESS)
        async with asyncio.timeout(10):
            while not any(one.what == "upload" for one in heard):
                news.clear()
                await news.wait()
        assert heard[-1] == Signal(INBOX, "upload", PROGRESS, "0")
        assert client.connections == 1


async def test_a_word_in_the_inbox_is_committed_with_what_it_is_about(world: World) -> None:
    for name in ("a", "b"):
        await world.node(name)
    client = await world.client("b", 1)

    async def tell(ctx: Any) -> None:
        await api.tell(
            ctx, ENTERPRISE, 1, "file", {"file_id": "7", "state": "ready", "reason": None}, key="file-7"
        )

    async def tell_and_fail(ctx: Any) -> None:
        await api.tell(ctx, ENTERPRISE, 1, "file", {"file_id": "8", "state": "ready", "reason": None})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await world.together(tell_and_fail)
    await world.together(tell)
    entry = await client.when(lambda f: f[0] == 7)
    assert (entry[2], entry[3], entry[5:7], entry[8]) == (
        "inbox", 1, ["0", "file"], {"file_id": "7", "state": "ready", "reason": None}
    )  # fmt: skip


async def test_who_was_never_here_finds_it_when_they_come(world: World) -> None:
    await world.node("a")
    entry: api.Entry = await world.together(
        lambda ctx: api.tell(ctx, ENTERPRISE, 77, "file", {"file_id": "9"})
    )
    assert entry.seq == 1
    client = await world.client("a", 77)
    page = await client.ask(3, "inbox", 0, 10)
    assert [(e[1], e[4], e[6]) for e in page[5]] == [(1, "file", {"file_id": "9"})]
    welcome = await client.until(2)
    assert welcome[7]["head"] == 1


async def test_an_inbox_is_opened_once_whoever_tells_first(world: World) -> None:
    """Several services tell somebody new at once, who says HELLO at that moment."""
    await world.node("a")
    for person in range(200, 205):

        async def tell(ctx: Any, person: int = person) -> None:
            await api.tell(ctx, ENTERPRISE, person, "file", {"file_id": "9"})

        client, *_ = await asyncio.gather(
            world.client("a", person), *(world.together(tell) for _ in range(4))
        )
        page = await client.ask(3, "inbox", 0, 10)
        assert [e[1] for e in page[5]] == [1, 2, 3, 4]


async def test_a_job_tells_without_a_context(world: World) -> None:
    await world.node("a")
    client = await world.client("a", 1)
    made: list[api.Entry] = []

    async def step(tx: Any, runtime: Any = world) -> None:
        made.append(await api.tell(api.Within(runtime, tx), ENTERPRISE, 1, "file", {"file_id": "5"}))

    await world.db.run(step)
    assert (await client.when(lambda f: f[0] == 7, within_s=1.5))[8] == {
        "file_id": "5"
    }  # told, not found out
    (stored,) = await StreamStore(world.db).entries(made[0].stream_id, made[0].seq - 1, 5)
    assert unpack(stored.body or b"") == {"file_id": "5"}
