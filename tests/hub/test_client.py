"""The client against a hub that is told what to do: what a healthy hub cannot show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgpack
import pytest
import websockets
from websockets.asyncio.server import ServerConnection, serve

from core.rng import SeededRng
from hub.client import Client, Closed, Disconnected, Entry, HubError, Item, Notice, Token
from hub.client.wire import BadServer

Play = Callable[["Stage"], Awaitable[None]]


def entry(seq: int, *, stream: str = "7", text: str | None = None, sender: str = "2") -> list[Any]:
    body = text if text is not None else f"text {seq}"
    return [stream, seq, str(1000 + seq), sender, "text", 1, body, bytes(32), None]


class Stage:
    """One connection of the scripted hub."""

    def __init__(self, ws: ServerConnection, hello: list[Any]) -> None:
        self.ws, self.hello = ws, hello
        self.head = 0  # of stream 7, as the list of streams says
        self.streams = ["7"]
        self.got: list[list[Any]] = []
        self._waiting: list[list[Any]] = []

    async def push(self, *frames: list[Any]) -> None:
        await self.ws.send(msgpack.packb(list(frames)))

    async def welcome(self, *, limits: dict[str, Any] | None = None, ping_s: float = 25) -> None:
        await self.push(
            [2, self.hello[1], "s", "1", "9", ["employee"], 5, {"epoch": 1, "head": 0, "read": 0}, ping_s, limits or {},
             {"base_ms": 1, "cap_ms": 5}],
        )  # fmt: skip

    async def entries(self, *seqs: int) -> None:
        await self.push(*([7, 0, *entry(seq)] for seq in seqs))

    async def frame(self) -> list[Any]:
        """The next frame, the list of streams answered by the way."""
        while True:
            while self._waiting:
                frame = self._waiting.pop(0)
                self.got.append(frame)
                if frame[0] == 3 and frame[2] == "streams":
                    infos = [
                        {"stream": s, "kind": "conversation", "epoch": 1, "head": self.head}
                        for s in self.streams
                    ]
                    await self.push([4, frame[1], "streams", 0, len(infos), infos, True, 0])
                else:
                    return frame
            self._waiting += msgpack.unpackb(await self.ws.recv())

    async def until(self, op: int) -> list[Any]:
        while (frame := await self.frame())[0] != op:
            pass
        return frame

    async def page(self, sync: list[Any], *seqs: int, head: int, done: bool = True) -> None:
        last = seqs[-1] if seqs else sync[3]
        await self.push([4, sync[1], "7", 1, head, [entry(seq) for seq in seqs], done, last])

    async def sent(self, frame: list[Any], seq: int, *, duplicate: bool = False) -> None:
        await self.push([6, frame[1], frame[2], frame[3], seq, str(seq), 1, duplicate, bytes(32)])

    async def forever(self) -> None:
        with suppress(websockets.ConnectionClosed):
            while True:
                await self.frame()


@asynccontextmanager
async def hub(*plays: Play, **options: Any) -> AsyncIterator[tuple[Client, list[Stage]]]:
    """A client of a hub that plays one play per connection, the last one again and again."""
    stages: list[Stage] = []
    failed: list[BaseException] = []

    async def handle(ws: ServerConnection) -> None:
        (hello,) = msgpack.unpackb(await ws.recv())
        stage = Stage(ws, hello)
        stages.append(stage)
        try:
            await plays[min(len(stages), len(plays)) - 1](stage)
        except websockets.ConnectionClosed:
            pass
        except BaseException as error:
            failed.append(error)
            raise

    async def token() -> Token:
        return Token(f"token {len(stages)}")

    async with serve(handle, "127.0.0.1", 0, subprotocols=["bankhub.v1.msgpack"], compression=None) as server:  # type: ignore[list-item]
        port = server.sockets[0].getsockname()[1]
        options.setdefault("rng", SeededRng(1))
        async with Client(f"ws://127.0.0.1:{port}", token, device="phone", **options) as client:
            yield client, stages
    assert not failed


async def take(client: Client, count: int, within_s: float = 10) -> list[Item]:
    """The next so many items."""
    items: list[Item] = []
    async with asyncio.timeout(within_s):
        async for item in client.items():
            items.append(item)
            if len(items) == count:
                break
    return items


def seqs(items: list[Item]) -> list[int]:
    return [item.seq for item in items if isinstance(item, Entry)]


async def simple(stage: Stage) -> None:
    await stage.welcome()
    await stage.forever()


async def test_a_lost_answer_is_asked_for_again_with_the_same_key() -> None:
    async def loses_it(stage: Stage) -> None:
        await stage.welcome()
        await stage.until(5)
        stage.ws.transport.abort()

    async def remembers(stage: Stage) -> None:
        await stage.welcome()
        await stage.sent(await stage.until(5), 4, duplicate=True)
        await stage.forever()

    async with hub(loses_it, loses_it, remembers) as (client, stages):
        sent = await client.send("7", "hello")
        assert (sent.seq, sent.duplicate) == (4, True)
        first, second, third = (next(f for f in stage.got if f[0] == 5) for stage in stages)
        assert first[2:] == second[2:] == third[2:]


async def test_doubled_late_and_early_entries_come_once_and_in_order() -> None:
    async def play(stage: Stage) -> None:
        await stage.welcome()
        await stage.entries(1, 2, 2, 1, 3)
        await stage.entries(6, 5, 3)
        sync = await stage.until(3)
        assert sync[2:4] == ["7", 3]
        await stage.entries(7)
        await stage.page(sync, 4, 5, 6, head=6)
        await stage.entries(8)
        await stage.forever()

    async with hub(play, start="head") as (client, _):
        assert seqs(await take(client, 8)) == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_a_gap_is_pulled_in_pages() -> None:
    async def play(stage: Stage) -> None:
        await stage.welcome()
        await stage.entries(1)
        await stage.push([12, 0, "7", 2, 5, "slow"])
        await stage.page(await stage.until(3), 2, 3, head=5, done=False)
        await stage.page(await stage.until(3), 4, 5, 6, head=6)
        await stage.forever()

    async with hub(play, start="head") as (client, stages):
        assert seqs(await take(client, 6)) == [1, 2, 3, 4, 5, 6]
        assert [f[2:4] for f in stages[0].got if f[0] == 3 and f[2] != "streams"] == [["7", 1], ["7", 3]]


async def test_a_page_with_a_hole_is_not_believed() -> None:
    async def lies(stage: Stage) -> None:
        await stage.welcome()
        await stage.entries(1, 4)
        await stage.page(await stage.until(3), 2, 4, head=4)
        await stage.forever()

    async def honest(stage: Stage) -> None:
        stage.head = 4
        await stage.welcome()
        await stage.page(await stage.until(3), 2, 3, 4, head=4)
        await stage.forever()

    async with hub(lies, honest, start="head") as (client, stages):
        assert seqs(await take(client, 4)) == [1, 2, 3, 4]
        assert stages[1].hello[5] == {"7": 1}


async def test_resume_says_what_was_handed_on() -> None:
    async def first(stage: Stage) -> None:
        await stage.welcome()
        await stage.entries(1, 2, 3)
        await stage.push([22, 0, 4001, "draining", True, 1])
        await stage.ws.close(4001)

    async def second(stage: Stage) -> None:
        stage.head = 4
        await stage.welcome()
        await stage.entries(3, 4)
        await stage.forever()

    async with hub(first, second, start="head") as (client, stages):
        assert seqs(await take(client, 4)) == [1, 2, 3, 4]
        assert stages[0].hello[5] == {}
        assert stages[1].hello[5] == {"7": 3}


async def test_a_rebuilt_stream_begins_again_and_says_so() -> None:
    async def first(stage: Stage) -> None:
        await stage.welcome()
        await stage.entries(1, 2, 3)
        await stage.frame()
        stage.ws.transport.abort()

    async def rebuilt(stage: Stage) -> None:
        stage.head = 1
        await stage.welcome()
        await stage.push([12, 0, "7", 0, 1, "reset"])
        sync = await stage.until(3)
        assert sync[2:4] == ["7", 3]
        await stage.push([21, sync[1], "reset", "start again", False, 0, {"epoch": 2, "head": 1, "floor": 0}])
        sync = await stage.until(3)
        assert sync[2:4] == ["7", 0]
        await stage.push([4, sync[1], "7", 2, 1, [entry(1)], True, 1])
        await stage.forever()

    async with hub(first, rebuilt, start="head") as (client, _):
        items = await take(client, 5)
        assert seqs(items) == [1, 2, 3, 1]
        assert items[3] == Notice("7", "reset", 1, 1)


async def test_another_epoch_is_another_stream() -> None:
    async def play(stage: Stage) -> None:
        stage.head = 2
        await stage.welcome()
        await stage.page(await stage.until(3), 1, 2, head=2)
        await stage.push([12, 0, "7", 3, 9, "slow"])
        sync = await stage.until(3)
        await stage.push([4, sync[1], "7", 2, 9, [entry(n) for n in range(3, 10)], True, 9])
        sync = await stage.until(3)
        assert sync[2:4] == ["7", 0]
        await stage.push([4, sync[1], "7", 2, 9, [entry(n) for n in range(1, 10)], True, 9])
        await stage.forever()

    async with hub(play) as (client, _):
        items = await take(client, 12)
        assert seqs(items) == [1, 2, *range(1, 10)]
        assert items[2] == Notice("7", "reset", 1, 9)


async def test_a_node_that_lags_behind_is_no_reason_to_begin_again() -> None:
    async def first(stage: Stage) -> None:
        await stage.welcome()
        await stage.entries(1, 2, 3)
        await stage.frame()
        stage.ws.transport.abort()

    async def lags(stage: Stage) -> None:
        stage.head = 3
        await stage.welcome()
        await stage.push([12, 0, "7", 0, 2, "reset"])
        sync = await stage.until(3)
        assert sync[2:4] == ["7", 3]
        await stage.page(sync, head=3)
        await stage.entries(3, 4)
        await stage.forever()

    async with hub(first, lags, start="head") as (client, _):
        assert [getattr(item, "seq", item) for item in await take(client, 4)] == [1, 2, 3, 4]


async def test_a_refused_page_with_a_floor_jumps_to_it() -> None:
    async def play(stage: Stage) -> None:
        await stage.welcome()
        await stage.entries(1, 2)
        await stage.push([12, 0, "7", 10, 11, "joined"])
        sync = await stage.until(3)
        await stage.push(
            [21, sync[1], "reset", "start again", False, 0, {"epoch": 1, "head": 11, "floor": 9}]
        )
        sync = await stage.until(3)
        assert sync[2:4] == ["7", 9]
        await stage.page(sync, 10, 11, head=11)
        await stage.forever()

    async with hub(play, start="head") as (client, _):
        items = await take(client, 5)
        assert seqs(items) == [1, 2, 10, 11]
        assert items[2] == Notice("7", "floor", 3, 9)


async def test_a_new_stream_begins_at_its_floor() -> None:
    async def play(stage: Stage) -> None:
        stage.head = 6
        await stage.welcome()
        sync = await stage.until(3)
        assert sync[2:4] == ["7", 0]
        await stage.page(sync, 5, 6, head=6)
        await stage.forever()

    async with hub(play, start="floor") as (client, _):
        assert seqs(await take(client, 2)) == [5, 6]


async def test_what_is_left_is_told_and_no_longer_resumed() -> None:
    async def first(stage: Stage) -> None:
        await stage.welcome()
        await stage.push([7, 0, *entry(1)])
        removal = entry(2, sender="0")
        removal[4], removal[6] = "membership", {"added": [], "removed": ["1"], "by": "2"}
        await stage.push([7, 0, *removal])
        await stage.frame()
        stage.ws.transport.abort()

    async def second(stage: Stage) -> None:
        stage.streams = []
        await stage.welcome()
        await stage.forever()

    async with hub(first, second, start="head") as (client, stages):
        assert seqs(await take(client, 2)) == [1, 2]
        async with asyncio.timeout(5):
            while len(stages) < 2:
                await asyncio.sleep(0.01)
        assert stages[1].hello[5] == {}


async def test_a_broken_digest_is_told() -> None:
    async def play(stage: Stage) -> None:
        await stage.welcome()
        await stage.entries(1)
        await stage.forever()

    async with hub(play, start="head", verify=True) as (client, _):
        notice, one = await take(client, 2)
        assert notice == Notice("7", "broken", 1, 1)
        assert isinstance(one, Entry)


@pytest.mark.parametrize("code", [4001, 4008, 4010, 4012, 4013, 1000, 1001, 1011, 1012, 3000])
@pytest.mark.parametrize("with_bye", [True, False])
async def test_these_codes_are_come_back_from(code: int, with_bye: bool) -> None:
    async def ends(stage: Stage) -> None:
        await stage.welcome()
        if with_bye:
            await stage.push([22, 0, code, "for a while", True, 3])
        await stage.ws.close(code)

    async with hub(ends, simple) as (client, _):
        async with asyncio.timeout(10):
            while client.connections < 2:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("code", [4501, 4502, 4503, 4504, 4507, 4511, 4512, 4999])
@pytest.mark.parametrize("at_once", [True, False])
async def test_these_codes_are_final(code: int, at_once: bool) -> None:
    async def ends(stage: Stage) -> None:
        if not at_once:
            await stage.welcome()
        await stage.push([22, 0, code, "not again", False, 0])
        await stage.ws.close(code)

    async with hub(ends) as (client, stages):
        with pytest.raises(Closed) as closed:
            await client.send("7", "hello")
        assert closed.value.code == code
        assert await take(client, 1) == []
        assert len(stages) == 1


async def test_a_token_that_was_good_is_worth_one_more_try() -> None:
    async def expires(stage: Stage) -> None:
        await stage.welcome()
        await stage.push([22, 0, 4500, "the access token has expired", False, 0])
        await stage.ws.close(4500)

    async def refuses(stage: Stage) -> None:
        await stage.push([22, 0, 4500, "the access token is not valid", False, 0])
        await stage.ws.close(4500)

    async with hub(expires, refuses) as (client, stages):
        with pytest.raises(Closed):
            await client.send("7", "hello")
        assert [stage.hello[2] for stage in stages] == ["token 0", "token 1"]


async def test_bye_says_when() -> None:
    times: list[float] = []

    async def drains(stage: Stage) -> None:
        await stage.push([22, 0, 4001, "draining", True, 300])
        await stage.ws.close(4001)
        times.append(asyncio.get_running_loop().time())

    async def there(stage: Stage) -> None:
        times.append(asyncio.get_running_loop().time())
        await simple(stage)

    async with hub(drains, there) as (client, _):
        await client.online()
        assert times[1] - times[0] >= 0.29


async def test_a_refusal_that_passes_is_waited_for() -> None:
    async def play(stage: Stage) -> None:
        await stage.welcome()
        first = await stage.until(5)
        await stage.push([21, first[1], "too_many_requests", "slowly", True, 30, None])
        again = await stage.until(5)
        assert again[2:] == first[2:]
        await stage.sent(again, 3)
        await stage.forever()

    async with hub(play) as (client, _):
        assert (await client.send("7", "hello")).seq == 3


async def test_a_refusal_that_stays_is_raised() -> None:
    async def play(stage: Stage) -> None:
        await stage.welcome()
        frame = await stage.until(5)
        await stage.push([21, frame[1], "conflict", "this key was used", False, 0, {"seq": 3}])
        await stage.forever()

    async with hub(play) as (client, _):
        with pytest.raises(HubError) as refused:
            await client.send("7", "hello", key="k")
        assert (refused.value.code, refused.value.detail) == ("conflict", {"seq": 3})


async def test_what_is_too_large_is_not_even_sent() -> None:
    async def play(stage: Stage) -> None:
        await stage.welcome(limits={"frame_bytes": 1000})
        await stage.forever()

    async with hub(play) as (client, stages):
        with pytest.raises(HubError, match="too_large"):
            await client.send("7", "x" * 1000)
        with pytest.raises(HubError, match="invalid"):
            await client.send("7", object())
        assert [f for f in stages[0].got if f[0] == 5] == []


async def test_a_silent_hub_is_left() -> None:
    async def silent(stage: Stage) -> None:
        await stage.welcome(ping_s=0.2)
        ping = await stage.until(19)
        assert ping[1] != 0
        await stage.forever()

    from hub.client import link

    before, link.PONG_S = link.PONG_S, 0.2  # type: ignore[misc]
    try:
        async with hub(silent, simple) as (client, _):
            async with asyncio.timeout(10):
                while client.connections < 2:
                    await asyncio.sleep(0.01)
    finally:
        link.PONG_S = before  # type: ignore[misc]


async def test_the_hubs_ping_is_answered() -> None:
    answered = asyncio.Event()

    async def play(stage: Stage) -> None:
        await stage.welcome()
        await stage.push([19, 0, 1234])
        pong = await stage.until(19)
        assert pong[1] == 0
        answered.set()
        await stage.forever()

    async with hub(play), asyncio.timeout(5):
        await answered.wait()


async def test_marks_are_coalesced_and_repeated_after_a_loss() -> None:
    async def first(stage: Stage) -> None:
        await stage.welcome()
        await stage.entries(*range(1, 40))
        assert (await stage.until(8))[2] == [["7", 39]]
        stage.ws.transport.abort()

    async def second(stage: Stage) -> None:
        stage.head = 39
        await stage.welcome()
        assert (await stage.until(8))[2] == [["7", 39]]
        assert (await stage.until(9))[2] == [["7", 38]]
        await stage.push([22, 0, 4511, "done", False, 0])
        await stage.ws.close(4511)

    async with hub(first, second, start="head") as (client, stages):
        client.read("7", 37)
        client.read("7", 38)
        client.read("7", 30)
        items = await take(client, 39)
        assert len(items) == 39
        await asyncio.wait_for(anext(aiter(client.items()), None), 10)  # the 39th is taken care of
        assert [f[2] for f in stages[0].got if f[0] == 9] == [[["7", 38]]]


async def test_calls_without_a_key_are_not_repeated() -> None:
    async def dies(stage: Stage) -> None:
        await stage.welcome()
        await stage.until(15)
        stage.ws.transport.abort()

    async def answers(stage: Stage) -> None:
        await stage.welcome()
        frame = await stage.until(15)
        assert frame[2:5] == ["x.y", {"a": 1}, "k"]
        await stage.push([16, frame[1], {"ok": True}])
        await stage.forever()

    async with hub(dies, dies, answers) as (client, stages):
        with pytest.raises(Disconnected):
            await client.call("x.y", {"a": 1})
        assert await client.call("x.y", {"a": 1}, key="k") == {"ok": True}
        assert len(stages) == 3


@pytest.mark.parametrize("rubbish", [b"", b"\xc1", b"\x80", b"\x90", b"\x91\x01", b"\x91\x91\x07", "text"])
async def test_rubbish_from_the_hub_is_left_and_come_back_from(rubbish: bytes | str) -> None:
    async def babbles(stage: Stage) -> None:
        await stage.welcome()
        await stage.ws.send(rubbish)
        await stage.forever()

    async with hub(babbles, simple) as (client, _):
        async with asyncio.timeout(10):
            while client.connections < 2:
                await asyncio.sleep(0.01)
    assert issubclass(BadServer, Exception)


async def test_unknown_frames_and_fields_are_ignored() -> None:
    async def play(stage: Stage) -> None:
        await stage.welcome()
        await stage.push([99, 0, "of a later version"], [7, 0, *entry(1), "and more"], [14, 0, "card"])
        await stage.forever()

    async with hub(play, start="head") as (client, _):
        assert seqs(await take(client, 1)) == [1]
