"""After WELCOME: broken WebSocket, broken frames, frames that ask for too much; each is answered and harms nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import pytest

from tests.hostile.raw import BINARY, CLOSE, PING, PONG, TEXT, Raw, frame, named, packed, rss_bytes, session
from tests.hub.harness import World

Unharmed = Callable[[], Awaitable[None]]
SAY = packed([19, 77])


ENDS: list[tuple[bytes, int]] = [
        (frame(b"\x91\x92\x13\x01", mask=False), 1002),
        (frame(b"\x91\x92\x13\x01", rsv=1), 1002),
        (frame(b"\x91\x92\x13\x01", rsv=4), 1002),
        (frame(b"x", 3), 1002),
        (frame(b"x", 7), 1002),
        (frame(b"x", 11), 1002),
        (frame(b"x", 15), 1002),
        (frame(b"x", 0), 1002),
        (frame(b"x", BINARY, fin=False) + frame(b"y", BINARY), 1002),
        (frame(b"x", PING, fin=False), 1002),
        (frame(b"x" * 126, PING), 1002),
        (frame(b"x" * 200, CLOSE), 1002),
        (frame(b"\x03", CLOSE), 1002),
        (frame((999).to_bytes(2, "big"), CLOSE), 1002),
        (frame((1005).to_bytes(2, "big"), CLOSE), 1002),
        (frame((1000).to_bytes(2, "big") + b"\xff\xfe", CLOSE), 1007),
        (frame((1000).to_bytes(2, "big") + b"bye", CLOSE), 1000),
        (frame(b"", CLOSE), 0),
        (frame(b"[[19,1]]", TEXT), 1003),
        (frame(b"x" * (256 * 1024 + 1)), 1009),
        (frame(b"x", size=1 << 40, form=127), 1009),
        (frame(b"x" * 200_000, fin=False) + frame(b"x" * 100_000, 0), 1009),
        (b"".join([frame(b"x", fin=False), *[frame(b"x", 0, fin=False)] * 64]), 1008),
        (frame(b"\x91\x92\x13", fin=False) + frame(b"", 0), 4501),
        (frame(b"\xc1" * 64), 4501),
        (frame(b"\x90"), 4501),
        (frame(b"\xdd\xff\xff\xff\xff"), 4501),
        (frame(b"\x91\xdd\xff\xff\xff\xff"), 4501),
        (frame(b"\x91\x95\x05\x01\xdb\xff\xff\xff\xff"), 4501),
        (frame(b"\x91" * 100_000), 4501),
        (frame(b"\x81\xa1x" * 50_000), 4501),
        (packed(*[[19, 1]] * 65), 4501),
        (packed([]), 4501),
        (packed(["5", 1]), 4501),
        (packed(5), 4501),
        (packed({"op": 5}), 4501),
]  # fmt: skip


@pytest.mark.requirement("W02", "W03")
async def test_what_ends_the_session(world: World, unharmed: Unharmed, person: int) -> None:
    for data, code in ENDS:
        async with session(world, person) as raw:
            raw.write(data)
            assert await raw.closed() in ((0, 1000, 1005) if code == 0 else (code,)), named(data)
            assert raw.bye == (code if code >= 4000 else 0), named(data)
    await unharmed()


async def test_what_ends_a_session_in_json(world: World, unharmed: Unharmed, person: int) -> None:
    for data in (b"\xff\xfe", b"[" * 100_000, b"", b"{}", b"[[19,1]", b"[[19,1]]\x00", b"[[1e400,1]]"):
        async with session(world, person, text=True) as raw:
            raw.write(frame(data, TEXT))
            assert await raw.closed() == 4501, named(data)
    async with session(world, person, text=True) as raw:
        raw.write(frame(b"[[19,1]]", BINARY))
        assert await raw.closed() == 1003
    await unharmed()


NO_TEXT = [
    (b"\xff", True), (b"\xed\xa0\x80", True), (b"\xc0\xaf", True), (b"\xf5\x80\x80\x80", True),
    (b"\\x", False), (b"\n", False),
]  # fmt: skip
"""Bytes in a JSON string, and whether they leave it JSON."""


async def test_text_that_is_none_in_json(world: World, unharmed: Unharmed, person: int) -> None:
    """Broken UTF-8, lone surrogates, control characters: never stored, never passed on."""
    room = (await world.conversation(person)).encode()
    for said, is_json in NO_TEXT:
        for kind, body in ((said, b"x"), (b"text", said)):
            async with session(world, person, text=True) as raw:
                raw.write(frame(b'[[5,9,"%s","k-%s","%s","%s"],[19,6]]' % (room, room, kind, body), TEXT))
                if is_json:
                    assert (await raw.until(21))[1:3] == [9, "invalid"], said
                    await raw.until(19, 6)
                else:
                    assert await raw.closed() == 4501, said
    await unharmed()


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for _ in range(depth):
        value = [value]
    return value


OPTIONS = {"mentions": [str(n) for n in range(501)]}


REFUSED: list[tuple[list[Any], str]] = [
        ([99, 9], "unknown_op"), ([2, 9, "s"], "unknown_op"), ([6, 9], "unknown_op"), ([22, 9, 4001], "unknown_op"),
        ([0, 9], "unknown_op"), ([-1, 9], "unknown_op"), ([5, 9], "invalid"), ([5, 9, "ROOM", "k", "text"], "invalid"),
        ([5, 9, "ROOM", "", "text", "x"], "invalid"), ([5, 9, "ROOM", "k" * 65, "text", "x"], "invalid"),
        ([5, 9, "ROOM", "a b", "text", "x"], "invalid"), ([5, 9, "ROOM", "k\u0000", "text", "x"], "invalid"),
        ([5, 9, "ROOM", "k1", "TEXT", "x"], "invalid"), ([5, 9, "ROOM", "k1", "", "x"], "invalid"),
        ([5, 9, "ROOM", "k1", "text" * 9, "x"], "invalid"), ([5, 9, "ROOM", 7, "text", "x"], "invalid"),
        ([5, 9, "ROOM", "k1", "text", nested(17)], "invalid"), ([5, 9, "ROOM", "k1", "text", nested(400)], "invalid"),
        ([5, 9, "ROOM", "k1", "text", {1: "x"}], "invalid"),
        ([5, 9, "ROOM", "k1", "text", {"a": {None: 1}}], "invalid"),
        ([5, 9, "ROOM", "k1", "text", msgpack.ExtType(5, b"x")], "invalid"),
        ([5, 9, "ROOM", "k1", "text", msgpack.Timestamp(5, 5)], "invalid"),
        ([5, 9, "ROOM", "k1", "text", "x", OPTIONS], "invalid"), ([5, 9, "ROOM", "k1", "text", "x", []], "invalid"),
        ([5, 9, "ROOM", "k1", "text", "x", {"reply_to": -1}], "invalid"),
        ([5, 9, "ROOM", "k1", "text", "x" * 65_536], "too_large"), ([99, 9, "x" * 65_536], "too_large"),
        ([5, 9, "1", "k1", "text", "x"], "not_found"), ([5, 9, "-1", "k1", "text", "x"], "not_found"),
        ([5, 9, "０", "k1", "text", "x"], "not_found"), ([5, 9, "9" * 20, "k1", "text", "x"], "not_found"),
        ([5, 9, "9" * 21, "k1", "text", "x"], "invalid"), ([5, 9, "", "k1", "text", "x"], "invalid"),
        ([5, 9, "inbox", "k1", "text", "x"], "forbidden"), ([10, 9, "inbox", 1, "k1", "recall"], "forbidden"),
        ([10, 9, "ROOM", 0, "k1", "recall"], "invalid"), ([10, 9, "ROOM", 99, "k2", "recall"], "not_found"),
        ([10, 9, "ROOM", 1, "k3", "explode"], "invalid"), ([10, 9, "ROOM", 1, "k4", "edit", nested(17)], "invalid"),
        ([3, 9, "1", 0, 10], "not_found"), ([3, 9, "ROOM", -1, 10], "invalid"), ([3, 9, "ROOM", 0, 0], "invalid"),
        ([3, 9, "ROOM", 1 << 62, 10], "reset"), ([3, 9, "ROOM", "1", 10], "invalid"),
        ([8, 9, [["ROOM", 1]] * 501], "invalid"), ([8, 9, [["ROOM"]]], "invalid"), ([9, 9, "ROOM"], "invalid"),
        ([9, 9, [["ROOM", -1]]], "invalid"), ([9, 9, [["ROOM", 1.5]]], "invalid"),
        ([18, 9, [str(n) for n in range(501)]], "invalid"), ([18, 9, [5]], "invalid"),
        ([17, 9, "1", "typing", True], "not_found"), ([17, 9, "ROOM", "presence", True], "invalid"),
        ([17, 9, "ROOM", "typing", {"a": 1}], "invalid"), ([13, 9, "card"], "unavailable"),
        ([15, 9, "", {}], "invalid"), ([15, 9, "x.y", [1]], "invalid"), ([15, 9, "x.y", {}, None, 0], "invalid"),
        ([15, 9, "x.y", {}, None, 10**9], "invalid"), ([20, 9, "not a token"], "unauthenticated"),
        ([20, 9, "1:1"], "forbidden"), ([1, 9, "1:1", "raw", None, None], "conflict"), ([1, 9], "invalid"),
]  # fmt: skip


async def test_what_is_refused(world: World, unharmed: Unharmed, person: int) -> None:
    room = await world.conversation(person)

    def with_room(value: Any) -> Any:
        return (
            [with_room(one) for one in value]
            if isinstance(value, list)
            else room
            if value == "ROOM"
            else value
        )

    for number in range(0, len(REFUSED), 20):  # under the limit of SENDs
        async with session(world, person) as raw:
            for fields, code in REFUSED[number : number + 20]:
                raw.write(packed([19, 5], with_room(fields), [19, 6]))
                error = await raw.until(21)
                assert (error[1], error[2]) == (9, code), str(fields)[:80]
                await raw.until(19, 5)
                await raw.until(19, 6)  # its neighbours were not spoilt, and the session goes on
            raw.write(packed([5, 10, room, f"{room}-{number}", "text", "well"]))
            while (answer := await _answered(raw, 10))[0] == 21:
                assert answer[2] == "too_many_requests"
                await asyncio.sleep(answer[5] / 1000)
                raw.write(packed([5, 10, room, f"{room}-{number}", "text", "well"]))
    await unharmed()


async def _answered(raw: Raw, frame_id: int) -> list[Any]:
    async with asyncio.timeout(10):
        while True:
            for number, got in enumerate(raw.frames):
                if got[1] == frame_id:
                    return raw.frames.pop(number)
            await raw._read()


async def test_ids_that_are_none(world: World, person: int) -> None:
    for frame_id in (-1, 1 << 32, 1 << 64, 1.5, "7", None):
        async with session(world, person, text=True) as raw:
            raw.write(frame(json.dumps([[19, frame_id], [19, 6]]).encode(), TEXT))
            if isinstance(frame_id, int):
                error = await raw.until(21)
                assert error[1:3] == [0, "invalid"]
                await raw.until(19, 6)
            else:
                assert await raw.closed() == 4501, frame_id


@pytest.mark.requirement("W02", "W03")
async def test_fragments_are_put_together_and_pings_between_them_answered(
    world: World, unharmed: Unharmed, person: int
) -> None:
    message = msgpack.packb([[19, 1234567]])
    async with session(world, person) as raw:
        data = frame(message[:1], fin=False)
        for byte in message[1:-1]:
            data += frame(b"between", PING) + frame(bytes([byte]), 0, fin=False) + frame(b"", 0, fin=False)
        raw.write(data + frame(message[-1:], 0) + SAY)
        await raw.until(19, 1234567)
        await raw.until(19, 77)
        raw.write(SAY)
        await raw.until(19, 77)
        assert raw.pongs == [b"between"] * (len(message) - 2)
        raw.write(frame(b"unasked", PONG) + frame(message, form=126) + SAY)
        await raw.until(19, 77)
    await unharmed()


async def test_bytes_one_by_one(world: World, person: int) -> None:
    async with session(world, person) as raw:
        for byte in packed([19, 5]) + frame(b"p", PING) + packed([19, 6]):
            raw.write(bytes([byte]))
            await raw.writer.drain()
        await raw.until(19, 5)
        await raw.until(19, 6)
        raw.write(SAY)
        await raw.until(19, 77)
        assert raw.pongs == [b"p"]


async def test_a_connection_cut_in_a_frame_leaves_nothing(
    world: World, unharmed: Unharmed, person: int
) -> None:
    (node,) = world.nodes
    before = node.stats()["connections"]
    for cut in (1, 2, 5, 6, 20, 60):
        async with session(world, person) as raw:
            raw.write(packed([5, 9, "1", "k", "text", "x" * 50])[:cut])
            await raw.writer.drain()
    await unharmed()
    assert node.stats()["connections"] <= before + 1


@pytest.mark.requirement("W02", "W08")
async def test_memory_stays_flat_whatever_is_sent(world: World, unharmed: Unharmed, person: int) -> None:
    bombs = [
        frame(b"\xdd\xff\xff\xff\xff" + b"\x90" * 200_000), frame(b"\xdf\xff\xff\xff\xff" + b"\xa0" * 200_000),
        frame(b"\x91\xc6\xff\xff\xff\xff" + b"x" * 200_000), frame(b"x" * 200_000, fin=False), frame(b"\x91" * 250_000),
        packed([5, 9, "1", "k", "text", [[]] * 60_000]),
        packed([5, 9, "1", "k", "text", {str(n): 0 for n in range(6000)}]),
    ]  # fmt: skip

    async def throw() -> None:
        for bomb in bombs:
            async with session(world, person) as raw:
                raw.write(bomb)
                await raw.writer.drain()
                raw.write(SAY)
                await raw.writer.drain()

    for _ in range(3):
        await throw()
    await unharmed()
    before = rss_bytes()
    for _ in range(15):
        await throw()
    await unharmed()
    assert rss_bytes() - before < 24 << 20
