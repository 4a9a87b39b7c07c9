"""From a phone that answered to a person with a name; the forgotten password, another phone; all sessions end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.rules import weak_password
from tests.gateway.conftest import World
from tests.gateway.sms import code_for, messages, newest_code, wrong

GOOD = "mist over nine hills"


async def guest(world: World, phone: str) -> dict[str, Any]:
    """Somebody with nothing but a phone; what logging in gave."""
    code = await code_for(world, phone)
    fields = {"phone": phone, "code": code, "device": "phone"}
    answer = await world.client.call("gateway.registration.login", fields)
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.body
    return body


async def registered(world: World, phone: str, name: str = "孙悦", **more: Any) -> dict[str, Any]:
    """Somebody with a name and the password `GOOD`, in no enterprise; what logging in gave."""
    begun = await guest(world, phone)
    agreement = (await world.client.call("gateway.registration.agreement")).body["version"]
    fields = {"name": name, "password": GOOD, "agreement": agreement} | more
    done = await world.client.call("gateway.registration.complete", fields, token=begun["access_token"])
    assert done.status == 200, done.body
    return begun


async def test_registering_keeps_the_person(world: World) -> None:
    begun = await registered(world, "13600000001", "孙悦", login_name="sunyue")
    token = begun["access_token"]
    me = (await world.client.call("gateway.identity.me", token=token)).body
    assert me["level"] == "registered"
    assert me["person"] == begun["person"] | {"name": "孙悦", "login_name": "sunyue", "registered": True}
    by_password = await world.client.login("sunyue", GOOD)
    assert by_password.body["person"]["person_id"] == begun["person"]["person_id"]
    assert by_password.body["enterprise"] is None
    fields = {"name": "孙悦", "password": GOOD, "agreement": "2026-11"}
    again = await world.client.call("gateway.registration.complete", fields, token=token)
    assert again.status == 409


async def test_registering_needs_the_agreement_and_a_good_password(world: World) -> None:
    token = (await guest(world, "13600000002"))["access_token"]
    fields = {"name": "孙悦", "password": GOOD, "agreement": "2026-11"}
    for change, status in (
        ({"agreement": "2019-01"}, 409),
        ({"password": "13600000002"}, 422),
        ({"password": "password1234"}, 422),
        ({"password": "aaaaaaaaaaaa"}, 422),
        ({"login_name": "zhangwei"}, 409),
    ):
        refused = await world.client.call("gateway.registration.complete", fields | change, token=token)
        assert refused.status == status, (change, refused.body)
    done = await world.client.call("gateway.registration.complete", fields, token=token)
    assert done.status == 200


async def test_a_guest_may_little(world: World) -> None:
    token = (await guest(world, "13600000003"))["access_token"]
    for action, fields in (
        ("gateway.identity.list_members", {}),
        ("gateway.identity.leave", {}),
        ("gateway.registration.change_password", {"old_password": "x", "password": GOOD}),
        ("gateway.registration.send_phone_code", {"phone": "13600000099"}),
    ):
        assert (await world.client.call(action, fields, token=token)).status == 403, action


@pytest.mark.requirement("S04")
async def test_a_forgotten_password(world: World) -> None:
    begun = await registered(world, "13600000004")
    code = await code_for(world, "13600000004", "reset_password")
    fields = {"phone": "13600000004", "code": code, "password": "another mist of hills"}
    bad = await world.client.call("gateway.registration.reset_password", fields | {"code": wrong(code)})
    assert bad.status == 401
    done = await world.client.call("gateway.registration.reset_password", fields)
    assert done.status == 200, done.body
    me = await world.client.call("gateway.identity.me", token=begun["access_token"])
    assert me.status == 401
    renewed = {"refresh_token": begun["refresh_token"], "device": "phone"}
    assert (await world.client.call("gateway.identity.refresh", renewed)).status == 401
    assert (await world.client.login("13600000004", GOOD)).status == 401
    assert (await world.client.login("13600000004", "another mist of hills")).status == 200
    assert "登录密码已修改" in (await messages(world, "13600000004"))[-1]
    again = await world.client.call("gateway.registration.reset_password", fields)
    assert again.status == 401


async def test_a_guest_has_no_password_to_reset(world: World) -> None:
    await guest(world, "13600000005")
    before = len(await messages(world, "13600000005"))
    world.clock.advance(60_000)
    fields = {"phone": "13600000005", "purpose": "reset_password"}
    assert (await world.client.call("gateway.codes.send", fields)).status == 200
    assert len(await messages(world, "13600000005")) == before


@pytest.mark.requirement("S08")
async def test_a_thief_of_one_session_does_not_hold_up_the_owner(world: World) -> None:
    thief = (await registered(world, "13600000016"))["access_token"]
    owner = (await world.client.login("13600000016", GOOD, "another-phone")).body["access_token"]
    fields = {"old_password": "guessed", "password": "another mist of hills"}
    change = "gateway.registration.change_password"
    statuses = [(await world.client.call(change, fields, token=thief)).status for _ in range(7)]
    assert statuses[-1] == 429
    mine = await world.client.call(change, fields | {"old_password": GOOD}, token=owner)
    assert mine.status == 200, mine.body


@pytest.mark.requirement("S04")
async def test_another_password_with_the_old_one(world: World) -> None:
    begun = await registered(world, "13600000006")
    other = (await world.client.login("13600000006", GOOD, "another-phone")).body
    token = begun["access_token"]
    fields = {"old_password": GOOD, "password": "another mist of hills"}
    for _ in range(6):
        bad = await world.client.call(
            "gateway.registration.change_password", fields | {"old_password": "no"}, token=token
        )
        assert bad.status == 403
        world.clock.advance(10_000)
    done = await world.client.call("gateway.registration.change_password", fields, token=token)
    assert done.status == 200, done.body
    for one in (begun, other):
        assert (await world.client.call("gateway.identity.me", token=one["access_token"])).status == 401


@pytest.mark.requirement("S04")
async def test_another_phone(world: World) -> None:
    begun = await registered(world, "13600000007")
    token, new = begun["access_token"], "13600000017"
    sent = await world.client.call("gateway.registration.send_phone_code", {"phone": new}, token=token)
    assert sent.status == 200, sent.body
    code = await newest_code(world, new)
    stranger = (await registered(world, "13600000008"))["access_token"]
    fields = {"phone": new, "code": code, "password": GOOD}
    stolen = await world.call("gateway.registration.change_phone", fields, token=stranger)
    assert stolen.status == 403, "a code is for whoever asked for it"
    bad = await world.call("gateway.registration.change_phone", fields | {"password": "no"}, token=token)
    assert bad.status == 403
    done = await world.call("gateway.registration.change_phone", fields, token=token)
    assert done.status == 200, done.body
    assert (await world.client.call("gateway.identity.me", token=token)).status == 401
    assert (await world.client.login("13600000007", GOOD)).status == 401
    assert (await world.client.login(new, GOOD)).body["person"]["person_id"] == begun["person"]["person_id"]
    assert "136****0017" in (await messages(world, "13600000007"))[-1]


async def test_nobody_takes_a_number_that_somebody_has(world: World) -> None:
    token = (await registered(world, "13600000009"))["access_token"]
    taken = "13800000005"
    sent = await world.client.call("gateway.registration.send_phone_code", {"phone": taken}, token=token)
    assert sent.status == 200
    fields = {"phone": taken, "code": await newest_code(world, taken), "password": GOOD}
    refused = await world.call("gateway.registration.change_phone", fields, token=token)
    assert refused.status == 409
    assert (await world.client.call("gateway.identity.me", token=token)).status == 200


async def test_strangers_do_not_use_up_the_messages_of_ones_own(world: World) -> None:
    """The day's messages to a number that strangers asked for do not keep its owner, logged in, from asking."""
    token = (await registered(world, "13600000010"))["access_token"]
    for _ in range(world.runtime.settings.code_phone_source_per_day):
        await code_for(world, "13600000020")
    fields = {"phone": "13600000020"}
    world.clock.advance(60_000)
    refused = await world.client.call("gateway.codes.send", fields | {"purpose": "login"})
    assert refused.status == 429
    renewed = (await world.client.login("13600000010", GOOD)).body["access_token"] or token
    sent = await world.client.call("gateway.registration.send_phone_code", fields, token=renewed)
    assert sent.status == 200


async def test_nobody_floods_strangers_with_codes(world: World) -> None:
    """Somebody who is logged in asks for codes to ever other numbers: so many a day."""
    token = (await registered(world, "13600000030"))["access_token"]
    statuses = []
    for number in range(world.runtime.settings.code_person_per_day + 1):
        world.clock.advance(11_000)
        fields = {"phone": f"1331111{number:04d}"}
        answer = await world.client.call("gateway.registration.send_phone_code", fields, token=token)
        statuses.append(answer.status)
    assert statuses == [200] * (len(statuses) - 1) + [429]


@given(st.text(min_size=10, max_size=40))
def test_a_password_that_contains_the_phone_is_weak(around: str) -> None:
    assert weak_password(around[:5] + "13600000001" + around[5:], ("13600000001", "孙悦"))
    assert weak_password(around, ()) is None or len(set(around.lower())) < 5 or weak_password(around, ("x",))
