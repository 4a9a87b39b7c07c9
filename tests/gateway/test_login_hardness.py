"""What logging in must not give away, to callers, to logs, or to whoever has the most threads."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from core.context import Source
from core.errors import TooManyRequests, Unauthenticated
from core.logs import configure_logs
from gateway.sessions.passwords import Passwords
from tests.gateway.conftest import World
from tests.gateway.sms import messages, newest_code
from tests.gateway.test_devices import Phone
from tests.gateway.test_factors import Authenticator
from tests.gateway.test_registration import registered
from tests.world import settings_for


async def test_nobody_costs_as_much_as_somebody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same hashes and the same statements in the same order, so the same time."""
    hashed: list[bool] = []
    asked: list[str] = []
    database = type(world.runtime.db)
    matches = Passwords._matches

    def count(self: Passwords, stored: str, password: str) -> bool:
        hashed.append(True)
        return matches(self, stored, password)

    monkeypatch.setattr(Passwords, "_matches", count)
    from core.db.postgres import PostgresTransaction

    for method in ("fetchrow", "fetchval", "execute"):
        plain = getattr(PostgresTransaction, method)

        async def watched(self: Any, statement: Any, *args: Any, plain: Any = plain) -> Any:
            asked.append(statement.where)
            return await plain(self, statement, *args)

        monkeypatch.setattr(PostgresTransaction, method, watched)
    traces = []
    for login in ("zhaolei", "nobody-at-all", "13811112222"):
        hashed.clear()
        asked.clear()
        answer = await world.client.login(login, "wrong", "a-new-device")
        assert answer.status == 401
        traces.append((len(hashed), tuple(asked)))
    assert database is type(world.runtime.db)
    assert traces[0][0] == traces[1][0] == traces[2][0] == 1
    # what differs is only whether the source's row was there to update
    assert len({len(asked) for _, asked in traces}) == 1


async def test_waiting_for_a_hash_is_bounded(world: World) -> None:
    settings = settings_for(
        "postgresql://x", world.runtime.settings.var_dir, password_threads=1, password_waiting=3
    )
    passwords, gate = Passwords(settings), threading.Event()

    def slow(stored: str, password: str) -> bool:
        gate.wait(10)
        return True

    passwords._matches = slow  # type: ignore[method-assign]
    running = [asyncio.create_task(passwords.verify("x", "y")) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests):
        await passwords.verify("x", "y")
    running[3].cancel()
    gate.set()
    done = await asyncio.gather(*running, return_exceptions=True)
    assert done[:3] == [True, True, True]
    gate.clear()
    gate.set()
    assert await passwords.verify("x", "y")
    passwords.close()


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


async def test_no_secret_or_name_reaches_a_log_or_an_error(world: World, lines: io.StringIO) -> None:
    """Logins right and wrong, refreshes, refusals, a crash: then grep everything that was written for canaries."""
    answers: list[Any] = []
    begun = await world.login("zhoutao")
    fields = {"refresh_token": begun["refresh_token"], "device": "phone"}
    renewed = await world.client.call("gateway.identity.refresh", fields)
    world.clock.advance(60_000)
    answers.append(await world.client.call("gateway.identity.refresh", fields))
    answers.append(await world.client.login("zhoutao", "canary-wrong-password"))
    answers.append(await world.client.login("canary-login-name", "canary-wrong-password"))
    answers.append(
        await world.client.call("gateway.identity.login", {"login": "x", "password": ["canary-in-list"]})
    )
    answers.append(await world.client.call("gateway.identity.me", token="eyJcanary.canary.canary"))
    admin = await world.login("zhoutao")
    member = {"phone": "13877770000", "name": "金丝雀", "roles": ["employee"]}
    await world.client.call("gateway.identity.add_member", member, token=admin["access_token"])
    answers.append(
        await world.client.call("gateway.identity.add_member", member, token=admin["access_token"])
    )
    first = {"password": "canary-first-secret-word", "login_name": "canary.bird"}
    await registered(world, "13877770000", "金丝雀", **first)
    await world.runtime.db.close()
    answers.append(await world.client.call("gateway.identity.me", token=admin["access_token"]))
    answers.append(await world.client.login("zhoutao", "canary-wrong-password"))
    assert answers[-1].status in (500, 503)
    written = lines.getvalue() + json.dumps([answer.body for answer in answers], ensure_ascii=False)
    secrets = [
        *(body[key] for body in (begun, renewed.body, admin) for key in ("access_token", "refresh_token")),
        world.people["zhoutao"].password,
        "canary",
        "13877770000",
        "金丝雀",
        "周涛",
        "13800000011",
    ]
    for secret in secrets:
        assert secret not in written, secret
        assert json.dumps(secret)[1:-1] not in written, secret
    assert "action.failed" in written


