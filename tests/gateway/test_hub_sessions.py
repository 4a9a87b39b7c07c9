"""Bound sessions on the hub: nobody comes in without the key, and whoever is revoked is out on every node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.tokens import AccessTokens
from hub.client import Client, Token
from tests.device import Device
from tests.gateway.cluster import House, opened
from tests.stepup import proven


@pytest.fixture
async def house(database: str, tmp_path: Path) -> AsyncIterator[House]:
    async with opened(database, tmp_path) as house:
        yield house


@pytest.mark.requirement("S06", "T02")
async def test_a_bound_token_needs_its_key_at_the_hub_and_each_proof_is_used_once(house: House) -> None:
    device, thief = Device(), Device("SM2")
    token = (await house.login("yangmin", device, "phone"))["access_token"]
    hub = house.nodes[0].hub
    assert await house.hello(0, token, None) == (22, 4500)
    assert await house.hello(0, token, house.proof(thief, "HELLO", hub, token)) == (22, 4500)
    assert await house.hello(0, token, house.proof(device, "REFRESH", hub, token)) == (22, 4500)
    assert await house.hello(0, token, house.proof(device, "HELLO", house.nodes[1].hub, token)) == (22, 4500)
    proof = house.proof(device, "HELLO", hub, token)
    assert (await house.hello(0, token, proof))[0] == 2
    assert await house.hello(0, token, proof) == (22, 4500), "used before"


@pytest.mark.requirement("S04", "S06")
@pytest.mark.parametrize("algorithm", ["ES256", "SM2"])
async def test_whoever_is_revoked_is_out_on_every_node_within_two_seconds(
    house: House, algorithm: str
) -> None:
    clients, device = [], Device(algorithm)
    for node in range(2):
        body = await house.login("huangting", device, f"phone-{node}")

        async def token(body: Any = body) -> Token:
            return Token(body["access_token"], body["access_expires_ms"])

        client = Client(house.nodes[node].hub, token, device=f"phone-{node}", prove=house.prove(device))
        clients.append((client, body))
        await client.__aenter__()
        await client.online()
    for client, body in clients:
        action, access = "gateway.identity.logout", body["access_token"]
        proof = house.proof(device, "POST", f"{house.nodes[0].http}/v1/{action}", access)
        await house.post(action, {}, Authorization=f"DPoP {access}", DPoP=proof)
        async with asyncio.timeout(2):
            while client.ended is None:
                await asyncio.sleep(0.01)
        assert client.ended.code == 4512
        await client.__aexit__(None, None, None)


async def test_plain_clients_come_in_with_bearer_tokens(house: House) -> None:
    token = (await house.login("lina", None, "terminal"))["access_token"]
    assert (await house.hello(1, token, None))[0] == 2


@pytest.mark.requirement("T04")
async def test_a_call_over_the_hub_is_confirmed_like_any_other(house: House) -> None:
    body = await house.login("wangfang", None, "console")
    socket = await house.socket(0, body["access_token"], "console")
    name, fields = "gateway.access.create_role", {"name": "前台", "grants": [{"permission": "contacts:read"}]}
    refused = await socket.ask(15, name, fields, "a-key-1")
    assert (refused[0], refused[2]) == (21, "forbidden")
    principal = AccessTokens(house.nodes[0].runtime.settings, house.nodes[0].runtime.clock).verify(
        body["access_token"]
    )
    number = await proven(house.nodes[0].runtime, principal, name, fields)
    other = await socket.ask(15, name, fields | {"name": "后台"}, "a-key-2", None, None, str(number))
    assert (other[0], other[2]) == (21, "forbidden"), "it is confirmed for this role, not for another"
    made = await socket.ask(15, name, fields, "a-key-3", None, None, str(number))
    assert (made[0], made[2]["name"]) == (16, "前台")
    again = await socket.ask(15, name, fields | {"name": "前台"}, "a-key-4", None, None, str(number))
    assert (again[0], again[2]) == (21, "forbidden"), "once"


@pytest.mark.requirement("S02")
async def test_switching_ends_what_is_open_in_the_other_enterprise(house: House) -> None:
    """On the node where it is, and old tokens let nobody in anywhere; the person's other devices hear of a new one."""
    body = await house.login("lina", None, "switching")

    async def token() -> Token:
        return Token(body["access_token"], body["access_expires_ms"])

    async with Client(house.nodes[1].hub, token, device="switching") as client:
        await client.online()
        other = next(
            one for one in body["enterprises"] if one["enterprise_id"] != body["enterprise"]["enterprise_id"]
        )
        moved = await house.post(
            "gateway.identity.switch_enterprise",
            {"enterprise_id": other["enterprise_id"]},
            Authorization=f"Bearer {body['access_token']}",
        )
        async with asyncio.timeout(4):
            while client.ended is None:
                await asyncio.sleep(0.01)
        assert client.ended.code == 4503
    for node in range(2):
        assert await house.status(node, "gateway.identity.me", body["access_token"]) == 401
        assert await house.hello(node, body["access_token"], None) == (22, 4500)
        assert (await house.hello(node, moved["access_token"], None))[0] == 2


@pytest.mark.requirement("S07")
async def test_the_other_devices_hear_of_a_login_from_elsewhere(house: House) -> None:
    first = await house.login("zhaolei", None, "first")
    socket = await house.socket(0, first["access_token"], "first")
    await house.login("zhaolei", None, "thief")
    async with asyncio.timeout(10):
        async for message in socket.ws:
            if "new_device" in str(message) and "thief" in str(message):
                break
