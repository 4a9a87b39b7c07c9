"""The reference client against real nodes on real engines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hub.client import Client, Closed, Entry, FileCursors, HubError, Item, Notice, Presence, Signal, Token
from hub.client.wire import Marks
from tests.hub.harness import ENTERPRISE, World

_persons = itertools.count(1000)


@pytest.fixture
def us() -> tuple[int, int]:
    """Two people whom no other test knows."""
    return next(_persons), next(_persons)


class Deaf:
    """A bus on which nothing arrives."""

    is_up = True

    def publish(self, channel: str, payload: bytes) -> None: ...
    async def subscribe(self, channel: str, receive: object) -> None: ...
    def on_state(self, changed: object) -> None: ...


class Listener:
    """A client whose items and heard things are collected."""

    def __init__(self, world: World, node: str, person: int, **options: Any) -> None:
        self.items: list[Item] = []
        self.heard: list[Any] = []
        self.tokens = 0

        async def token() -> Token:
            self.tokens += 1
            return Token(f"{person}:{ENTERPRISE}")

        options.setdefault("device", f"device-{person}")
        options.setdefault("verify", True)
        self.client = Client(
            f"ws://127.0.0.1:{world.ports[node]}/", token, on_heard=self.heard.append, **options
        )
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def _collect(self) -> None:
        async for item in self.client.items():
            async with self._news:
                self.items.append(item)
                self._news.notify_all()

    def listen(self) -> None:
        self._task = asyncio.create_task(self._collect())

    async def until(self, done: Callable[[], bool], within_s: float = 15) -> None:
        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(done)

    async def until_seq(self, stream: str, seq: int) -> None:
        await self.until(lambda: bool(self.seqs(stream)) and self.seqs(stream)[-1] >= seq)

    def entries(self, stream: str) -> list[Entry]:
        return [item for item in self.items if isinstance(item, Entry) and item.stream == stream]

    def seqs(self, stream: str) -> list[int]:
        return [entry.seq for entry in self.entries(stream)]

    def notices(self) -> list[Notice]:
        return [item for item in self.items if isinstance(item, Notice)]


@asynccontextmanager
async def listening(world: World, node: str, person: int, **options: Any) -> AsyncIterator[Listener]:
    listener = Listener(world, node, person, **options)
    async with listener.client as client:
        await client.online()
        listener.listen()
        yield listener
    assert listener._task is not None
    await listener._task


async def test_two_people_talk(world: World, us: tuple[int, int]) -> None:
    await world.node("a")
    await world.node("b")
    room = await world.conversation(*us)
    async with listening(world, "a", us[0]) as one, listening(world, "b", us[1]) as two:
        first = await one.client.send(room, "早上好", mentions=[str(us[1])], reply_to=1)
        second = await two.client.send(room, {"text": "好"})
        assert (first.seq, second.seq) == (2, 3)
        for listener in (one, two):
            await listener.until_seq(room, 3)
            assert [e.kind for e in listener.entries(room)] == ["membership", "text", "text"]
            assert [e.text for e in listener.entries(room)[1:]] == ["早上好", "好"]
            assert listener.entries(room)[1].options == {"mentions": [str(us[1])], "reply_to": 1}
            assert listener.notices() == []


async def test_marks_signals_and_presence_are_heard(world: World, us: tuple[int, int]) -> None:
    await world.node("a")
    room = await world.conversation(*us)
    async with listening(world, "a", us[0]) as one:
        assert await one.client.watch([str(us[1]), "3"]) == {str(us[1]): False, "3": False}
        async with listening(world, "a", us[1]) as two:
            await one.client.send(room, "hello")
            await two.until_seq(room, 2)
            two.client.read(room, 2)
            two.client.signal(room, "typing", True)
            async with asyncio.timeout(10):
                while not any(isinstance(h, Marks) and h.of.get(str(us[1])) == (2, 2) for h in one.heard):
                    await asyncio.sleep(0.02)
            assert Signal(room, "typing", True, str(us[1])) in one.heard
            (info,) = [s for s in await two.client.streams() if s.stream == room]
            assert (info.read, info.unread) == (2, 0)
        async with asyncio.timeout(10):
            while not any(isinstance(h, Presence) and not h.online for h in one.heard):
                await asyncio.sleep(0.02)
        assert [h.online for h in one.heard if isinstance(h, Presence)] == [True, False]


async def test_a_client_that_was_away_misses_nothing_and_sees_nothing_twice(
    world: World, us: tuple[int, int]
) -> None:
    await world.node("a")
    room = await world.conversation(*us)
    async with listening(world, "a", us[0]) as one, listening(world, "a", us[1]) as two:
        for round_ in range(6):
            for n in range(10 * round_):
                await one.client.send(room, f"{round_}-{n}")
            await two.client.drop()
            await two.client.online()
        last = 1 + 10 * 15
        await two.until_seq(room, last)
        assert two.seqs(room) == list(range(1, last + 1))
        assert two.client.connections > 1
        assert two.notices() == []


async def test_a_restarted_program_continues(world: World, us: tuple[int, int], tmp_path: Path) -> None:
    await world.node("a")
    room = await world.conversation(*us)
    store = FileCursors(tmp_path / "cursors.json")
    async with listening(world, "a", us[0]) as one:
        async with listening(world, "a", us[1], store=store) as two:
            await one.client.send(room, "first")
            await two.until_seq(room, 2)
        await one.client.send(room, "second")
        async with listening(world, "a", us[1], store=store) as again:
            await again.until_seq(room, 3)
            # the last entry that the program had in its hand counts as not taken care of
            assert again.seqs(room) in ([3], [2, 3])


async def test_a_slow_program_is_not_flooded_and_misses_nothing(world: World, us: tuple[int, int]) -> None:
    await world.node("a")
    room = await world.conversation(*us)
    async with listening(world, "a", us[0]) as one:
        slow = Listener(world, "a", us[1], queue_entries=5)
        async with slow.client as client:
            await client.online()
            for n in range(60):
                await one.client.send(room, f"{n}")
            assert len(client._feed._queue) <= 10
            slow.listen()
            await slow.until_seq(room, 61)
            assert slow.seqs(room) == list(range(1, 62))


async def test_membership_goes_and_comes(world: World, us: tuple[int, int]) -> None:
    await world.node("a")
    room = await world.conversation(*us)
    async with listening(world, "a", us[0]) as one, listening(world, "a", us[1]) as two:
        await one.client.send(room, "before")
        await two.until_seq(room, 2)
        await world.change(room, removed=[us[1]])
        await one.client.send(room, "without you")
        await two.until_seq(room, 3)
        with pytest.raises(HubError, match="not_found"):
            await two.client.send(room, "am I here?")
        await world.change(room, added=[us[1]])
        await one.client.send(room, "back again")
        await two.until_seq(room, 6)
        assert two.seqs(room) == [1, 2, 3, 5, 6]
        assert "without you" not in [e.text for e in two.entries(room)]
        assert (await two.client.send(room, "thanks")).seq == 7


async def test_a_new_conversation_is_found_while_online_and_after(world: World, us: tuple[int, int]) -> None:
    await world.node("a")
    async with listening(world, "a", us[0]) as one, listening(world, "a", us[1], start="head") as two:
        room = await world.conversation(*us)
        await one.client.send(room, "here")
        await two.until_seq(room, 2)
        assert two.seqs(room) == [1, 2]


async def test_a_refusal_and_an_end_are_told(world: World, us: tuple[int, int]) -> None:
    await world.node("a")
    async with listening(world, "a", us[0]) as one:
        with pytest.raises(HubError) as refused:
            await one.client.send("999", "nobody is there")
        assert refused.value.code == "not_found"
        async with listening(world, "a", us[0]):  # the same device, once more
            pass
        with pytest.raises(Closed) as ended:
            await one.client.send("999", "nobody is there")
        assert ended.value.code == 4503


async def test_the_token_is_renewed_in_place(world: World, us: tuple[int, int]) -> None:
    await world.node("a")
    world.gate.expires_ms = world.clock.now_ms() + 3_000
    listener = Listener(world, "a", us[0])
    expiries: list[int] = []

    async def token() -> Token:
        world.gate.expires_ms = world.clock.now_ms() + 1_500
        expiries.append(world.gate.expires_ms)
        return Token(f"{us[0]}:{ENTERPRISE}", world.gate.expires_ms)

    listener.client._token = token
    async with listener.client as client:
        await client.online()
        async with asyncio.timeout(10):
            while len(expiries) < 4:
                await asyncio.sleep(0.05)
        assert client.connections == 1


async def test_a_node_that_lags_behind_does_not_say_reset(world: World, us: tuple[int, int]) -> None:
    """Somebody comes over from another node with more than this node has heard of yet."""

    await world.node("a")
    deaf = await world.node("b", bus=Deaf())
    room = await world.conversation(*us)
    one, _ = await world.client("a", us[0]), await world.client("b", us[1])

    async def never(stream_ids: Iterable[int]) -> None: ...

    deaf.recovery.poll = never  # type: ignore[method-assign]
    sent = await one.say(room, "b has not heard of this")
    moved = await world.client("b", us[0], device="moved", resume={room: sent[4]})
    await moved.ask(19, 0)
    assert [f[5] for f in moved.frames if f[0] == 12] == []


async def test_two_new_conversations_are_found_in_one_message(world: World, us: tuple[int, int]) -> None:
    """Somebody was added to two conversations and speaks in both before this node has heard of either."""
    node = await world.node("b", bus=Deaf())
    one = await world.client("b", us[0])

    async def nothing(time_ms: int) -> list[object]:
        return []

    node.store.changed_since = nothing  # type: ignore[assignment]
    rooms = [await world.conversation(*us), await world.conversation(*us)]
    await one.ws.send(
        msgpack.packb([[5, n, room, f"{room}-k", "text", "hello"] for n, room in enumerate(rooms, 70)])
    )
    answers = [await one.when(lambda f, n=n: f[1] == n) for n in (70, 71)]  # type: ignore[misc]
    assert [answer[0] for answer in answers] == [6, 6]
