"""Files through the proxy in the DMZ, the real one with deploy/dmz/nginx.conf."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.files.conftest import World
from tests.gateway.proxy import NAME, nginx

LARGE = b"".join(b"%09d,%s\n" % (n, b"-" * 90) for n in range(40_000))  # 4 MB
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {"gateway_hosts": NAME, "gateway_trusted_proxies": "127.0.0.1"}


@pytest.fixture
async def proxied(world: World) -> AsyncIterator[World]:
    """The same, asked through nginx."""
    async with nginx(int(world.url.rpartition(":")[2])) as port:
        world.url = f"http://127.0.0.1:{port}"
        yield world


def named(**headers: str) -> dict[str, str]:
    return {"Host": NAME, **{name.replace("_", "-"): value for name, value in headers.items()}}


async def log_in(world: World) -> None:
    fields = {"login": "zhangwei", "password": world.people["zhangwei"].password, "device": "phone"}
    answer = await world.ask("POST", "/v1/gateway.identity.login", who=None, json=fields, headers=named())
    assert answer.status == 200, answer.body
    world.logins["zhangwei"] = answer.json["access_token"]


async def test_large_files_pass_whole_and_in_parts(proxied: World) -> None:
    world = proxied
    await log_in(world)
    whole = await world.upload("流水.csv", LARGE, Host=NAME)
    assert whole.status == 201, whole.body
    back = await world.ask("GET", f"/files/{whole.json['file_id']}", headers=named())
    assert back.body == LARGE
    some = await world.ask(
        "GET", f"/files/{whole.json['file_id']}", headers=named(Range="bytes=3000000-3000009")
    )
    assert (some.status, some.body) == (206, LARGE[3_000_000:3_000_010])
    begun = await world.ask(
        "POST", "/v1/files.uploads.begin", json={"name": "a.csv", "size_bytes": len(LARGE)}, headers=named()
    )
    path, half = f"/files/tus/{begun.json['upload_id']}", 2_000_000
    for data, offset in ((LARGE[:half], 0), (LARGE[half:], half)):
        part = await world.ask("PATCH", path, data=data, headers=named(**TUS, Upload_Offset=str(offset)))
        assert part.status == 204, part.body
        assert part.headers.get("File-State") == ("ready" if offset else None)
    other = await world.ask("POST", "/v1/gateway.identity.me", data=LARGE, headers=named())
    assert other.status == 413  # everything else is held to a MiB as before


async def test_what_is_refused_is_refused_before_it_comes(proxied: World) -> None:
    await log_in(proxied)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxied.url.rpartition(":")[2]))
    head = (
        f"POST /files/upload?name=a.mp4 HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {1 << 40}\r\n"
        f"Authorization: Bearer {proxied.logins['zhangwei']}\r\n\r\n"
    )
    writer.write(head.encode() + b"\0" * 65536)  # and nothing more
    async with asyncio.timeout(10):
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length:")[2].split()[0])
        body = await reader.readexactly(length)
    assert answer.startswith(b"HTTP/1.1 422 "), answer
    assert b"too_large" in body
    writer.close()


def test_no_location_of_the_proxy_has_header_fields_of_its_own() -> None:
    text = (Path(__file__).resolve().parents[2] / "deploy/dmz/nginx.conf").read_text()
    for location in text.split("location ")[1:]:
        assert "proxy_set_header" not in location.partition("}")[0]
