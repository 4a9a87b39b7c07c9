"""A process with the hub and im on a real database, colleagues in two enterprises, and clients of both ways in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar, cast

import pytest
import websockets
from websockets.typing import Subprotocol

from core.actions import Command
from core.clock import SystemClock
from core.crypto.columns import Columns
from core.db import Transaction
from core.runtime import Runtime
from gateway.identity import store as identity
from gateway.people import ActivePeople
from hub.api import StreamPolicy
from hub.service import HubService
from hub.streams.store import Entry, StreamStore
from hub.verify import verify
from im import api
from im.messages.rules import Policy
from im.service import ImService
from tests.hub.harness import Client, OpenGate
from tests.shelf import SqlFiles, make_tables
from tests.world import process, settings_for, somebody

R = TypeVar("R")
PEOPLE = {1: range(1, 9), 2: range(21, 25)}
"""Enterprises with their people; person 8 is in both."""


class Clock(SystemClock):
    """The host's clock, some time later if a test says so."""

    def __init__(self) -> None:
        self.later_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.later_ms


class World:
    """What the tests of im need."""

    def __init__(self, runtime: Runtime, hub: HubService, clock: Clock, files: SqlFiles) -> None:
        self.runtime, self.hub, self.clock, self.files = runtime, hub, clock, files
        self._clients: list[Client] = []

    async def call(
        self, person: int, command: Command[R], *, enterprise: int = 1, key: str | None = None
    ) -> R:
        """Calls an action as a person."""
        who = somebody(person_id=person, enterprise_id=enterprise, session_id=person)
        return await self.runtime.calls.call(command, principal=who, key=key)

    async def group(self, owner: int, *members: int, title: str = "财务群") -> int:
        """A new group; its id."""
        made = await self.call(owner, api.CreateGroup(title=title, members=list(members)))
        return made.conversation_id

    async def say(self, person: int, conversation_id: int, text: str, key: str | None = None) -> api.Sent:
        """Sends a text by the action."""
        key = key or self.runtime.rng.token()[:20]
        return await self.call(person, api.Send(conversation_id=conversation_id, key=key, body=text))

    async def entries(self, conversation_id: int) -> list[Entry]:
        """Everything in a conversation, as it is stored."""
        return await StreamStore(self.runtime.db).entries(conversation_id, 0, 1_000)

    async def check_chains(self) -> None:
        """Every digest chain holds."""
        assert (await verify(self.runtime.db)).faults == []

    async def client(
        self, person: int, *, enterprise: int = 1, resume: dict[str, int] | None = None
    ) -> Client:
        """A hub client of a person; WELCOME has come."""
        server = cast("asyncio.Server", self.hub._server)  # the port was the system's choice
        port = server.sockets[0].getsockname()[1]
        ws = await websockets.connect(
            f"ws://127.0.0.1:{port}/", subprotocols=[Subprotocol("bankhub.v1.msgpack")], compression=None
        )
        client = Client(ws, person)
        self._clients.append(client)
        await client.send(1, 1, f"{person}:{enterprise}", f"device-{person}", None, resume)
        await client.until(2)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


async def _people(tx: Transaction, clock: Clock, columns: Columns) -> None:
    for enterprise, people in PEOPLE.items():
        if await identity.enterprise_by_code(tx, f"code-{enterprise}") is not None:
            return
        await identity.insert_enterprise(
            tx, enterprise, name="青山", credit_code=f"code-{enterprise}", now=clock.now()
        )
        for person in people:
            await identity.insert_person(
                tx,
                columns,
                person,
                phone=None,
                login_name=f"person-{person}",
                name="某人",
                password_hash="-",  # nobody logs in
                now=clock.now(),
            )
    for enterprise, people in PEOPLE.items():
        for person in {*people, 8}:
            await identity.join(tx, enterprise, person, title=None, roles=["employee"], now=clock.now())


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    clock = Clock()
    policy: StreamPolicy = Policy()
    people: api.People = ActivePeople()
    files = SqlFiles()
    await make_tables(database)
    hub = HubService(OpenGate(), policy, files=files)
    settings = settings_for(database, tmp_path, im_group_members_max=7)
    async with process(settings, [hub, ImService(people, files)], clock=clock) as runtime:
        await runtime.db.run(_people, clock, runtime.columns)
        made = World(runtime, hub, clock, files)
        try:
            yield made
        finally:
            await made.close()
