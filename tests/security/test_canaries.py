"""Canaries of every class are put in through the API; then everything that is written anywhere is searched for them.

C3: nowhere but in the answer to its owner. C2: the phone nowhere in clear, because nobody with a reason has asked for
it; the name not in logs, metrics, Redis, or answers to the bank's staff.
"""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
import structlog
from redis.asyncio import Redis

from core.bus import RedisBus
from core.clock import ManualClock
from core.embedded import EmbeddedEngines
from core.logs import configure_logs
from core.rng import SystemRng
from core.runtime import Runtime
from core.telemetry import render_metrics
from core.tokens import AccessTokens
from gateway import demo
from gateway.people import ActivePeople
from gateway.service import GatewayService
from gateway.sms.outbox import FILE
from im.service import ImService
from tests.gateway.conftest import Client, World
from tests.gateway.sms import code_for
from tests.gateway.test_joining import call, staff
from tests.world import process, settings_for

pytestmark = [pytest.mark.requirement("D01"), pytest.mark.requirement("S11"), pytest.mark.requirement("A04")]

PHONE = "13398765432"
NAME = "金丝雀鸣"
LOGIN = "canary.bird"
PASSWORD = "canary-over-nine-hills"
SECOND = "canary-under-two-moons"
ACCOUNT = "622288887777666655"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root, saved = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs("debug", stream)
    yield stream
    structlog.configure(**saved)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.access").disabled = False


class Recorder(Client):
    """Remembers every answer."""

    answers: list[tuple[str, Any]]

    async def call(self, action: str, fields: Any = None, *, token: str | None = None, **headers: str) -> Any:
        answer = await super().call(action, fields, token=token, **headers)
        self.answers.append((action, answer.body))
        return answer


