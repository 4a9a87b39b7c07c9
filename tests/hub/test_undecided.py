"""One source cannot hold all the places at the door: so many connections without HELLO, then no more (W04)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from core.actions import Principal
from tests.hostile.raw import Raw
from tests.hub.harness import World


@asynccontextmanager
async def connected(world: World, address: str = "127.0.0.1") -> AsyncIterator[Raw]:
    """A socket from this address that says nothing by itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.ports["a"], local_addr=(address, 0))
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


async def cut(raw: Raw) -> bool:
    """Whether the hub ends this socket without a word."""
    with suppress(ConnectionError):
        return await raw.reader.read() == b""
    return True


async def count(world: World, wanted: int) -> None:
    """Wait until so many are undecided."""
    async with asyncio.timeout(5):
        while world.nodes[0].stats()["undecided"] != wanted:
            await asyncio.sleep(0.005)


@pytest.mark.requirement("W04")
async def test_a_source_has_twenty_undecided_and_others_come_in_meanwhile(world: World) -> None:
    told: list[tuple[Any, ...]] = []

    def refused(
        what: str, outcome: str, address: str, who: Principal | None = None, device: str = ""
    ) -> None:
        told.append((what, outcome, address))

    await world.node("a", refused=refused)
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(connected(world)) for _ in range(20)]
        await count(world, 20)
        assert await cut(await stack.enter_async_context(connected(world)))
        assert told == [("hub.connect", "too_many_requests", "127.0.0.1")]
        other = await stack.enter_async_context(connected(world, "127.0.0.2"))
        assert await other.handshake() == 101
        assert (await other.hello(1))[0] == 2
        await count(world, 20)

        assert await silent[0].handshake() == 101, "those that are in are served"
        assert await cut(await stack.enter_async_context(connected(world))), "a handshake decides nothing"
        assert (await silent[0].hello(2))[0] == 2
        await count(world, 19)
        one_more = await stack.enter_async_context(connected(world))
        await count(world, 20)
        one_more.writer.transport.abort()
        await count(world, 19)
        bad = await stack.enter_async_context(connected(world))
        assert await bad.handshake() == 101
        bad.write(b"\x82\x80\x00\x00\x00\x00")
        assert await bad.closed() == 4501
    await count(world, 0)


@pytest.mark.requirement("W04")
async def test_who_is_silent_makes_room_after_five_seconds(world: World) -> None:
    node = await world.node("a", undecided_per_source=1)
    assert node.limits.hello_s == 5
    async with connected(world) as first:
        began_s = node.clock.monotonic_s()
        assert await cut(first)
        assert 4 < node.clock.monotonic_s() - began_s < 8
        async with connected(world) as second:
            assert await second.handshake() == 101
            assert (await second.hello(3))[0] == 2


@pytest.mark.requirement("W04", "W09")
async def test_behind_a_proxy_it_is_the_forwarded_address_that_counts(world: World) -> None:
    await world.node("a", proxies=["127.0.0.1"], undecided_per_source=2)
    async with AsyncExitStack() as stack:

        async def through(forwarded: str, source: str = "127.0.0.1") -> tuple[int, Raw]:
            raw = await stack.enter_async_context(connected(world, source))
            return await raw.handshake(x_forwarded_for=forwarded), raw

        waiting = [await stack.enter_async_context(connected(world)) for _ in range(5)]
        assert [(await through("203.0.113.7"))[0] for _ in range(3)] == [101, 101, 429]
        assert (await through("198.51.100.1, 203.0.113.7"))[0] == 429, "what the client claims is not counted"
        code, friend = await through("203.0.113.8")
        assert code == 101
        assert (await friend.hello(4))[0] == 2
        assert [(await through("2001:db8::1"))[0] for _ in range(2)] == [101, 101]
        assert (await through("2001:db8::ffff"))[0] == 429, "a /64 is one subscriber"
        assert [(await through("203.0.113.9", "127.0.0.2"))[0] for _ in range(2)] == [101, 101]
        async with connected(world, "127.0.0.2") as third:
            assert await cut(third), "who is no proxy counts by its own address, whatever it forwards"
        assert await waiting[0].handshake(x_forwarded_for="203.0.113.10") == 101
