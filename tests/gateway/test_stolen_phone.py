"""A stolen number (another SIM of it) is one factor: it neither counts twice nor replaces what else there is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.conftest import Answer, World
from tests.gateway.sms import code_for
from tests.gateway.test_devices import Phone
from tests.gateway.test_factors import Authenticator
from tests.gateway.test_joining import call, staff
from tests.gateway.test_registration import GOOD, guest, registered

RESET = "gateway.registration.reset_password"


async def by_code(phone: Phone) -> None:
    """Log in with a code to the number and nothing else."""
    code, action = await code_for(phone.world, phone.number), "gateway.registration.login"
    fields = {"phone": phone.number, "code": code, "device": phone.name}
    answer = await phone.world.client.call(action, fields, DPoP=phone.proof(action))
    assert answer.status == 200, answer.body
    phone.body = answer.body


async def reset(world: World, number: str, by: Phone | None = None, **more: Any) -> Answer:
    fields = {"phone": number, "code": await code_for(world, number, "reset_password"), "password": GOOD}
    proof = {} if by is None else {"DPoP": by.proof(RESET)}
    return await world.client.call(RESET, fields | more, **proof)


def asks_more(answer: Answer) -> bool:
    return answer.status == 401 and answer.body.get("errors", {}).get("code") == "second_factor_required"


@pytest.mark.requirement("S07", "A06")
async def test_two_codes_to_one_phone_are_one_factor(world: World) -> None:
    for login in ("liuyang", "sunqiang"):
        thief = Phone(world, login, name="thief")
        await by_code(thief)
        assert world.tokens.verify(thief.body["access_token"]).acr == 1
        assert (await thief.call("gateway.devices.send_code")).status == 403, "it would trust the device"
        for action in ("gateway.factors.enrol", "gateway.factors.renew_recovery_codes"):
            begun = await thief.call("gateway.stepup.begin", {"action": action})
            assert begun.status == 403, "nor does it confirm anything"


@pytest.mark.requirement("T04")
async def test_the_owner_is_not_rid_of_a_device_by_the_number(world: World) -> None:
    owner, thief = Phone(world, "lina", name="owner"), Phone(world, "lina", name="thief")
    await owner.login()
    assert (await owner.bind()).status == 200
    await by_code(thief)
    wanted = {"action": "gateway.devices.revoke", "fields": {"jkt": owner.jkt}}
    assert (await thief.call("gateway.stepup.begin", wanted)).status == 403
    assert (await owner.revoke(owner.jkt)).status == 200


async def test_a_guest_has_nothing_but_the_phone(world: World) -> None:
    body = await guest(world, "13600001001")
    world.clock.advance(61_000)
    who = Phone(world, "lina", name="guest")
    who.number = "13600001001"
    await by_code(who)
    assert (await who.bind()).status == 200
    assert body["person"]["registered"] is False
    fresh = await registered(world, "13600001002")
    wanted, token = {"action": "gateway.factors.enrol"}, fresh["access_token"]
    begun = await world.client.call("gateway.stepup.begin", wanted, token=token)
    assert begun.status == 200, "who has just chosen the password knows it"


@pytest.mark.requirement("S04", "S07")
async def test_a_password_is_not_reset_by_the_number_where_there_is_more(world: World) -> None:
    number = "13600001003"
    await registered(world, number)
    assert (await reset(world, number)).status == 200, "who has nothing else"
    mine, thief = Phone(world, "lina", name="mine"), Phone(world, "lina", name="thief")
    for phone in (mine, thief):
        phone.number = number
    code, action = await code_for(world, number), "gateway.registration.login"
    fields = {"phone": number, "code": code, "password": GOOD, "device": "mine"}
    mine.body = (await world.client.call(action, fields, DPoP=mine.proof(action))).body
    assert asks_more(await reset(world, number)), "a trusted device"
    assert asks_more(await reset(world, number, thief))
    assert (await reset(world, number, mine)).status == 200
    assert asks_more(await reset(world, world.people["helei"].phone)), "the bank's staff, in any case"


@pytest.mark.requirement("S04")
async def test_codes_by_time_and_recovery_codes_let_a_password_be_reset(world: World) -> None:
    number = "13600001004"
    token = (await registered(world, number))["access_token"]
    app = Authenticator(world, number)
    await app.enrol(token)
    assert asks_more(await reset(world, number))
    assert asks_more(await reset(world, number, factor="000000"))
    code = await code_for(world, number, "reset_password")
    fields = {"phone": number, "code": code, "password": GOOD}
    assert (await world.client.call(RESET, fields | {"factor": app.code()})).status == 200
    assert (await reset(world, number, factor=app.recovery[0])).status == 200
    assert asks_more(await reset(world, number, factor=app.recovery[0])), "once"


@pytest.mark.requirement("A06")
async def test_who_has_lost_everything_goes_to_the_bank(world: World) -> None:
    number = "13600001005"
    begun = await registered(world, number)
    app = Authenticator(world, number)
    await app.enrol(begun["access_token"])
    fields = {"person_id": begun["person"]["person_id"], "reason": "柜面核验身份"}
    one, two = await staff(world, "zhengjie"), await staff(world, "sunqiang")
    noted = await call(world, one, "people.forget_factors", **fields)
    assert (noted.status, noted.body["proposed"]) == (200, "forget_factors")
    assert (await call(world, one, "people.forget_factors", **fields)).status == 403
    assert asks_more(await reset(world, number)), "not by one of them alone"
    assert (await call(world, two, "people.forget_factors", **fields)).status == 200
    me = await world.client.call("gateway.identity.me", token=begun["access_token"])
    assert me.status == 401
    assert (await reset(world, number)).status == 200
