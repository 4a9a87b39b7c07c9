"""Bytes on a socket that are not, or not only, one honest request: direct, and through the DMZ's nginx.

Behind every shape that ends a request in two ways stands a second request for /smuggled. It must never be answered as
a request of its own where the first was taken, and the two servers must agree on how many requests there were.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from core.db import sql
from gateway.http import Edge
from tests.gateway.conftest import World
from tests.gateway.proxy import NAME, nginx

HOST = b"Host: localhost\r\n"
HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
JSON = b"Content-Type: application/json\r\n"
ME = b"POST /v1/gateway.identity.me HTTP/1.1\r\n"


def _chunked(*, head: bytes = b"", body: bytes = b"0\r\n\r\n") -> bytes:
    return ME + HOST + JSON + head + b"Transfer-Encoding: chunked\r\n\r\n" + body


SHAPES: dict[str, bytes] = {
    "CL and TE": ME + HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE and CL": ME + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two lengths": ME + HOST + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + HIDDEN,
    "two equal lengths": ME + HOST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + HIDDEN,
    "a list of lengths": ME + HOST + b"Content-Length: 2, 2\r\n\r\n{}" + HIDDEN,
    "length with a sign": ME + HOST + b"Content-Length: +2\r\n\r\n{}" + HIDDEN,
    "negative length": ME + HOST + b"Content-Length: -1\r\n\r\n" + HIDDEN,
    "hexadecimal length": ME + HOST + b"Content-Length: 0x2\r\n\r\n{}" + HIDDEN,
    "length in other digits": ME + HOST + "Content-Length: ２\r\n\r\n{}".encode() + HIDDEN,
    "huge length": ME + HOST + b"Content-Length: 99999999999999999999\r\n\r\n" + HIDDEN,
    "empty length": ME + HOST + b"Content-Length: \r\n\r\n" + HIDDEN,
    "odd coding": ME + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two codings": ME
    + HOST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "chunked not last": ME + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n" + HIDDEN,
    "coding behind a tab": ME + HOST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "coding with a space before the colon": ME
    + HOST
    + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "coding folded": ME + HOST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "space before colon": b"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "obsolete fold": b"GET /livez HTTP/1.1\r\n" + HOST + b" folded\r\n\r\n",
    "bare line feeds": b"GET /livez HTTP/1.1\nHost: localhost\n\n",
    "bare carriage return": b"GET /livez HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n",
    "bare line feed in a field": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n",
    "null in a field": b"GET /livez HTTP/1.1\r\nHost: local\x00host\r\n\r\n",
    "null in a name": b"GET /livez HTTP/1.1\r\n" + HOST + b"X\x00Y: z\r\n\r\n",
    "no version": b"GET /livez\r\n\r\n",
    "version of tomorrow": b"GET /livez HTTP/9.9\r\n" + HOST + b"\r\n",
    "two spaces": b"GET  /livez  HTTP/1.1\r\n" + HOST + b"\r\n",
    "method in lower case": b"get /livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT example.com:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "TRACE": b"TRACE /livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute target": b"GET http://localhost/livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute target of another": b"GET http://evil.example/openapi.json HTTP/1.1\r\n" + HOST + b"\r\n",
    "two hosts": b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n",
    "no host": b"GET /openapi.json HTTP/1.1\r\n\r\n",
    "empty host": b"GET /openapi.json HTTP/1.1\r\nHost: \r\n\r\n",
    "foreign host": b"GET /openapi.json HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "host with a path": b"GET /openapi.json HTTP/1.1\r\nHost: localhost/evil\r\n\r\n",
    "host with a user": b"GET /openapi.json HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n",
    "host with a suffix": b"GET /openapi.json HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n",
    "host in other letters": "GET /openapi.json HTTP/1.1\r\nHost: lοcalhost\r\n\r\n".encode(),
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "upgrade to h2c": b"GET /livez HTTP/1.1\r\n"
    + HOST
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    "garbage": bytes(range(256)),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "long line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "long field": b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 40_000 + b"\r\n\r\n",
    "many fields": b"GET /livez HTTP/1.1\r\n"
    + HOST
    + b"".join(b"A%d: b\r\n" % n for n in range(200))
    + b"\r\n",
    "chunked with a trailer": _chunked(body=b"2\r\n{}\r\n0\r\nHost: evil.example\r\n\r\n") + HIDDEN,
    "chunk size with junk": _chunked(body=b"2 x\r\n{}\r\n0\r\n\r\n") + HIDDEN,
    "chunk size in words": _chunked(body=b"two\r\n{}\r\n0\r\n\r\n") + HIDDEN,
    "negative chunk": _chunked(body=b"-1\r\n{}\r\n0\r\n\r\n") + HIDDEN,
    "huge chunk": _chunked(body=b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n") + HIDDEN,
    "chunk that is longer than it says": _chunked(body=b"1\r\n{}\r\n0\r\n\r\n") + HIDDEN,
    "bare line feed behind a chunk's size": _chunked(body=b"2\n{}\r\n0\r\n\r\n") + HIDDEN,
}
"""Each of these is refused, or at most taken as one request."""

SLOPPY = {"method in lower case", "two spaces", "upgrade to h2c"}
"""Taken by the gateway too, as the one request that any reader sees in it."""

WHOLE: dict[str, tuple[bytes, int]] = {
    "chunked": (_chunked(body=b"2\r\n{}\r\n0\r\n\r\n"), 401),
    "chunks one byte each": (_chunked(body=b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), 401),
    "chunk with an extension": (_chunked(body=b"2;name=value\r\n{}\r\n0\r\n\r\n"), 401),
    "length": (ME + HOST + JSON + b"Content-Length: 2\r\n\r\n{}", 401),
}
"""Unusual and allowed: one request, and what follows it is the next one."""

PATHS = {
    "/v1/../livez": 404, "/v1//": 404, "/v1/%2e%2e/x": 404, "/%6civez": 404, "//livez": 404, "/livez/": 404,
    "/LIVEZ": 404, "/livez%00": 404, "/livez%20": 404, "/livez;a=b": 404, "/livez%2f": 404, "/.": 404, "/..": 404,
    "/..%2f..%2fetc/passwd": 404, "/v1/gateway.identity.me%00": 404, "/v1/gateway.identity.me/": 404,
    "/V1/gateway.identity.me": 404, "/v1/Gateway.identity.me": 404, "/v1/gateway%2eidentity%2eme": 404,
    "/v1/gateway.identity.me%c0%af": 404, "/%c0%ae%c0%ae/livez": 404, "/livez%ff": 404, "/\\livez": 404,
    "/v1/gateway.identity.find_members": 404, "/livez#x": 404, "/livez%": 404, "/%zz": 404, "/v1/%0d%0aX: y": 404,
}  # fmt: skip
"""What looks like something else is something else: nothing is there. A refusal of the bytes (400) is as good."""


@dataclass
class Way:
    """One way to the gateway, and what arrived there."""

    port: int
    name: str
    arrived: list[str] = field(default_factory=list)

    async def say(self, sent: bytes, *, wait_s: float = 2.5) -> bytes:
        """What comes back until the server closes, or says nothing for a moment."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        if self.name == "nginx":
            sent = sent.replace(b"localhost", NAME.encode())
        writer.write(sent)
        got = b""
        try:
            while chunk := await asyncio.wait_for(reader.read(65536), 0.4 if got else wait_s):
                got += chunk
        except (TimeoutError, ConnectionError):
            pass
        writer.close()
        return got


