"""The HTTP edge against callers who mean well, callers who do not, and proxies."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from core.codec import pack
from gateway.parts import ENDED
from tests.gateway.conftest import World

ME = "gateway.identity.me"


async def _raw(world: World, sent: bytes, *, wait_s: float = 5.0) -> bytes:
    """What comes back for these bytes, until the server closes or says nothing more for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
    writer.write(sent)
    got = b""
    try:
        async with asyncio.timeout(wait_s):
            while chunk := await reader.read(65536):
                got += chunk
    except (TimeoutError, ConnectionError):
        pass
    writer.close()
    return got


async def test_every_answer_has_a_trace_and_the_headers(world: World) -> None:
    url = world.client.url
    for method, path in [
        ("GET", "/livez"),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
        ("POST", f"/v1/{ME}"),
        ("PUT", f"/v1/{ME}"),
        ("DELETE", "/livez"),
        ("GET", "/metrics"),
        ("GET", "/readyz"),
    ]:
        async with world.client.session.request(method, url + path) as answer:
            headers = answer.headers
            assert len(headers["Trace-Id"]) == 32, path
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert headers["Server"] == "bankhub"
            if answer.status >= 400:
                assert answer.content_type == "application/problem+json"
                assert (await answer.json(content_type=None))["trace_id"] == headers["Trace-Id"]


async def test_the_callers_trace_goes_on(world: World) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = await world.client.call(ME, traceparent=f"00-{trace}-b7ad6b7169203331-01")
    assert answer.body["trace_id"] == trace
    for wrong in ("00-" + "0" * 32 + "-b7ad6b7169203331-01", "garbage", "x" * 5000):
        answer = await world.client.call(ME, traceparent=wrong)
        assert len(answer.body["trace_id"]) == 32
        assert answer.body["trace_id"] != "0" * 32


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("text/plain", b"{}", 415),
        ("application/x-www-form-urlencoded", b"a=b", 415),
        ("multipart/form-data", b"", 415),
        ("application/json; charset=gbk", b"{}", 415),
        ("application/json", b"", 400),
        ("application/json", b"[]", 400),
        ("application/json", b'"x"', 400),
        ("application/json", b'{"a": NaN}', 400),
        ("application/json", b"{", 400),
        ("application/json", b'{"a": "\xff"}', 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b'{"login": 1}', 422),
        ("application/json; charset=UTF-8", b'{"login": 1}', 422),
        ("application/json", b'{"login":"' + b"x" * 1_100_000 + b'"}', 413),
    ],
)
async def test_bodies_are_json_objects(world: World, content_type: str, body: bytes, status: int) -> None:
    async with world.client.session.post(
        f"{world.client.url}/v1/gateway.identity.login",
        data=io.BytesIO(body),
        headers={"Content-Type": content_type},
    ) as answer:
        assert answer.status == status
        assert (await answer.json(content_type=None))["code"] == "invalid"


async def test_compressed_bodies_are_refused(world: World) -> None:
    answer = await world.client.call(ME, Content_Encoding="gzip")
    assert answer.status == 415


async def test_a_chunked_body_is_measured_while_it_comes(world: World) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 65536

    headers = {"Content-Type": "application/json"}
    async with world.client.session.post(
        f"{world.client.url}/v1/{ME}", data=endless(), headers=headers
    ) as answer:
        assert answer.status == 413


@pytest.mark.parametrize(
    "authorization", ["", "Basic x", "Bearer", "Bearer ", "Bearer x.y.z", "Bearer " + "x" * 5000, "bearer é"]
)
async def test_tokens_that_are_none(world: World, authorization: str) -> None:
    answer = await world.client.call(ME, Authorization=authorization)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer, DPoP ")


async def test_two_tokens_are_none(world: World) -> None:
    token = (await world.login("zhangwei"))["access_token"]
    head = f"POST /v1/{ME} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    one = f"Authorization: Bearer {token}\r\n"
    assert b" 200 " in (await _raw(world, f"{head}{one}Connection: close\r\n\r\n{{}}".encode()))[:20]
    assert b" 401 " in (await _raw(world, f"{head}{one}{one}Connection: close\r\n\r\n{{}}".encode()))[:20]


async def test_an_old_token_does_not_keep_anybody_from_logging_in(world: World) -> None:
    fields = {"login": "zhangwei", "password": world.people["zhangwei"].password, "device": "d"}
    answer = await world.client.call("gateway.identity.login", fields, token="x.y.z")
    assert answer.status == 200