@pytest.fixture
async def world(
    database: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """A process whose bus and limits are in a real Redis."""
    import aiohttp

    monkeypatch.setattr("tests.world.MemoryBus", lambda network: RedisBus(redis_url, rng=SystemRng()))
    clock = ManualClock(1_800_000_000_000)
    settings = settings_for(database, tmp_path, redis_url=redis_url)
    tokens = AccessTokens(settings, clock)
    gateway, chat = GatewayService(tokens), ImService(ActivePeople())
    async with process(settings, [gateway, chat], clock=clock) as runtime, aiohttp.ClientSession() as session:
        people = {person.login: person for person in reversed(await demo.seed(runtime))}
        client = Recorder(session, f"http://127.0.0.1:{gateway.port}")
        client.answers = []
        yield World(runtime, gateway, tokens, people, client, clock)


async def _live(world: World) -> tuple[list[str], list[str]]:
    """A life with everything in it: the secrets of it and the codes."""
    secrets, codes = [PASSWORD, SECOND], []

    async def log_in(**more: Any) -> str:
        code = await code_for(world, PHONE)
        codes.append(code)
        fields = {"phone": PHONE, "code": code, "device": "canary-phone"} | more
        body = (await world.client.call("gateway.registration.login", fields)).body
        secrets.extend([body["access_token"], body["refresh_token"]])
        return str(body["access_token"])

    token = await log_in()
    fields = {"name": NAME, "login_name": LOGIN, "password": PASSWORD, "agreement": "2026-11"}
    done = await call(world, token, "registration.complete", **fields)
    assert done.status == 200, done.body
    await call(world, token, "registration.complete", **fields)
    await world.client.login(LOGIN, "canary-wrong-password")
    await world.client.login(PHONE, PASSWORD + "!")
    admin = (await world.login("wangfang"))["access_token"]
    member = {"phone": PHONE, "name": NAME, "roles": ["employee"]}
    asked = await world.client.call(
        "gateway.identity.add_member", member, token=admin, Idempotency_Key="canary"
    )
    assert asked.status == 409, asked.body
    invited = (await call(world, admin, "invitations.create")).body
    secrets.append(invited["code"])
    await call(world, token, "invitations.accept", code=invited["code"])
    await call(world, admin, "contracts.apply", account_no=ACCOUNT, legal_person=NAME)
    secrets.append(ACCOUNT)
    (member,) = (await call(world, admin, "identity.list_members", name=NAME)).body["members"]
    support = await staff(world, "zhengjie")
    await call(world, support, "people.find", login=PHONE)
    await call(world, support, "people.find", login="nobody-at-all")
    changed = {"old_password": PASSWORD, "password": SECOND}
    assert (await call(world, token, "registration.change_password", **changed)).status == 200
    await log_in(password=SECOND)
    code = await code_for(world, PHONE, "reset_password")
    codes.append(code)
    secrets.append("canary-wrong-password")
    await call(world, admin, "identity.end_membership", person_id=member["person_id"])
    return secrets, codes


async def _database_files(engines: EmbeddedEngines) -> dict[str, bytes]:
    """Every file of PostgreSQL after a checkpoint: tables, indexes, the write-ahead log."""
    connection = await asyncpg.connect(engines.admin_url, ssl=False)
    try:
        await connection.execute("CHECKPOINT")
        directory = Path(await connection.fetchval("SHOW data_directory"))
    finally:
        await connection.close()
    return {str(f.relative_to(directory)): f.read_bytes() for f in directory.rglob("*") if f.is_file()}


async def _redis(url: str) -> bytes:
    """Every key with its value."""
    found = []
    async with Redis.from_url(url) as redis:
        async for key in redis.scan_iter():
            found += [key, await redis.dump(key) or b""]
    return b"\n".join(found)


async def _published(world: World, url: str, live: Any) -> tuple[Any, bytes]:
    """What `live` gave, and everything that was published meanwhile."""
    heard = []
    async with Redis.from_url(url) as redis, redis.pubsub() as all_channels:
        await all_channels.psubscribe("*")
        result = await live(world)
        await world.gateway.parts.sms.settled()
        while (message := await all_channels.get_message(timeout=0.5)) is not None:
            heard.append(repr(message).encode())
    return result, b"\n".join(heard)


async def test_canaries_are_found_nowhere(
    world: World, engines: EmbeddedEngines, redis_url: str, lines: io.StringIO
) -> None:
    (secrets, codes), published = await _published(world, redis_url, _live)
    client = world.client
    assert isinstance(client, Recorder)
    runtime: Runtime = world.runtime
    logs, metrics, redis = lines.getvalue(), render_metrics(), await _redis(redis_url)
    metrics_text = metrics.decode()
    assert "gateway.registration.login" in metrics_text
    assert published, "somebody's sessions ended, so something was published"
    files = await _database_files(engines)
    assert any(NAME.encode() in content for content in files.values()), "the search finds what is there"

    # C3: nowhere
    for secret in secrets:
        raw = secret.encode()
        assert secret not in logs, secret
        assert secret not in metrics_text, secret
        assert raw not in redis, secret
        assert raw not in published, secret
        found = [name for name, content in files.items() if raw in content]
        assert found == [], (secret, found)
    for code in codes:
        assert f'"{code}"' not in logs
    given = {"gateway.registration.login", "gateway.identity.login", "gateway.invitations.create"}
    for action, body in client.answers:
        text = orjson.dumps(body).decode()
        for secret in secrets:
            assert secret not in text or action in given, (action, secret)

    # C2
    for value in (PHONE, NAME, LOGIN):
        assert value not in logs, value
        assert orjson.dumps(value).decode()[1:-1] not in logs, value
        assert value not in metrics_text, value
        assert value.encode() not in redis, value
        assert value.encode() not in published, value
    assert [name for name, content in files.items() if PHONE.encode() in content] == []
    for action, body in client.answers:
        assert PHONE not in orjson.dumps(body).decode(), action
    for action, body in client.answers:
        if action == "gateway.people.find" and "name" in body:
            assert NAME not in orjson.dumps(body).decode()
    assert PHONE not in (runtime.settings.var_dir / FILE).read_text()
