"""Coming back, missing something, reading slowly, and a bus that loses, repeats, reorders or is not there."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Any

import msgpack
import pytest

from core.bus import RedisBus
from hub.streams.store import StreamStore
from tests.hub.harness import Client, World


async def fill(client: Client, room: str, count: int) -> int:
    """Says `count` things; the last seq."""
    last = 0
    for n in range(count):
        answer = await client.say(room, f"message {n}")
        assert answer[0] == 6, answer
        last = answer[4]
    return last


async def test_resume_brings_what_was_missed_and_nothing_twice(world: World) -> None:
    await world.node("a", sends_per_s=1000, sends_burst=1000)
    await world.node("b")
    room = await world.conversation(1, 2)
    one, two = await world.client("a", 1), await world.client("a", 2)
    seen = await fill(one, room, 5)
    await two.when(lambda f: f[0] == 7 and f[3] == seen)
    await two.close()
    last = await fill(one, room, 30)
    for node in "ab":  # the one that has the entries at hand, and the one that must read them
        back = await world.client(node, 2, resume={room: seen})
        await back.when(lambda f: f[0] == 7 and f[3] == last)
        assert back.seqs(room) == list(range(seen + 1, last + 1))
        await back.close()


async def test_too_much_missed_is_a_gap_and_pages_fill_it(world: World) -> None:
    await world.node("a", sends_per_s=10_000, sends_burst=10_000, frames_per_s=10_000, frames_burst=10_000)
    room = await world.conversation(1, 2)
    one = await world.client("a", 1)
    last = await fill(one, room, 250)
    two = await world.client("a", 2, resume={room: 1})
    gap = await two.until(12)
    assert gap[2:6] == [room, 2, last, "resume"]
    seqs: list[int] = []
    after, done = 1, False
    while not done:
        page = await two.ask(3, room, after, 100)
        assert page[0] == 4
        seqs += [entry[1] for entry in page[5]]
        done, after = page[6], page[7]
    assert seqs == list(range(2, last + 1))


@pytest.mark.parametrize("ahead", [1, 1000])
async def test_a_client_that_knows_more_than_the_server_is_reset(world: World, ahead: int) -> None:
    await world.node("a")
    room = await world.conversation(1, 2)
    client = await world.client("a", 1, resume={room: 1 + ahead})
    assert (await client.until(12))[2:6] == [room, 0, 1, "reset"]
    answer = await client.ask(3, room, 1 + ahead, 10)
    assert (answer[2], answer[6]["head"]) == ("reset", 1)


async def test_resume_of_somebody_elses_stream_is_refused_alike_for_unknown_ones(world: World) -> None:
    await world.node("a")
    theirs = await world.conversation(8, 9)
    client = await world.client("a", 1, resume={theirs: 0, "12345": 0})
    await client.when(lambda f: f[0] == 12 and f[2] == theirs)
    await client.when(lambda f: f[0] == 12 and f[2] == "12345")
    assert {f[5] for f in client.frames if f[0] == 12} == {"forbidden"}


class RoughBus(RedisBus):
    """Loses, repeats and reorders what it is given to send, by a seed."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(url)
        self._random = random.Random(seed)
        self._held: list[tuple[str, bytes]] = []

    def publish(self, channel: str, payload: bytes) -> Any:
        fate = self._random.random()
        if fate < 0.3:
            return super().publish("nowhere", b"")
        if fate < 0.5:
            self._held.append((channel, payload))
            return super().publish("nowhere", b"")
        if fate < 0.7:
            super().publish(channel, payload)
        done = super().publish(channel, payload)
        if self._held and self._random.random() < 0.7:
            late, self._held = self._held, []
            for each in reversed(late):
                super().publish(*each)
        return done


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_rough_bus_costs_time_not_entries(world: World, seed: int) -> None:
    for number, name in enumerate("ab"):
        bus = RoughBus(world.redis_url, seed * 10 + number)
        await bus.start()
        await world.node(name, bus=bus, sends_per_s=1000, sends_burst=1000)
    room = await world.conversation(1, 2, 3, 4)
    clients = [await world.client("ab"[p % 2], p) for p in (1, 2, 3, 4)]
    await asyncio.gather(*(fill(client, room, 20) for client in clients))
    for client in clients:
        await client.when(lambda f: f[0] == 7 and f[3] == 81)
        assert client.seqs(room) == list(range(2, 82))


class NoBus:
    """A bus that is not there."""

    is_up = False

    def publish(self, channel: str, payload: bytes) -> None:
        return

    async def subscribe(self, channel: str, receive: object) -> None:
        return

    def on_state(self, changed: object) -> None:
        return


