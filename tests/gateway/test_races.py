"""Two things at once: what was shown a moment ago must still be true when something is done with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.ports import CoreAnswer
from tests.gateway.conftest import World
from tests.gateway.sms import code_for
from tests.gateway.test_factors import Authenticator
from tests.gateway.test_joining import a_code, call, staff, verified
from tests.gateway.test_registration import GOOD, registered

NEW = "another mist of hills"
RESET = "gateway.registration.reset_password"


def between(world: World, monkeypatch: pytest.MonkeyPatch, what: Callable[[], Awaitable[Any]]) -> None:
    """Once, let `what` happen after a password was verified and before anything is done with that."""
    verify, happened = world.gateway.parts.passwords.verify, False

    async def slowly(stored: str | None, password: str) -> bool:
        nonlocal happened
        right = await verify(stored, password)
        if not happened:
            happened = True
            await what()
        return right

    monkeypatch.setattr(world.gateway.parts.passwords, "verify", slowly)


@pytest.mark.requirement("S04")
@pytest.mark.parametrize("way", ["password", "code"])
async def test_a_password_that_is_replaced_while_it_is_verified_lets_nobody_in(
    world: World, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    number = {"password": "13600002001", "code": "13600002002"}[way]
    await registered(world, number)
    code = await code_for(world, number, "reset_password")
    fields = {"phone": number, "code": code, "password": NEW}

    async def reset() -> None:
        assert (await world.client.call(RESET, fields)).status == 200

    if way == "code":
        shown = {"phone": number, "code": await code_for(world, number), "password": GOOD, "device": "x"}
        between(world, monkeypatch, reset)
        late = await world.client.call("gateway.registration.login", shown)
    else:
        # so that the login would write the old password's hash with today's costs, over the new one
        monkeypatch.setattr(world.gateway.parts.passwords, "outdated", lambda stored: True)
        between(world, monkeypatch, reset)
        late = await world.client.login(number, GOOD)
    assert late.status == 401
    assert (await world.client.login(number, GOOD)).status == 401
    assert (await world.client.login(number, NEW)).status == 200


@pytest.mark.requirement("S04")
async def test_of_two_changes_of_a_password_the_second_does_not_win_unseen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = "13600002003"
    token = (await registered(world, number))["access_token"]
    code = await code_for(world, number, "reset_password")
    fields = {"phone": number, "code": code, "password": NEW}

    async def reset() -> None:
        assert (await world.client.call(RESET, fields)).status == 200

    between(world, monkeypatch, reset)
    change = {"old_password": GOOD, "password": "the thief's own words"}
    late = await world.client.call("gateway.registration.change_password", change, token=token)
    assert late.status == 409
    assert (await world.client.login(number, NEW)).status == 200


@pytest.mark.requirement("S04")
async def test_a_login_that_waits_ends_with_the_password(world: World) -> None:
    number = "13600002004"
    app = Authenticator(world, number)
    await app.enrol((await registered(world, number))["access_token"])
    code = await code_for(world, number, "reset_password")
    factor = app.code()
    half = await world.client.login(number, GOOD)
    ticket = half.body["errors"]["ticket"]
    reset = {"phone": number, "code": code, "password": NEW, "factor": factor}
    assert (await world.client.call(RESET, reset)).status == 200
    assert (await app.complete(ticket, "totp", app.code())).status == 401


@pytest.mark.requirement("T06")
async def test_the_cores_answer_is_for_the_account_that_it_was_asked_about(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, admin = await verified(world, "13600002005", "双河贸易有限公司")
    core, asked, answered = world.gateway.parts.core, asyncio.Event(), asyncio.Event()
    other = {"account_no": "622202000000000000", "legal_person": "别人"}

    class Core:
        """Is asked about a second account before it answers about the first."""

        async def check(self, **about: str) -> CoreAnswer:
            if about["account_no"] == other["account_no"]:
                asked.set()
                await answered.wait()
            else:
                second.append(asyncio.create_task(call(world, admin, "contracts.apply", **other)))
                await asked.wait()
            return await core.check(**about)

    second: list[asyncio.Task[Any]] = []
    monkeypatch.setattr(world.gateway.parts, "core", Core())
    mine = {"account_no": "622202000000006688", "legal_person": "石磊"}
    first = await call(world, admin, "contracts.apply", **mine)
    answered.set()
    assert (await second[0]).body["state"] == "applied", "the other account is refused"
    assert first.status == 409, "and this answer was not about it"
    shown = (await call(world, admin, "contracts.mine")).body
    assert (shown["state"], shown["account_tail"]) == ("applied", "0000")


async def test_an_account_number_is_digits(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    for odd in (
        "６２２２０２０００００００００６６８８",
        "62220200000000668x",
        "٦٢٢٢٠٢٠٠٠٠٠٠٠٠٦٦٨٨",
        "1" * 11,
    ):
        fields = {"account_no": odd, "legal_person": "石磊"}
        assert (await call(world, admin, "contracts.apply", **fields)).status == 422, odd


@pytest.mark.requirement("D01")
async def test_who_was_forgotten_is_taken_in_nowhere(world: World) -> None:
    _, code, admin = await verified(world, "13600002006", "忘川文化有限公司")
    begun = await registered(world, "13600002007")
    token = begun["access_token"]
    asked = await call(world, token, "enterprises.ask_to_join", credit_code=code, message="你好")
    applied = await call(world, token, "enterprises.apply", name="归去有限公司", credit_code=a_code())
    world.clock.advance(60_000)
    erased = await call(world, token, "privacy.erase")
    assert erased.status == 200
    assert (await call(world, admin, "enterprises.join_requests")).body == []
    fields: dict[str, Any] = {"request_id": asked.body["request_id"], "accept": True}
    assert (await call(world, admin, "enterprises.decide_join", **fields)).status == 404
    desk = await staff(world, "sunqiang")
    fields = {"application_id": applied.body["application_id"], "decision": "verify"}
    assert (await call(world, desk, "enterprises.decide", **fields)).status == 404
