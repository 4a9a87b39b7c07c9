"""A gateway with the demonstration in it, and a client that speaks HTTP to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from core.clock import ManualClock
from core.errors import BankhubError
from core.runtime import Runtime
from core.tokens import AccessTokens
from gateway import demo
from gateway.identity import store as identity
from gateway.people import ActivePeople
from gateway.service import GatewayService
from im.service import ImService
from tests.stepup import proven
from tests.world import process, ring_file, settings_for

_tests = count()  # each one ten days after the one before: they share a database, not their failures


@dataclass
class Answer:
    """An HTTP answer, read."""

    status: int
    body: Any
    headers: Any


class Client:
    """Calls actions over HTTP. Brings the ticket of the newest code that it asked for along with the code."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url
        self.tickets: dict[tuple[str, str], str] = {}

    async def call(
        self, action: str, fields: Any = None, *, token: str | None = None, **headers: str
    ) -> Answer:
        """POST an action; header names are given with underscores."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        service, _, purpose = action.rpartition(".")
        if fields and service == "gateway.registration" and purpose in ("login", "reset_password"):
            fields = {"ticket": self.tickets.get((fields["phone"], purpose), "-" * 43)} | fields
        async with self.session.post(f"{self.url}/v1/{action}", json=fields or {}, headers=given) as answer:
            got = Answer(answer.status, await answer.json(content_type=None), answer.headers)
        if action == "gateway.codes.send" and got.status == 200:
            self.tickets[fields["phone"], fields["purpose"]] = got.body["ticket"]
        return got

    async def login(self, login: str, password: str, device: str = "phone", **more: Any) -> Answer:
        """Log in."""
        fields = {"login": login, "password": password, "device": device} | more
        return await self.call("gateway.identity.login", fields)


@dataclass
class World:
    """One process with a gateway, and what the test needs of it."""

    runtime: Runtime
    gateway: GatewayService
    tokens: AccessTokens
    people: dict[str, demo.DemoPerson]
    client: Client
    clock: ManualClock

    async def call(self, action: str, fields: Any, *, token: str, **headers: str) -> Answer:
        """Call as somebody who has confirmed it, where that is needed."""
        try:
            challenge_id = await proven(self.runtime, self.tokens.verify(token), action, fields)
        except BankhubError:
            challenge_id = None  # the call itself will say so
        confirmed = {} if challenge_id is None else {"Step_Up": str(challenge_id)}
        return await self.client.call(action, fields, token=token, **headers, **confirmed)

    async def login(self, who: str, device: str = "phone", **more: Any) -> dict[str, Any]:
        """Log in as one of the demonstration, with a code where the password is not enough; the answer's body."""
        answer = await self.client.login(who, self.people[who].password, device, **more)
        if answer.status == 401 and answer.body.get("errors", {}).get("code") == "second_factor_required":
            from tests.gateway.sms import newest_code  # which needs this module

            ticket = {"ticket": answer.body["errors"]["ticket"], "device": device}
            sent = await self.client.call("gateway.factors.send_login_code", ticket)
            assert sent.status == 200, sent.body
            code = {"way": "sms", "code": await newest_code(self, self.people[who].phone)}
            answer = await self.client.call("gateway.factors.complete_login", ticket | code | more)
        assert answer.status == 200, answer.body
        body: dict[str, Any] = answer.body
        return body

    async def join(self, person_id: int, enterprise_id: int) -> None:
        """Somebody belongs to another enterprise too, as if they had accepted its invitation."""
        now = self.clock.now()
        await self.runtime.db.run(
            lambda tx: identity.join(tx, enterprise_id, person_id, title=None, roles=["employee"], now=now)
        )


@pytest.fixture(scope="module")
def module_var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State of all processes of a module: they share a database, so also its keys and the demo's passwords."""
    return tmp_path_factory.mktemp("var")


@pytest.fixture(scope="module")
def keys_file() -> Path:
    """The ring of keys, of all tests of this process."""
    return ring_file()


_seeded: dict[str, list[demo.DemoPerson]] = {}


@pytest.fixture
def more_settings() -> dict[str, Any]:
    """What a module wants set otherwise; override it there."""
    return {}


@pytest.fixture
async def world(
    database: str, module_var: Path, keys_file: Path, more_settings: dict[str, Any]
) -> AsyncIterator[World]:
    clock = ManualClock(1_800_000_000_000 + next(_tests) * 864_000_000)
    settings = settings_for(
        database,
        module_var,
        keys_file=keys_file,
        **({"gateway_header_timeout_s": 0.6, "gateway_body_timeout_s": 0.6} | more_settings),
    )
    tokens = AccessTokens(settings, clock)
    gateway = GatewayService(tokens)
    chat = ImService(ActivePeople())  # joining and leaving reach into conversations
    async with process(settings, [gateway, chat], clock=clock) as runtime, aiohttp.ClientSession() as session:
        if database not in _seeded:
            _seeded[database] = await demo.seed(runtime)
        people = {person.login: person for person in reversed(_seeded[database])}
        yield World(
            runtime, gateway, tokens, people, Client(session, f"http://127.0.0.1:{gateway.port}"), clock
        )