async def test_idempotency_and_deadline_headers_are_checked(world: World) -> None:
    token = (await world.login("zhangwei"))["access_token"]
    for headers in (
        {"Idempotency_Key": "has space"},
        {"Idempotency_Key": "x" * 65},
        {"Deadline_Ms": "soon"},
        {"Deadline_Ms": "-1"},
        {"Deadline_Ms": "0"},
    ):
        assert (await world.client.call(ME, token=token, **headers)).status == 422
    assert (
        await world.client.call(ME, token=token, Deadline_Ms="5000", Idempotency_Key="k_-1")
    ).status == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "https://127.0.0.1.evil.example",
        "https://evil127.0.0.1",
        "HTTPS://BANK.EXAMPLE.EVIL",
        "https://bänk.example",
        "file://",
        "http://[",
        "https://xn--bnk-qla.example",
        "http://127.0.0.1:99999",
        "http://127.0.0.1/",
        "http://user@127.0.0.1",
        "https://{host}",
        "http://evil.example@{host}",
        "http://{host}.evil.example",
        "http://127.0.0.1",
        "http://127.0.0.1:9",
    ],
)
async def test_other_origins_are_refused(world: World, origin: str) -> None:
    origin = origin.format(host=world.client.url.removeprefix("http://"))
    token = (await world.login("zhangwei"))["access_token"]
    answer = await world.client.call(ME, token=token, Origin=origin)
    assert answer.status == 403
    assert "Access-Control-Allow-Origin" not in answer.headers
    async with world.client.session.options(
        f"{world.client.url}/v1/{ME}", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
    ) as preflight:
        assert preflight.status == 403


async def test_our_own_pages_may_call(world: World) -> None:
    token = (await world.login("zhangwei"))["access_token"]
    assert (await world.client.call(ME, token=token, Origin=world.client.url)).status == 200


async def test_metrics_are_for_the_neighbourhood(world: World) -> None:
    async with world.client.session.get(f"{world.client.url}/metrics") as answer:
        assert answer.status == 200
        assert b"bankhub_actions_total" in await answer.read()
    async with world.client.session.get(
        f"{world.client.url}/metrics", headers={"X-Forwarded-For": "203.0.113.9"}
    ) as answer:
        assert answer.status == 404


ODD_HEADERS = {
    "origin that is no URL": b"Origin: http://[\r\n",
    "origin in half characters": b"Origin: http://\xff\r\n",
    "origin that Unicode makes two of": "Origin: http://a℀b\r\n".encode(),
    "user agent": b"User-Agent: \xff\xfe\r\n",
    "bearer": b"Authorization: Bearer \xff\r\n",
    "proof": b"Authorization: DPoP \xff.\xff.\xff\r\nDPoP: \xff.\xff.\xff\r\n",
    "key that nobody has": b"Authorization: Bearer eyJhbGciOiJFUzI1NiIsImtpZCI6InRva2Vucy45OTk5OTkifQ.e30.AA\r\n",
    "forwarding": b'X-Forwarded-For: \xff\r\nForwarded: for=\xff;host="[\r\nX-Forwarded-Proto: \xff\r\n',
    "trace": b"traceparent: \xff\r\n",
    "idempotency key": b"Idempotency-Key: \xff\r\n",
    "digits of another script": "Step-Up: ١\r\nDeadline-Ms: ١\r\n".encode(),
    "charset": b"Content-Type: application/json; charset=\xff\r\n",
}


@pytest.mark.parametrize("odd", ODD_HEADERS.values(), ids=ODD_HEADERS)
async def test_no_header_makes_a_failure_of_ours(world: World, odd: bytes) -> None:
    for line in (
        b"POST /v1/gateway.identity.login",
        b"POST /v1/gateway.identity.me",
        b"GET /metrics",
        b"GET /livez",
    ):
        got = await _raw(
            world,
            line
            + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n"
            + odd
            + b"\r\n{}",
        )
        assert got[9:10] in (b"2", b"4"), got


async def test_a_token_of_metrics_is_compared_whatever_is_sent(world: World) -> None:
    settings = world.runtime.settings
    settings.__dict__["gateway_metrics_token"] = SecretStr("a token of some length")
    for given, status in ((b"\xff", b"401"), (b"a token of some length", b"200")):
        got = await _raw(
            world,
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "
            + given
            + b"\r\n\r\n",
        )
        assert got[9:12] == status


async def test_a_head_is_measured_as_a_whole(world: World) -> None:
    """Many fields that are each small enough: while they come, and when all of them came at once."""
    fields = b"".join(b"A%d: %s\r\n" % (n, b"y" * 1000) for n in range(20))
    begun = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + fields
    began = asyncio.get_running_loop().time()
    for sent in (begun, begun + b"\r\n"):
        assert (await _raw(world, sent))[9:12] == b"431"
    assert asyncio.get_running_loop().time() - began < 1.0, "the time for a head was waited for"
    assert (await _raw(world, begun[:8000] + b"\r\n\r\n"))[9:12] == b"200"