async def test_without_a_bus_entries_and_members_travel_through_the_database(world: World) -> None:
    await world.node("a", bus=NoBus())
    await world.node("b", bus=NoBus())
    room = await world.conversation(1, 2)
    one, two = await world.client("a", 1), await world.client("b", 2)
    three = await world.client("b", 3)
    await fill(one, room, 10)
    await two.when(lambda f: f[0] == 7 and f[3] == 11, within_s=2)
    assert two.seqs(room) == list(range(2, 12))
    await world.change(room, added=[3], removed=[2])
    await three.when(lambda f: f[0] in (7, 12) and f[2] == room, within_s=2.5)
    await two.when(lambda f: f[0] == 7 and f[6] == "membership", within_s=2)
    await one.say(room, "two is gone")
    await three.when(lambda f: f[0] == 7 and f[8] == "two is gone", within_s=2)
    assert "two is gone" not in two.texts(room)
    world.gate.left.add((1, 3))
    assert await three.gone(within_s=3) == 4511


async def test_marks_are_told_kept_and_never_move_back(world: World) -> None:
    await world.node("a")
    await world.node("b")
    room = await world.conversation(1, 2)
    one, two = await world.client("a", 1), await world.client("b", 2)
    last = await fill(one, room, 5)
    await two.when(lambda f: f[0] == 7 and f[3] == last)
    listed = {e["stream"]: e for e in (await two.ask(3, "streams", 0, 200))[5]}
    assert (listed[room]["unread"], listed[room]["read"]) == (6, 0)  # the entry that added them counts
    await two.send(8, 0, [[room, last]])
    await two.send(9, 0, [[room, last - 1]])
    await two.send(9, 0, [[room, 1]])
    await two.send(9, 0, [[room, 10**6]])
    await one.when(lambda f: f[0] == 11 and ["2", last, last] in f[3])
    marks = {row[0]: row for row in await StreamStore(world.db).marks_of(int(room), 1)}
    assert (marks[2][1], marks[2][3]) == (last, last)
    assert marks[2][2] is not None
    assert abs(marks[2][2] - world.clock.now_ms()) < 60_000
    mine = {e["stream"]: e for e in (await one.ask(3, "streams", 0, 200))[5]}
    assert mine[room]["unread"] == 0
    listed = {e["stream"]: e for e in (await two.ask(3, "streams", 0, 200))[5]}
    assert (listed[room]["unread"], listed[room]["delivered"]) == (0, last)


async def test_a_client_that_does_not_read_gets_a_gap_and_hurts_nobody(world: World) -> None:
    node = await world.node(
        "a", sends_per_s=10_000, sends_burst=10_000, frames_per_s=10_000, frames_burst=10_000,
        soft_queue_bytes=64 * 1024,
    )  # fmt: skip
    room = await world.conversation(1, 2, 3)
    one, three = await world.client("a", 1), await world.client("a", 3)
    deaf = await asyncio.to_thread(raw_client, world.ports["a"], 2)
    big = "x" * 60_000
    last = 0
    while not node.slow:
        last = (await one.say(room, big))[4]
    for _ in range(20):
        last = (await one.say(room, big))[4]
    await three.when(lambda f: f[0] == 7 and f[3] == last)
    assert three.seqs(room) == list(range(2, last + 1))
    (conn,) = node.slow
    assert conn.queued_bytes < 200_000
    frames = await asyncio.to_thread(read_until_gap, deaf)
    seqs = [f[3] for f in frames if f[0] == 7]
    gap = next(f for f in frames if f[0] == 12)
    assert seqs == list(range(2, len(seqs) + 2))
    assert gap[2:6] == [room, seqs[-1] + 1, last, "slow"]
    deaf.close()


async def test_a_client_that_never_reads_is_ended(world: World) -> None:
    node = await world.node(
        "a", sends_per_s=10_000, sends_burst=10_000, frames_per_s=10_000, frames_burst=10_000, stall_s=1.0
    )
    room = await world.conversation(1, 2)
    one = await world.client("a", 1)
    deaf = await asyncio.to_thread(raw_client, world.ports["a"], 2)
    while not node.slow:
        await one.say(room, "x" * 60_000)
    async with asyncio.timeout(5):
        while node.slow:
            await asyncio.sleep(0.05)
    assert node.stats()["sessions"] == 1
    deaf.close()


def raw_client(port: int, person: int) -> socket.socket:
    """A socket with a small receive buffer that said HELLO and reads no further."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", port))
    sock.sendall(
        b"GET / HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: bankhub.v1.msgpack\r\n\r\n"
    )
    hello = msgpack.packb([[1, 1, f"{person}:1", "deaf"]])
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1)
    sock.sendall(bytes((0x82, 0x80 | len(hello))) + bytes(4) + hello)
    first = sock.recv(2)
    size = first[1] if first[1] < 126 else int.from_bytes(sock.recv(2), "big")
    while size:
        size -= len(sock.recv(size))
    return sock


def read_until_gap(sock: socket.socket) -> list[list[Any]]:
    """Every frame up to the first GAP."""
    frames: list[list[Any]] = []
    data = b""
    while not any(f[0] == 12 for f in frames):
        data += sock.recv(1 << 20)
        while len(data) >= 2:
            size, head = data[1], 2
            if size == 126:
                size, head = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(data[2:10], "big"), 10
            if len(data) < head + size:
                break
            frames += msgpack.unpackb(data[head : head + size])
            data = data[head + size :]
    return frames
