"""Expect: 100-continue: a client that asks before it sends a body is told at once, either way."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import Any

import pytest

from tests.gateway.conftest import World

LOGIN = "/v1/gateway.identity.login"
BODY = json.dumps({"login": "zhangwei", "password": "wrong", "device": "x"}).encode()


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {"gateway_body_timeout_s": 8.0}


async def _begin(
    world: World, *, host: str = "localhost", length: int = len(BODY), version: str = "1.1"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
    head = (
        f"POST {LOGIN} HTTP/{version}\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\nExpect: 100-Continue\r\n\r\n"
    )
    writer.write(head.encode())
    return reader, writer


async def _status(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(5):
        return int((await reader.readuntil(b"\r\n\r\n")).split()[1])


async def test_a_body_that_is_wanted_is_asked_for(world: World) -> None:
    reader, writer = await _begin(world)
    assert await _status(reader) == 100
    writer.write(BODY)
    assert await _status(reader) == 401, "the answer follows"
    writer.close()


@pytest.mark.parametrize(
    ("refused", "status"),
    [({"host": "evil.example"}, 421), ({"length": 1 << 30}, 413)],
    ids=["another host", "too large"],
)
async def test_a_body_that_is_not_wanted_is_refused_before_it_is_sent(
    world: World, refused: dict[str, Any], status: int
) -> None:
    reader, writer = await _begin(world, **refused)
    assert await _status(reader) == status
    writer.close()


async def test_a_client_of_http_1_0_is_told_nothing(world: World) -> None:
    reader, writer = await _begin(world, version="1.0")
    writer.write(BODY)
    assert await _status(reader) == 401
    writer.close()


async def test_curl_does_not_wait(world: World) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    process = await asyncio.create_subprocess_exec(
        curl, "-sS", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}", "--max-time", "7",
        "--expect100-timeout", "30", "-H", "Expect: 100-continue", "-H", "Content-Type: application/json",
        "--data-binary", BODY.decode(), f"{world.client.url}{LOGIN}", stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert (await process.communicate())[0] == b"401 1"
