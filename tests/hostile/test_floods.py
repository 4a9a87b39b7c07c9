"""Too much, too fast, or nothing at all: limits hold, slow ones are let go, the others do not notice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgpack
import pytest

from tests.hostile.raw import PING, Raw, frame, packed, rss_bytes, session, socket_to
from tests.hub.harness import World

Unharmed = Callable[[], Awaitable[None]]


@pytest.mark.requirement("W05")
async def test_a_flood_of_frames_is_refused_then_ended(world: World, unharmed: Unharmed, person: int) -> None:
    async with session(world, person) as raw:
        for _ in range(20):
            raw.write(packed(*[[19, 5]] * 64))
        assert await raw.closed() == 4013
        refused = [f for f in raw.frames if f[0] == 21]
        assert {f[2] for f in refused} == {"too_many_requests"}
        assert all(f[4] is True and f[5] > 0 for f in refused)
        assert next(f for f in raw.frames if f[0] == 22)[4] is True
    await unharmed()


async def test_a_flood_of_websocket_pings_is_ended(world: World, unharmed: Unharmed, person: int) -> None:
    async with session(world, person) as raw:
        for _ in range(100):
            raw.write(frame(b"", PING) * 10)
            await asyncio.sleep(0)
        assert await raw.closed() == 4013
        assert len(raw.pongs) <= 1000
        answered = len(raw.pongs)
        for _ in range(
            20
        ):  # whoever was thrown out goes on: no word behind the close frame (RFC 6455, 5.5.1)
            raw.write(frame(b"", PING) * 100)
            await asyncio.sleep(0)
        assert await raw.closed() == 0
        assert len(raw.pongs) == answered
    await unharmed()


@pytest.mark.requirement("W05")
async def test_a_person_sends_no_more_than_they_may(world: World, unharmed: Unharmed, person: int) -> None:
    room = await world.conversation(person)
    async with session(world, person) as raw:
        raw.write(packed(*([5, n, room, f"{room}-{n}", "text", "spam"] for n in range(1, 61))))
        for n in range(1, 61):
            await _answer(raw, n)
        answers = [f for f in raw.frames if f[0] in (6, 21)]
        refused = [f for f in answers if f[0] == 21]
        assert 15 <= len(refused) <= 20
        assert all(f[2] == "too_many_requests" and 0 < f[5] <= 1000 for f in refused)
    await unharmed()


async def _answer(raw: Raw, frame_id: int) -> None:
    async with asyncio.timeout(10):
        while not any(f[1] == frame_id for f in raw.frames):
            await raw._read()


async def test_questions_beyond_the_limit_are_refused(world: World, unharmed: Unharmed, person: int) -> None:
    async with session(world, person) as raw:
        raw.write(packed(*([3, n, "streams", 0, 200] for n in range(1, 65))))
        for n in range(1, 65):
            await _answer(raw, n)
        assert {f[2] for f in raw.frames if f[0] == 21} <= {"too_many_requests"}
        assert len([f for f in raw.frames if f[0] == 4]) >= 16
    await unharmed()


async def test_a_stranger_who_vanishes_is_let_go(world: World, unharmed: Unharmed, person: int) -> None:
    """A half-open socket: nothing comes any more, and nothing says so."""
    await world.node("b", ping_s=1.0, pong_s=2.0)
    async with socket_to(world, "b") as raw:
        assert await raw.handshake() == 101
        await raw.hello(person)
        began_s = asyncio.get_running_loop().time()
        assert await raw.closed() == 4012
        assert raw.bye == 4012
        assert asyncio.get_running_loop().time() - began_s < 8
    await unharmed()


@pytest.mark.requirement("W06")
async def test_whoever_never_reads_is_let_go_and_costs_little(
    world: World, unharmed: Unharmed, person: int
) -> None:
    hard, soft = 256 << 10, 64 << 10
    node = await world.node(
        "b", soft_queue_bytes=soft, hard_queue_bytes=hard, stall_s=2.0, sends_per_s=1000, sends_burst=1000
    )
    strangers = [person * 1000 + n for n in range(20)]
    room = await world.conversation(person, *strangers)
    writer = await world.client("b", person)
    deaf: list[Raw] = []
    for stranger in strangers:
        reader, out = await asyncio.open_connection("127.0.0.1", world.ports["b"], limit=1024)
        raw = Raw(reader, out)
        assert await raw.handshake() == 101
        raw.write(packed([1, 1, f"{stranger}:1", "deaf", None, None]))
        await raw.until(2)
        out.transport.pause_reading()  # type: ignore[attr-defined]
        deaf.append(raw)
    before = rss_bytes()
    for n in range(100):
        assert (await writer.say(room, "x" * 50_000, key=f"{room}-{n}"))[0] == 6
        assert all(conn.queued_bytes <= hard + (128 << 10) for conn in node._conns)
    assert rss_bytes() - before < len(deaf) * hard + (48 << 20)
    async with asyncio.timeout(10):
        while node.stats()["sessions"] > 1:
            await asyncio.sleep(0.1)
    for raw in deaf:
        raw.abort()
    assert len(writer.seqs(room)) >= 100
    await unharmed()


@pytest.mark.requirement("W06")
async def test_whoever_reads_slowly_gets_a_gap_and_then_everything(
    world: World, unharmed: Unharmed, person: int
) -> None:
    await world.node("b", soft_queue_bytes=64 << 10, sends_per_s=1000, sends_burst=1000)
    slow_one = person * 1000
    room = await world.conversation(person, slow_one)
    writer = await world.client("b", person)
    reader, out = await asyncio.open_connection("127.0.0.1", world.ports["b"], limit=1024)
    raw = Raw(reader, out)
    assert await raw.handshake() == 101
    raw.write(packed([1, 1, f"{slow_one}:1", "slow", None, None]))
    await raw.until(2)
    out.transport.pause_reading()  # type: ignore[attr-defined]
    for n in range(120):
        await writer.say(room, "x" * 40_000, key=f"{room}-{n}")
    out.transport.resume_reading()  # type: ignore[attr-defined]
    gap = await raw.until(12)
    assert gap[2] == room
    assert gap[5] == "slow"
    pushed = [f[3] for f in raw.frames if f[0] == 7]
    assert pushed == list(
        range(pushed[0], gap[3])
    )  # in order up to the gap, and the gap begins where they end
    after = gap[3] - 1
    while after < 121:
        raw.write(packed([3, 50, room, after, 200]))
        page = await raw.until(4, 50)
        seqs = [entry[1] for entry in page[5]]
        assert seqs == list(range(after + 1, page[7] + 1))
        after = page[7]
    raw.abort()
    await unharmed()


async def test_many_devices_coming_and_going_leave_nothing(
    world: World, unharmed: Unharmed, person: int
) -> None:
    (node,) = world.nodes
    before = node.stats()
    for _ in range(10):
        raws = [session(world, person + 10_000_000 + n) for n in range(10)]
        opened = [await raw.__aenter__() for raw in raws]
        for raw in opened:
            raw.write(frame(msgpack.packb([[18, 3, [str(person)]]])))
        for context in raws:
            await context.__aexit__(None, None, None)
    async with asyncio.timeout(5):
        while node.stats()["connections"] > before["connections"]:
            await asyncio.sleep(0.05)
    assert node.stats()["rooms"] <= before["rooms"]
    assert not node.presence._watchers
    await unharmed()
