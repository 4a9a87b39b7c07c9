"""Before HELLO: what is no WebSocket, no hub client, or nobody we know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgpack
import pytest

from tests.hostile.raw import TEXT, frame, named, packed, socket_to
from tests.hub.harness import World

Unharmed = Callable[[], Awaitable[None]]
EVIL = "https://evil.example"


HANDSHAKES: list[tuple[dict[str, Any], int]] = [
        ({}, 101), ({"path": "/hub"}, 101), ({"path": "/?x=1"}, 101), ({"path": "/admin"}, 404),
        ({"path": "/" + "x" * 9000}, 414), ({"method": "POST"}, 405), ({"version": "1.0"}, 505),
        ({"upgrade": None}, 426), ({"upgrade": "h2c"}, 426), ({"connection": "close"}, 426),
        ({"sec_websocket_key": None}, 400), ({"sec_websocket_key": "short"}, 400),
        ({"sec_websocket_version": "8"}, 400), ({"sec_websocket_version": None}, 400),
        ({"sec_websocket_protocol": None}, 400), ({"sec_websocket_protocol": "chat"}, 400),
        ({"sec_websocket_protocol": "chat, bankhub.v1.json"}, 101), ({"sec_websocket_protocol": "bankhub.v2"}, 400),
        ({"origin": EVIL}, 403), ({"origin": "null"}, 403), ({"origin": "https://bank.example.evil.example"}, 403),
        ({"origin": "https://bank.example"}, 101), ({"sec_websocket_extensions": "permessage-deflate"}, 101),
        ({"x_many": "\r\n".join(["y"] + [f"x{n}: y" for n in range(300)])}, 431),
]  # fmt: skip


@pytest.mark.requirement("W01", "W03")
async def test_handshakes(world: World, unharmed: Unharmed) -> None:
    for request, status in HANDSHAKES:
        async with socket_to(world) as raw:
            assert await raw.handshake(**request) == status, str(request)[:80]
            if status != 101:
                await raw.reader.read()  # the hub ends it
    await unharmed()


@pytest.mark.parametrize(
    "rubbish",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"\r\n" * 5000, b"\x00" * 70_000,
     b"GET / HTTP/1.1\r\nx\r\n\r\n",
     b"A" * 100_000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ids=["tls", "empty lines", "zeros", "no colon", "one long line", "http2"],
)  # fmt: skip
async def test_what_is_no_request_is_refused(world: World, unharmed: Unharmed, rubbish: bytes) -> None:
    async with socket_to(world) as raw:
        raw.write(rubbish)
        assert await raw.status() in (0, 400, 414)
    await unharmed()


@pytest.mark.requirement("W04", "W07")
async def test_a_slow_handshake_is_cut(world: World, unharmed: Unharmed) -> None:
    async with socket_to(world) as raw:
        began_s = asyncio.get_running_loop().time()
        for byte in b"GET / HTTP/1.1\r\nHost: hub\r\nX-Slow: " + b"x" * 1000:
            raw.write(bytes([byte]))
            try:
                async with asyncio.timeout(0.05):
                    assert await raw.reader.read() == b""
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert asyncio.get_running_loop().time() - began_s < 5
    await unharmed()


@pytest.mark.requirement("W04", "W07")
async def test_silence_is_cut(world: World, unharmed: Unharmed) -> None:
    sockets = [await asyncio.open_connection("127.0.0.1", world.ports["a"]) for _ in range(200)]
    async with asyncio.timeout(6):
        for reader, _ in sockets:
            with suppress(ConnectionError):
                assert await reader.read() == b""
    for _, writer in sockets:
        writer.transport.abort()
    await unharmed()


HELLO = [1, 1, "{person}:1", "raw", None, None]


INSTEAD: list[tuple[bytes | None, int]] = [
        (None, 4502),
        (packed([1, 1, "not a token", "raw"]), 4500),
        (packed([1, 1, "", "raw"]), 4500),
        (packed([1, 1, "x" * 9000, "raw"]), 4501),
        (packed([1, 1, 5, "raw"]), 4501),
        (packed([1, 1]), 4501),
        (packed([1, 1, "1:1", ""]), 4501),
        (packed([1, 1, "1:1", "d" * 65]), 4501),
        (packed([1, 1, "1:1", "raw", None, {str(n): 1 for n in range(2001)}]), 4501),
        (packed([1, 1, "1:1", "raw", None, {"7": -1}]), 4501),
        (packed([5, 1, "7", "k", "text", "hello"]), 4501),
        (packed([3, 1, "streams"]), 4501),
        (packed([99, 1]), 4501),
        (packed([1, 1, "1:1", "raw"], [1, 2, "1:1", "raw"]), 4501),
        (packed(*[[19, 1]] * 65), 4501),
        (packed(), 4501),
        (frame(b""), 4501),
        (frame(b"\xc1"), 4501),
        (frame(b"\xff" * 1000), 4501),
        (frame(b"\xdd\xff\xff\xff\xff"), 4501),
        (frame(b"\x91" * 5000), 4501),
        (frame(msgpack.packb({"op": 1})), 4501),
        (frame(b"[[1,1]]", TEXT), 1003),
        (frame(b"x" * 70_000), 1009),
        (frame(b"", size=1 << 62, form=127), 1009),
]  # fmt: skip


async def test_what_is_said_instead_of_hello(world: World, unharmed: Unharmed) -> None:
    for message, code in INSTEAD:
        async with socket_to(world) as raw:
            assert await raw.handshake() == 101
            if message is not None:
                raw.write(message)
            assert await raw.closed() == code, named(message)
            assert raw.bye == (code if code >= 4000 else 0), named(message)
    await unharmed()


@pytest.mark.requirement("S05")
async def test_a_token_in_the_url_is_not_looked_at(world: World, person: int) -> None:
    async with socket_to(world) as raw:
        assert (
            await raw.handshake(
                f"/?token={person}:1&access_token={person}:1", authorization=f"Bearer {person}:1"
            )
            == 101
        )
        raw.write(packed([3, 1, "streams"]))
        assert await raw.closed() == 4501


async def test_ping_is_answered_before_hello_but_a_flood_of_it_is_not(
    world: World, unharmed: Unharmed
) -> None:
    async with socket_to(world) as raw:
        assert await raw.handshake() == 101
        raw.write(packed([19, 7, 5]))
        assert (await raw.until(19))[1] == 7
        for _ in range(20):
            raw.write(packed(*[[19, 8]] * 64))
        assert await raw.closed() == 4013
    await unharmed()


async def test_one_device_too_many(world: World, person: int) -> None:
    clients = [await world.client("a", person, device=f"d{n}") for n in range(10)]
    late = await world.client("a", person, device="one more", hello=False)
    await late.send(1, 1, f"{person}:1", "one more", None, None)
    assert await late.gone() == 4504
    assert all(client.closed is None for client in clients)