@pytest.mark.requirement("S08")
async def test_many_sources_do_not_get_more_guesses_and_do_not_lock_the_owner_out(world: World) -> None:
    """1,000 passwords for one account, each from a source and a device of its own: of 30 the answer tells something.
    Strangers have used up the codes of the phone too. The owner comes in all the same, on a new device."""
    person, settings = world.people["liuyang"], world.runtime.settings
    mine = Phone(world, "liuyang", name="mine")
    await mine.login()

    async def perform(action: str, n: int, **fields: Any) -> Any:
        source = Source(f"198.{n // 65536}.{n // 256 % 256}.{n % 256}", "http")
        return await world.runtime.calls.perform(action, fields, principal=None, source=source)

    async def guess(n: int, password: str = "wrong") -> dict[str, Any]:
        with pytest.raises(Unauthenticated) as refused:
            fields = {"login": "liuyang", "password": password, "device": "d"}
            await perform("gateway.identity.login", n, **fields)
        return dict(refused.value.detail or {})

    for n in range(settings.code_phone_per_day):
        await perform("gateway.codes.send", n, phone=person.phone, purpose="login")
    told = [await guess(n) for n in range(1_000)]
    assert told.count({}) <= settings.login_account_burst + 1
    # the right password has the same answer, and says where it matters only that it was right
    texts = len(await messages(world, person.phone))
    wrong, right = await guess(5_000), await guess(5_001, person.password)
    assert len(await messages(world, person.phone)) == texts + 1
    for answer in (wrong, right):
        assert len(answer.pop("ticket")) == 43
    assert wrong == right
    thief = await guess(5_002)
    for n, ticket in ((5_001, "-" * 43), (5_002, thief["ticket"])):
        with pytest.raises(Unauthenticated):
            fields = {"ticket": ticket, "device": "d", "way": "sms", "code": "000000"}
            await perform("gateway.factors.complete_login", n, **fields)
    world.clock.advance(60_000)
    refused = await world.client.login("liuyang", person.password, "quite-another-phone")
    ticket = {"ticket": refused.body["errors"]["ticket"], "device": "quite-another-phone"}
    sent = await world.client.call("gateway.factors.send_login_code", ticket)
    assert sent.status == 200
    assert sent.body["next_ms"] > sent.body["expires_ms"] > world.clock.now_ms()
    code = {"way": "sms", "code": await newest_code(world, person.phone)}
    begun = await world.client.call("gateway.factors.complete_login", ticket | code)
    assert begun.status == 200, begun.body
    await mine.login()  # and on the known one without anything more


@pytest.mark.requirement("S08")
async def test_nothing_that_is_only_said_makes_a_device_known(world: World) -> None:
    """A thief elsewhere who calls himself as the owner's device does, and one in the owner's browserless office."""
    person = world.people["wuxia"]
    await world.login("wuxia", "laptop")
    for n in range(12):
        with pytest.raises((Unauthenticated, TooManyRequests)):
            await world.runtime.calls.perform(
                "gateway.identity.login",
                {"login": "wuxia", "password": f"guess {n}", "device": "laptop"},
                principal=None,
                source=Source("203.0.113.77", "http"),
            )
    assert (await world.client.login("wuxia", person.password, "laptop")).status == 200


@pytest.mark.requirement("S08")
async def test_colleagues_of_a_guesser_come_in(world: World) -> None:
    """One address tries many accounts, and sends junk to refresh: the others there log in and stay logged in."""
    colleague = await world.login("zhangwei")
    for n in range(world.runtime.settings.login_source_failures + 3):
        world.clock.advance(100)
        assert (await world.client.login(f"nobody{n}", "wrong")).status == 401
    for n in range(150):
        fields = {"refresh_token": f"junk {n}", "device": "phone"}
        assert (await world.client.call("gateway.identity.refresh", fields)).status == 401
    fields = {"refresh_token": colleague["refresh_token"], "device": "phone"}
    assert (await world.client.call("gateway.identity.refresh", fields)).status == 200
    asked = await world.client.login("zhangwei", world.people["zhangwei"].password, "new")
    assert asked.body["errors"]["code"] == "second_factor_required", "the password alone does not do there"
    world.clock.advance(60_000)
    assert await world.login("zhangwei", "new-too")


@pytest.mark.requirement("S08")
async def test_a_ticket_of_a_wrong_password_is_good_for_nothing(world: World) -> None:
    """Not even with a right code of the authenticator: while too many guess everybody gets a ticket."""
    number = "13600009001"
    app = Authenticator(world, number)
    await app.enrol((await registered(world, number))["access_token"])
    for n in range(world.runtime.settings.login_account_burst + 2):
        with pytest.raises(Unauthenticated):
            await world.runtime.calls.perform(
                "gateway.identity.login",
                {"login": number, "password": "wrong", "device": "d"},
                principal=None,
                source=Source(f"198.51.100.{n}", "http"),
            )
    world.clock.advance(60_000)
    refused = await world.client.login(number, "wrong", "thief")
    ticket = {"ticket": refused.body["errors"]["ticket"], "device": "thief"}
    for way, code in (("totp", app.code()), ("recovery", app.recovery[0])):
        tried = await world.client.call("gateway.factors.complete_login", ticket | {"way": way, "code": code})
        assert tried.status == 401, way
