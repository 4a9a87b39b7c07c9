"""One suite for both buses: the one over Redis and the one in memory that stands in for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from core.bus import QUEUE_MESSAGES, Bus, MemoryBus, MemoryNetwork, RedisBus
from core.rng import SeededRng
from tests.wire import Wire


@dataclass
class World:
    """Buses of one kind, and the way to make them fail."""

    make: Callable[[], Awaitable[Bus]]
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]
    wire: Wire | None = None


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Let the loop run until something holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(params=["redis", "memory"])
async def world(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[World]:
    made: list[RedisBus | MemoryBus] = []
    if request.param == "memory":
        network = MemoryNetwork()

        async def make_memory() -> Bus:
            bus = MemoryBus(network)
            made.append(bus)
            await bus.start()
            return bus

        async def down() -> None:
            network.set_up(False)

        async def up() -> None:
            network.set_up(True)

        yield World(make_memory, down, up)
    else:
        wire, url = await Wire.before(redis_url)

        async def make_redis() -> Bus:
            bus = RedisBus(url, rng=SeededRng(len(made)))
            made.append(bus)
            await bus.start()
            assert bus.is_up
            return bus

        async def cut() -> None:
            wire.set_cut(True)
            await until(lambda: not any(bus.is_up for bus in made))

        async def mend() -> None:
            wire.set_cut(False)
            await until(lambda: all(bus.is_up for bus in made))

        yield World(make_redis, cut, mend, wire)
        for bus in made:
            await bus.stop()
        await wire.close()
    for bus in made:
        await bus.stop()


async def test_every_subscriber_of_the_channel_gets_it_and_nobody_else(world: World) -> None:
    one, two = await world.make(), await world.make()
    heard: list[tuple[str, bytes]] = []
    await one.subscribe("a", lambda payload: heard.append(("one", payload)))
    await two.subscribe("a", lambda payload: heard.append(("two", payload)))
    await two.subscribe("a", lambda payload: heard.append(("two again", payload)))
    await two.subscribe("b", lambda payload: heard.append(("b", payload)))
    await one.publish("a", b"\x00\xff\r\n")
    await until(lambda: len(heard) == 3)
    await one.publish("b", b"last")
    await until(lambda: len(heard) == 4)
    assert sorted(heard) == [
        ("b", b"last"),
        ("one", b"\x00\xff\r\n"),
        ("two", b"\x00\xff\r\n"),
        ("two again", b"\x00\xff\r\n"),
    ]


async def test_publishing_needs_no_await_and_keeps_order(world: World) -> None:
    one, two = await world.make(), await world.make()
    heard: list[bytes] = []
    await two.subscribe("a", heard.append)
    for n in range(3_000):
        one.publish("a", b"%d" % n)
    await until(lambda: len(heard) == 3_000)
    assert heard == [b"%d" % n for n in range(3_000)]


async def test_a_receiver_may_be_a_coroutine_and_may_fail(world: World) -> None:
    bus = await world.make()
    heard: list[bytes] = []

    async def later(payload: bytes) -> None:
        await asyncio.sleep(0)
        heard.append(payload)
        raise ValueError("a receiver's own fault")

    def at_once(payload: bytes) -> None:
        heard.append(payload)
        raise ValueError("a receiver's own fault")

    await bus.subscribe("a", at_once)
    await bus.subscribe("a", later)
    await bus.publish("a", b"1")
    await bus.publish("a", b"2")
    await until(lambda: len(heard) == 4)


async def test_it_says_when_it_goes_and_comes_back_with_its_subscriptions(world: World) -> None:
    one, two = await world.make(), await world.make()
    heard: list[bytes] = []
    states: list[bool] = []
    await two.subscribe("a", heard.append)
    two.on_state(states.append)
    await world.take_away()
    assert states == [False]
    assert not one.is_up
    await one.publish("a", b"into the void")
    await two.subscribe("b", heard.append)
    await world.bring_back()
    assert states == [False, True]
    await one.publish("a", b"back")
    await one.publish("b", b"new")
    await until(lambda: len(heard) == 2)
    assert heard == [b"back", b"new"]


async def test_two_hosts_one_bus_gone_silent_is_found_out(world: World) -> None:
    if world.wire is None:
        pytest.skip("the bus in memory has no wire that could hang")
    bus = await world.make()
    world.wire.silent = True
    await until(lambda: not bus.is_up, 8.0)
    world.wire.silent = False
    await until(lambda: bus.is_up)


async def test_a_subscription_that_hears_nothing_is_found_out(world: World) -> None:
    """Publishing still works and is answered; only what is sent to ourselves does not come back."""
    if world.wire is None:
        pytest.skip("the bus in memory has no wire that could hang")
    bus = await world.make()
    world.wire.deaf = True
    await until(lambda: not bus.is_up, 8.0)
    world.wire.deaf = False
    await until(lambda: bus.is_up)


async def test_a_full_queue_is_a_loss_that_is_told(world: World) -> None:
    if world.wire is None:
        pytest.skip("the bus in memory has no queue")
    bus = await world.make()
    states: list[bool] = []
    bus.on_state(states.append)
    for _ in range(QUEUE_MESSAGES + 1):
        bus.publish("a", b"x")
    assert states == [False]
    await until(lambda: bus.is_up)
    assert states == [False, True]


async def test_without_redis_a_process_starts_all_the_same() -> None:
    bus = RedisBus("redis://127.0.0.1:1/0", rng=SeededRng(1))
    await bus.start()
    assert not bus.is_up
    await bus.publish("a", b"nobody hears")
    await bus.subscribe("a", lambda payload: None)
    await bus.stop()