@pytest.fixture(params=["direct", "nginx"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def more_settings(kind: str) -> dict[str, Any]:
    if kind == "direct":
        return {}
    return {"gateway_hosts": NAME, "gateway_trusted_proxies": "127.0.0.1", "gateway_rate_burst": 10_000}


@pytest.fixture
async def way(kind: str, world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Way]:
    arrived: list[str] = []
    handle = Edge._route

    async def watched(self: Edge, one: object, address: str, trace: object) -> object:
        arrived.append(one.raw_path)  # type: ignore[attr-defined]
        return await handle(self, one, address, trace)  # type: ignore[arg-type]

    monkeypatch.setattr(Edge, "_route", watched)
    assert world.gateway.port is not None
    if kind == "direct":
        yield Way(world.gateway.port, "direct", arrived)
        return
    async with nginx(world.gateway.port) as port:
        yield Way(port, "nginx", arrived)


def _statuses(got: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", got)]


@pytest.mark.requirement("W09")
@pytest.mark.parametrize("shape", SHAPES)
async def test_what_is_not_one_request_is_none(way: Way, shape: str) -> None:
    got = await way.say(SHAPES[shape])
    statuses = _statuses(got)
    # nginx takes some shapes that are only sloppy, and passes on what it understood: then there is one request
    taken = [status for status in statuses if status < 400]
    assert len(taken) <= 1, got
    assert way.arrived.count("/smuggled") <= (1 if way.name == "nginx" else 0), way.arrived
    assert len(way.arrived) <= max(1, len(statuses)), "the two servers counted differently"
    if way.name == "direct":
        assert not taken or shape in SLOPPY, got[:200]
        assert len(statuses) <= 1, got
    assert b"aiohttp" not in got
    assert b"Python" not in got
    head, _, body = got.partition(b"\r\n\r\n")
    if way.name == "direct" and body and not taken:
        assert b"application/problem+json" in head
        told = json.loads(body)
        assert told["code"] in ("invalid", "not_found")
        assert len(told["trace_id"]) == 32
        assert b"Trace-Id: " + told["trace_id"].encode() in head


@pytest.mark.requirement("W09")
@pytest.mark.parametrize("shape", WHOLE)
async def test_what_is_unusual_but_one_request_is_one(way: Way, shape: str) -> None:
    sent, status = WHOLE[shape]
    got = await way.say(sent + b"GET /livez HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert _statuses(got) == [status, 200], got
    assert way.arrived == ["/v1/gateway.identity.me", "/livez"]


@pytest.mark.requirement("W09")
@pytest.mark.parametrize("path", PATHS)
async def test_path_tricks_lead_nowhere(way: Way, path: str) -> None:
    sent = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + JSON
    got = await way.say(sent + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}")
    assert _statuses(got)[:1] in ([PATHS[path]], [400]), got[:200]
    assert b"passwd" not in got.partition(b"\r\n\r\n")[2]


AUDITED = sql(
    "SELECT address FROM core_audit WHERE device = $1 ORDER BY audit_id DESC LIMIT 1",
    exempt="a test looks at its own rows",
)
LIES = (
    b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n"
    b"X-Client-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\nX-Forwarded-Host: evil.example\r\n"
)


@pytest.mark.requirement("W09")
async def test_the_audited_address_is_the_real_one(way: Way, world: World) -> None:
    person, device = world.people["zhangwei"], f"audit-{way.name}"
    body = json.dumps({"login": "zhangwei", "password": person.password, "device": device}).encode()
    got = await way.say(
        b"POST /v1/gateway.identity.login HTTP/1.1\r\n" + HOST + JSON + LIES
        + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
    )  # fmt: skip
    assert _statuses(got) == [200]
    assert await world.runtime.db.fetchval(AUDITED, device) == "127.0.0.1"


async def test_metrics_are_not_for_the_other_side_of_a_proxy(way: Way) -> None:
    got = await way.say(b"GET /metrics HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert _statuses(got) == ([200] if way.name == "direct" else [404])


@pytest.mark.requirement("W09")
@pytest.mark.parametrize("path", ["/ws", "/v1/gateway.identity.me", "/%77s", "/x/../ws"])
async def test_what_a_client_forges_ends_at_the_proxy_on_every_way(path: str) -> None:
    """nginx forgets every proxy_set_header of a level as soon as a location has one of its own."""
    heads: asyncio.Queue[bytes] = asyncio.Queue()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async with await asyncio.start_server(keep, "127.0.0.1", 0) as server:
        behind = server.sockets[0].getsockname()[1]
        async with nginx(behind, behind) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                b"GET "
                + path.encode()
                + b" HTTP/1.1\r\nHost: bank.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n"
                b"X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: evil.example\r\n\r\n"
            )
            async with asyncio.timeout(5):
                head = (await heads.get()).decode().lower()
            writer.close()
    lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    assert "203.0.113.9" not in head
    assert "evil.example" not in head
    assert lines["x-forwarded-for"] == "127.0.0.1"
    assert lines["x-forwarded-proto"] == "http"
    assert lines["host"] == NAME
    assert ("upgrade" in lines) == ("v1" not in path), "only the hub's connections become something else"
