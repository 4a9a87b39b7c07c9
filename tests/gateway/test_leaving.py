"""Whoever leaves an enterprise is out of it everywhere: tokens, hub connections, conversations, within two seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import msgspec
import pytest

from core.actions import Principal
from core.background import Background
from core.bus import MemoryBus, MemoryNetwork
from core.context import Source
from core.errors import Forbidden, Unauthenticated
from core.runtime import Runtime
from core.tokens import AccessTokens
from gateway.api import AddMember, EndMembership, RevokeSession
from gateway.demo import DemoPerson, seed
from gateway.service import GatewayService
from house import compose
from im.api import CreateGroup, GetConversation
from tests.world import process, settings_for


@dataclass
class Office:
    """A whole process with its background work, and what it says to the hub's nodes."""

    runtime: Runtime
    people: dict[str, DemoPerson]
    closed: list[tuple[int, int, int, int]]  # enterprise, person, session (0: all of them), code

    async def login(self, login: str) -> tuple[str, Principal]:
        answer = await self.runtime.calls.perform(
            "gateway.identity.login",
            {"login": login, "password": self.people[login].password, "device": f"of-{login}"},
            principal=None,
            source=Source("203.0.113.1", "http"),
        )
        token: str = answer.value["access_token"]
        return token, self.tokens.verify(token)

    @property
    def tokens(self) -> AccessTokens:
        """What tells good tokens from ended ones."""
        gateway = self.runtime.calls.dispatcher._services["gateway"]
        assert isinstance(gateway, GatewayService)
        return gateway.parts.tokens

    async def until_closed(self, enterprise_id: int, person_id: int, session_id: int, code: int) -> None:
        """Wait for the message by which nodes are told to close connections."""
        async with asyncio.timeout(2):
            while (enterprise_id, person_id, session_id, code) not in self.closed:
                await asyncio.sleep(0.01)


@pytest.fixture
async def office(database: str, tmp_path: Path) -> AsyncIterator[Office]:
    settings = settings_for(database, tmp_path)
    network = MemoryNetwork()
    async with process(
        settings,
        lambda clock, db: compose.services(settings, clock, db, ("hub", "im", "gateway"), listen=False),
        network=network,
    ) as runtime:
        listener = MemoryBus(network)
        await listener.start()
        closed: list[tuple[int, int, int, int]] = []

        def hear(payload: bytes) -> None:
            kind, _, _, what = msgspec.msgpack.decode(payload)
            if kind == "close":
                closed.extend((e, p, s, code) for e, p, s, code, _ in what)

        await listener.subscribe("hub:all", hear)
        background = Background(runtime, runtime.calls.dispatcher._services.values())
        await background.start()
        people = {person.login: person for person in reversed(await seed(runtime))}
        yield Office(runtime, people, closed)
        await background.stop()
        await listener.stop()


async def test_leaving_is_everywhere(office: Office) -> None:
    _, admin = await office.login("wangfang")
    token, leaver = await office.login("zhaolei")
    _, stays = await office.login("yangmin")
    calls = office.runtime.calls
    group = await calls.call(CreateGroup(title="x", members=[leaver.person_id]), principal=stays)
    await calls.call(GetConversation(conversation_id=group.conversation_id), principal=leaver)

    await calls.call(EndMembership(person_id=leaver.person_id), principal=admin)
    with pytest.raises(Unauthenticated):
        office.tokens.verify(token)
    await office.until_closed(leaver.enterprise_id, leaver.person_id, 0, 4511)
    async with asyncio.timeout(2):
        while True:
            seen = await calls.call(GetConversation(conversation_id=group.conversation_id), principal=stays)
            if leaver.person_id not in [member.person_id for member in seen.members]:
                break
            await asyncio.sleep(0.01)
    # which of the two says so first depends on when the permissions were read last
    with pytest.raises(Forbidden, match=r"no member|the membership has ended"):
        await calls.call(GetConversation(conversation_id=group.conversation_id), principal=leaver)


async def events_delivered(database: str) -> None:
    """Wait until every event was handled."""
    connection = await asyncpg.connect(database)
    async with asyncio.timeout(5):
        while await connection.fetchval(
            "SELECT COUNT(*) FROM core_outbox o WHERE o.state <> 1 OR EXISTS "
            "(SELECT 1 FROM core_deliveries d WHERE d.event_id = o.event_id AND d.state <> 1)"
        ):
            await asyncio.sleep(0.01)
    await connection.close()


async def test_who_comes_back_takes_nothing_along_and_loses_nothing_new(
    office: Office, database: str
) -> None:
    _, admin = await office.login("wangfang")
    _, leaver = await office.login("chenjing")
    _, stays = await office.login("yangmin")
    calls = office.runtime.calls
    old = await calls.call(CreateGroup(title="old", members=[leaver.person_id]), principal=stays)
    await calls.call(EndMembership(person_id=leaver.person_id), principal=admin)
    again = AddMember(phone="13800000005", name="陈静", roles=["employee"])
    await calls.call(again, principal=admin)  # the event of the leaving may not have been delivered yet
    new = await calls.call(CreateGroup(title="new", members=[leaver.person_id]), principal=stays)
    await events_delivered(database)
    seen_old = await calls.call(GetConversation(conversation_id=old.conversation_id), principal=stays)
    seen_new = await calls.call(GetConversation(conversation_id=new.conversation_id), principal=stays)
    assert leaver.person_id not in [member.person_id for member in seen_old.members]
    assert leaver.person_id in [member.person_id for member in seen_new.members]


async def test_a_revoked_session_is_closed_on_the_hub(office: Office) -> None:
    token, who = await office.login("huangting")
    await office.runtime.calls.call(RevokeSession(session_id=who.session_id), principal=who)
    await office.until_closed(who.enterprise_id, who.person_id, who.session_id, 4512)
    with pytest.raises(Unauthenticated):
        office.tokens.verify(token)
