"""How many sessions somebody has: more than the limit never, and who only knows the password ends no stronger one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sessions.rules import Held, crowded_out
from tests.gateway.conftest import World
from tests.gateway.test_devices import Phone

ME = "gateway.identity.me"
LIST = "gateway.identity.list_sessions"
MOST = 3

held = st.builds(Held, st.integers(1, 50), st.integers(0, 2), st.integers(0, 5))


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {"refresh_bearer_grace_s": 30.0, "sessions_max": MOST}


@given(
    st.lists(held, max_size=12, unique_by=lambda one: one.session_id), st.integers(1, 10), st.integers(1, 2)
)
def test_the_weakest_and_longest_unused_make_room(live: list[Held], most: int, acr: int) -> None:
    going = crowded_out(live, most, acr)
    if going is None:
        assert sum(one.acr > acr for one in live) >= most
        return
    ended = [one for one in live if one.session_id in going]
    stay = [one for one in live if one.session_id not in going]
    assert len(stay) + 1 <= most or not stay
    assert len(ended) == max(0, len(live) + 1 - most), "no more than has to"
    assert all(one.acr <= acr for one in ended)
    rank = [(one.acr, one.used_ms) for one in ended], [(one.acr, one.used_ms) for one in stay]
    assert not (ended and stay) or max(rank[0]) <= min(rank[1])


async def test_one_more_login_ends_the_session_that_was_not_used_for_longest(world: World) -> None:
    bodies = []
    for number in range(MOST):
        bodies.append(await world.login("chenjing", f"desk-{number}"))
        world.clock.advance(1_000)
    fields = {"refresh_token": bodies[0]["refresh_token"], "device": "desk-0"}
    bodies[0] = (await world.client.call("gateway.identity.refresh", fields)).body
    newest = await world.login("chenjing", "desk-new")
    status = [(await world.client.call(ME, token=body["access_token"])).status for body in bodies]
    assert status == [200, 401, 200]
    listed = await world.client.call(LIST, token=newest["access_token"])
    assert [one["device"] for one in listed.body] == ["desk-new", "desk-2", "desk-0"]


async def test_logins_at_the_same_time_keep_the_limit(world: World) -> None:
    places = [
        world.people[login].enterprise_id for login in ("zhangwei", "wuxia")
    ]  # which have locks of their own
    logins = [
        world.login("lina", f"desk-{number}", enterprise_id=str(places[number % 2]))
        for number in range(2 * MOST)
    ]
    tokens = [body["access_token"] for body in await asyncio.gather(*logins)]
    status = [(await world.client.call(ME, token=token)).status for token in tokens]
    assert sorted(status) == [200] * MOST + [401] * MOST


@pytest.mark.requirement("S03")
async def test_an_access_token_does_not_keep_itself_alive(world: World) -> None:
    token = (await world.login("wangfang"))["access_token"]
    ends_ms = world.tokens.verify(token).expires_at_ms
    fields = {"enterprise_id": str(world.people["wangfang"].enterprise_id)}
    world.clock.advance(300_000)
    moved = await world.client.call("gateway.identity.switch_enterprise", fields, token=token)
    assert moved.body["access_expires_ms"] == ends_ms, "who has no refresh token goes no further"
    world.clock.advance(ends_ms - world.clock.now_ms())
    assert (await world.client.call(ME, token=moved.body["access_token"])).status == 401


@pytest.mark.requirement("S08")
async def test_a_password_alone_ends_no_session_of_a_trusted_device(world: World) -> None:
    phone = Phone(world, "yangmin")
    assert (await phone.login()).status == 200
    assert (await phone.bind()).status == 200
    for number in range(2 * MOST):
        world.clock.advance(60_000)
        await world.login("yangmin", f"guesser-{number}")
    assert (await phone.call(ME)).status == 200
    for _ in range(MOST):
        world.clock.advance(1_000)
        assert (await phone.login()).status == 200
    person = world.people["yangmin"]
    refused = await world.client.login("yangmin", person.password, "guesser")
    assert (refused.status, refused.body["code"]) == (409, "conflict")
    assert (await phone.login()).status == 200, "the owner's device makes room for itself"
    world.clock.advance(8 * 86_400_000)  # nobody can go on with those: they are in nobody's way
    assert (await world.client.login("yangmin", person.password, "desk")).status == 200


@pytest.mark.requirement("S02")
async def test_renewed_tokens_end_those_before(world: World) -> None:
    """A refresh ends the older access token at once; a reply that is lost is given again and works."""
    begun = await world.login("yangmin", "renewing")
    old, fields = begun["access_token"], {"refresh_token": begun["refresh_token"], "device": "renewing"}
    world.clock.advance(1_000)
    lost = await world.client.call("gateway.identity.refresh", fields)
    assert (await world.client.call("gateway.identity.me", token=old)).status == 401
    world.clock.advance(1_000)
    again = await world.client.call("gateway.identity.refresh", fields)
    assert again.status == lost.status == 200
    assert again.body["refresh_token"] == lost.body["refresh_token"]
    for answer in (lost, again):
        me = await world.client.call("gateway.identity.me", token=answer.body["access_token"])
        assert me.status == 200


@pytest.mark.requirement("S02")
async def test_a_session_is_in_one_enterprise(world: World) -> None:
    begun = await world.login("lina", "switching")
    one, two = (place["enterprise_id"] for place in begun["enterprises"])
    other = two if begun["enterprise"]["enterprise_id"] == one else one
    fields = {"enterprise_id": other}
    world.clock.advance(1_000)
    moved = await world.client.call("gateway.identity.switch_enterprise", fields, token=begun["access_token"])
    assert moved.status == 200
    old = await world.client.call("gateway.identity.list_members", token=begun["access_token"])
    assert old.status == 401
    new = await world.client.call("gateway.identity.list_members", token=moved.body["access_token"])
    assert new.status == 200


async def test_sessions_that_idleness_has_ended_are_not_shown(world: World) -> None:
    await world.login("chenjing", "left-alone")
    world.clock.advance(int(world.runtime.settings.session_bearer_idle_s * 1000))
    now = await world.login("chenjing", "in-use")
    shown = await world.client.call("gateway.identity.list_sessions", token=now["access_token"])
    assert [one["device"] for one in shown.body] == ["in-use"]
