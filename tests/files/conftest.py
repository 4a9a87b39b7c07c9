"""A process with everything that files need on real engines: database, object store, gateway, hub, im; and people."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import asyncpg
import pytest
from sqlalchemy import Table

from core.actions import Command, Principal
from core.clock import Clock, SystemClock
from core.db import Database
from core.runtime import Runtime
from core.s3 import S3
from core.service import Service
from core.tokens import AccessTokens
from files import schema
from files.doors.doors import FileDoors
from files.library.carrying import CarriedFiles
from files.service import FilesService
from files.storage.bucket import Bucket
from gateway import demo
from gateway.admission import HubGate
from gateway.people import ActivePeople
from gateway.service import GatewayService
from hub.client import Client, Heard, Token
from hub.service import HubService
from im.messages.rules import Policy
from im.service import ImService
from tests.files.real_clamd import RealClamd
from tests.world import process, settings_for

R = TypeVar("R")


class Later(SystemClock):
    """The host's clock, some time later if a test says so."""

    def __init__(self) -> None:
        self.later_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.later_ms


@dataclass
class Answer:
    """An HTTP answer, read."""

    status: int
    body: bytes
    headers: Any

    @property
    def json(self) -> Any:
        import orjson

        return orjson.loads(self.body)


@dataclass
class World:
    """One process, and what the tests need of it."""

    runtime: Runtime
    service: FilesService
    bucket: Bucket
    tokens: AccessTokens
    people: dict[str, demo.DemoPerson]
    session: aiohttp.ClientSession
    url: str
    clock: Later
    hub: HubService
    logins: dict[str, str] = field(default_factory=dict)

    async def token(self, who: str) -> str:
        """An access token of somebody of the demonstration."""
        if who not in self.logins:
            fields = {"login": who, "password": self.people[who].password, "device": "phone"}
            answer = await self.call("gateway.identity.login", fields, who=None)
            assert answer.status == 200, answer.body
            self.logins[who] = answer.json["access_token"]
        return self.logins[who]

    async def principal(self, who: str) -> Principal:
        """Who they are."""
        return self.tokens.verify(await self.token(who))

    async def do(self, who: str, command: Command[R]) -> R:
        """Call an action as somebody, from inside."""
        return await self.runtime.calls.call(command, principal=await self.principal(who))

    async def call(self, action: str, fields: Any = None, *, who: str | None = "zhangwei") -> Answer:
        """Call an action over HTTP."""
        return await self.ask("POST", f"/v1/{action}", who=who, json=fields or {})

    async def ask(self, method: str, path: str, *, who: str | None = "zhangwei", **given: Any) -> Answer:
        """Any request."""
        headers = dict(given.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {await self.token(who)}"
        if isinstance(given.get("data"), bytes):
            given["data"] = io.BytesIO(given["data"])  # aiohttp warns of large ones
        async with self.session.request(method, self.url + path, headers=headers, **given) as answer:
            return Answer(answer.status, await answer.read(), answer.headers)

    async def upload(self, name: str, data: bytes, *, who: str = "zhangwei", **headers: str) -> Answer:
        """A whole file in one request; header names are given with underscores."""
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.ask(
            "POST", "/files/upload", who=who, data=data, params={"name": name}, headers=given
        )

    async def ready(self, name: str, data: bytes, *, who: str = "zhangwei") -> str:
        """The id of a file that has been uploaded and is ready."""
        answer = await self.upload(name, data, who=who)
        assert answer.status == 201, answer.body
        assert answer.json["state"] == "ready", answer.body
        return str(answer.json["file_id"])

    def connected(self, who: str, on_heard: Callable[[Heard], None] | None = None) -> Client:
        """A client of the hub, to be entered."""
        server = self.hub._server
        assert server is not None
        port = server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

        async def token() -> Token:
            return Token(await self.token(who))

        return Client(f"ws://127.0.0.1:{port}", token, device=f"test-{who}", on_heard=on_heard)

    async def objects(self) -> list[str]:
        """The keys of everything that is in the bucket, but for the engine's own."""
        return [one.key async for one in self.bucket.keys("") if not one.key.startswith(".")]


def sha256(data: bytes) -> str:
    """As RFC 9530 writes it."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.fixture(scope="module")
def module_var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State of all processes of a module: they share a database, so also the demonstration's passwords."""
    return tmp_path_factory.mktemp("var")


@pytest.fixture
def more_settings() -> dict[str, Any]:
    """What a module or test wants set otherwise; override it there."""
    return {}


_seeded: dict[str, list[demo.DemoPerson]] = {}


@pytest.fixture
async def bucket(object_store: S3) -> AsyncIterator[Bucket]:
    """The bucket, empty; signatures are made with the host's time, whatever the test's is."""
    bucket = Bucket(object_store, SystemClock())
    await bucket.delete([one.key async for one in bucket.keys("") if not one.key.startswith(".")])
    for left in [one async for one in bucket.unfinished()]:
        await bucket.abort(left.key, left.upload)
    yield bucket
    await bucket.close()


@pytest.fixture
async def world(
    database: str, module_var: Path, bucket: Bucket, more_settings: dict[str, Any]
) -> AsyncIterator[World]:
    await _emptied(database)
    clock = Later()
    settings = settings_for(database, module_var, **more_settings)
    tokens = AccessTokens(settings, clock)
    service, doors = FilesService(bucket), FileDoors(bucket, settings.files_public_url)
    gateway = GatewayService(tokens, doors=[doors.door])
    chat = ImService(ActivePeople(), CarriedFiles())
    hubs: list[HubService] = []

    def services(clock: Clock, db: Database) -> list[Service]:
        hubs.append(HubService(HubGate(tokens, db, clock), Policy(), files=CarriedFiles()))
        return [*hubs, service, chat, doors, gateway]

    async with (
        process(settings, services, clock=clock) as runtime,
        aiohttp.ClientSession() as session,
    ):
        if database not in _seeded:
            _seeded[database] = await demo.seed(runtime)
        people = {person.login: person for person in reversed(_seeded[database])}
        url = f"http://127.0.0.1:{gateway.port}"
        yield World(runtime, service, bucket, tokens, people, session, url, clock, hubs[0])


async def _emptied(database: str) -> None:
    """No files: tests of a module share their people, and the bucket is emptied as well."""
    connection = await asyncpg.connect(database, ssl=False)
    try:
        names = [table.name for table in vars(schema).values() if isinstance(table, Table)]
        await connection.execute(f"TRUNCATE {', '.join(names)}")
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, open_directory: Path) -> Iterator[RealClamd]:
    """A real clamd, one a module."""
    if shutil.which("clamd") is None:
        pytest.skip("no clamd on this machine: apt-get install clamav-daemon")
    folder = open_directory / f"clamd-{time.monotonic_ns()}-{tmp_path_factory.getbasetemp().name}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    clamd = RealClamd(folder)
    clamd.start()
    yield clamd
    clamd.kill()
