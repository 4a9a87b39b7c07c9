"""Idempotency-Key over HTTP: one effect and one answer, in whichever process the repetitions arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.db import sql
from core.tokens import AccessTokens
from gateway.people import ActivePeople
from gateway.service import GatewayService
from im.service import ImService
from tests.gateway.conftest import Client, World
from tests.world import process

CREATE = "gateway.departments.create"
COUNT = sql("SELECT count(*) FROM gateway_departments WHERE name = $1", exempt="a test counts its own rows")


@pytest.fixture
async def other(world: World) -> AsyncIterator[Client]:
    """The same bank from another process: its own connections, memory, tokens."""
    settings = world.runtime.settings
    gateway = GatewayService(AccessTokens(settings, world.clock))
    async with process(settings, [gateway, ImService(ActivePeople())], clock=world.clock):
        yield Client(world.client.session, f"http://127.0.0.1:{gateway.port}")


@pytest.fixture
async def token(world: World) -> str:
    for who in world.people:
        begun = await world.login(who)
        if "administrator" in begun["enterprise"]["roles"]:
            return str(begun["access_token"])
    raise AssertionError("nobody is an administrator")


async def _made(world: World, name: str) -> int:
    return int(await world.runtime.db.fetchval(COUNT, name))


async def test_a_repetition_gets_the_first_answer_and_says_so(
    world: World, other: Client, token: str
) -> None:
    first = await world.client.call(CREATE, {"name": "一"}, token=token, Idempotency_Key="k-1")
    assert first.status == 200
    assert "Idempotent-Replayed" not in first.headers
    for client in (world.client, other):
        again = await client.call(CREATE, {"name": "一"}, token=token, Idempotency_Key="k-1")
        assert again.status == 200
        assert again.body == first.body
        assert again.headers["Idempotent-Replayed"] == "true"
    assert await _made(world, "一") == 1


async def test_another_body_under_the_same_key_is_refused(world: World, other: Client, token: str) -> None:
    assert (await world.client.call(CREATE, {"name": "二"}, token=token, Idempotency_Key="k-2")).status == 200
    for client in (world.client, other):
        refused = await client.call(CREATE, {"name": "三"}, token=token, Idempotency_Key="k-2")
        assert refused.status == 422
        assert refused.body["code"] == "invalid"
        assert "another request" in refused.body["detail"]
        assert "Idempotent-Replayed" not in refused.headers
    assert await _made(world, "三") == 0


async def test_keys_are_each_persons_own(world: World, token: str) -> None:
    assert (await world.client.call(CREATE, {"name": "四"}, token=token, Idempotency_Key="k-4")).status == 200
    other = (await world.login("zhaolei", "another"))["access_token"]
    answer = await world.client.call(CREATE, {"name": "五"}, token=other, Idempotency_Key="k-4")
    assert answer.status in (200, 403)
    assert "Idempotent-Replayed" not in answer.headers


@pytest.mark.requirement("T02")
async def test_twenty_at_once_through_two_processes_have_one_effect(
    world: World, other: Client, token: str
) -> None:
    async def one(n: int) -> Any:
        client = world.client if n % 2 else other
        return await client.call(CREATE, {"name": "六"}, token=token, Idempotency_Key="k-6")

    answers = await asyncio.gather(*map(one, range(20)))
    good = [answer for answer in answers if answer.status == 200]
    # whoever cannot wait any longer is told to come back: never another effect, never an answer of its own
    assert {answer.status for answer in answers} <= {200, 409}
    assert len({str(answer.body) for answer in good}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in good) == 1
    assert await _made(world, "六") == 1


async def test_refusals_are_remembered_and_failures_are_not(world: World, token: str) -> None:
    fields = {"name": "七", "parent_id": "999"}
    first = await world.client.call(CREATE, fields, token=token, Idempotency_Key="k-7")
    assert first.status in (404, 409, 422)
    again = await world.client.call(CREATE, fields, token=token, Idempotency_Key="k-7")
    assert (again.status, again.body["code"]) == (first.status, first.body["code"])
    assert again.headers.get("Idempotent-Replayed") == "true"
    assert again.body["trace_id"] == again.headers["Trace-Id"] != first.headers["Trace-Id"]