async def test_what_is_refused_as_ambiguous_ends_the_connection(world: World) -> None:
    """What the answer says (`Connection: close`) is done: the next bytes might be a part of the same attempt."""
    next_one = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for first in (
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n",
        b"GET http://localhost/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ):
        got = await _raw(world, first + 2 * next_one)
        assert got.count(b"HTTP/1.") == got.count(b" 400 Bad Request") == 1, got
        assert got.partition(b"HTTP/1.0")[1] or b"Connection: close" in got


async def test_probes(world: World) -> None:
    for path in ("/livez", "/readyz"):
        async with world.client.session.get(world.client.url + path) as answer:
            assert answer.status == 200
    assert world.runtime.db is not None
    await world.runtime.db.close()
    world.clock.advance(1000)
    async with world.client.session.get(world.client.url + "/readyz") as answer:
        assert answer.status == 503
    async with world.client.session.get(world.client.url + "/livez") as answer:
        assert answer.status == 200


async def test_an_address_floods_only_itself(world: World) -> None:
    burst = world.runtime.settings.gateway_rate_burst
    answers = [(await world.client.call("nobody.nothing")).status for _ in range(burst + 10)]
    assert answers.count(404) == burst
    assert answers[-1] == 429


async def test_slow_heads_are_cut(world: World) -> None:
    """200 connections that never finish their head, in every way: gone when the time is over, others served."""
    kinds = [
        b"",
        b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /livez HTTP/1.1\r\nX: " + b"y" * 2000,
        b"G",
    ]
    opened = [await asyncio.open_connection("127.0.0.1", world.gateway.port) for _ in range(200)]
    for n, (_, writer) in enumerate(opened):
        writer.write(kinds[n % 4])
    async with world.client.session.get(f"{world.client.url}/livez") as answer:
        assert answer.status == 200
    async with asyncio.timeout(5):
        for reader, writer in opened:
            with suppress(ConnectionError):
                await reader.read()
            writer.close()


async def test_dripping_does_not_help(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
    began = asyncio.get_running_loop().time()
    writer.write(b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\n")
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(5):
            while not reader.at_eof():
                writer.write(b"X-A: b\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
            raise ConnectionResetError
    assert asyncio.get_running_loop().time() - began < 3
    writer.close()


async def test_slow_bodies_are_cut(world: World) -> None:
    head = b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    began = asyncio.get_running_loop().time()
    got = await _raw(world, head)
    assert got.startswith(b"HTTP/1.1 408")
    assert asyncio.get_running_loop().time() - began < 4


async def test_openapi_describes_every_public_action(world: World) -> None:
    async with world.client.session.get(f"{world.client.url}/openapi.json") as answer:
        document = orjson.loads(await answer.read())
    assert document["openapi"] == "3.1.0"
    actions = {path for path in document["paths"] if path.startswith("/v1/")}
    assert actions == {f"/v1/{a.name}" for a in world.runtime.registry.public()}
    assert "/v1/gateway.identity.find_members" not in document["paths"]
    login = document["paths"]["/v1/gateway.identity.login"]["post"]
    assert login["security"] == []
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "')[1:]}:
        assert reference.startswith("#/components/")
        _, _, kind, name = reference.split("/")
        assert name in document["components"][kind], reference
    identifier = document["components"]["schemas"]["Person"]["properties"]["person_id"]
    assert identifier["type"] == "string"


async def test_ended_sessions_are_heard_on_the_bus(world: World) -> None:
    begun = await world.login("zhangwei")
    token = begun["access_token"]
    world.runtime.bus.publish(ENDED, b"\xc1 nonsense")
    world.runtime.bus.publish(ENDED, pack(["x"]))
    assert (await world.client.call(ME, token=token)).status == 200
    world.runtime.bus.publish(ENDED, pack([[int(begun["session_id"])], []]))
    await asyncio.sleep(0)
    assert (await world.client.call(ME, token=token)).status == 401


async def test_ended_sessions_are_found_without_the_bus(world: World) -> None:
    begun = await world.login("zhangwei")
    from datetime import timedelta

    from gateway.sessions import store

    now = world.clock.now() + timedelta(seconds=1)
    await world.runtime.db.run(store.end, int(begun["session_id"]), "revoked", now)
    assert (await world.client.call(ME, token=begun["access_token"])).status == 200
    world.gateway.parts.bus_changed(False)
    async with asyncio.timeout(5):
        while (await world.client.call(ME, token=begun["access_token"])).status != 401:
            await asyncio.sleep(0.02)
