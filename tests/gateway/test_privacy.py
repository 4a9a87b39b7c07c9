"""Personal data: seen in clear with a reason only, copied for its owner, forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg
import orjson
import pytest

from core.background import Background
from tests.gateway.conftest import World
from tests.gateway.test_joining import call, staff
from tests.gateway.test_registration import registered

pytestmark = pytest.mark.requirement("D01")


async def rows(world: World, statement: str, *args: Any) -> list[Any]:
    """What is in the database."""
    url = world.runtime.settings.database_url
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value(), ssl=False)
    try:
        return list(await connection.fetch(statement, *args))
    finally:
        await connection.close()


async def work(world: World, done: Callable[[], Any]) -> None:
    """Let the background work until something is so."""
    import asyncio

    background = Background(world.runtime, [world.gateway])
    await background.start()
    try:
        async with asyncio.timeout(20):
            while not await done():
                await asyncio.sleep(0.05)
    finally:
        await background.stop()


async def test_unmasking_takes_a_right_and_a_reason_and_leaves_a_trace(world: World) -> None:
    person = await registered(world, "13400000001", "戊己")
    person_id = person["person"]["person_id"]
    support = await staff(world, "zhengjie")
    card = (await call(world, support, "people.find", person_id=person_id)).body
    assert (card["name"], card["phone"]) == ("戊*", "134****0001")
    assert (await call(world, support, "privacy.unmask", person_id=person_id)).status == 422
    clear = await call(world, support, "privacy.unmask", person_id=person_id, reason="客户来电核实身份")
    assert (clear.body["name"], clear.body["phone"]) == ("戊己", "13400000001")
    for login in ("sunqiang", "helei", "fengbo"):
        token = await staff(world, login)
        refused = await call(world, token, "privacy.unmask", person_id=person_id, reason="看看")
        assert refused.status == 403, login
    auditor = await staff(world, "helei")
    seen = (await call(world, auditor, "privacy.reasons", person_id=person_id)).body
    assert [(one["action"], one["reason"]) for one in seen] == [
        ("gateway.privacy.unmask", "客户来电核实身份")
    ]
    assert seen[0]["by_id"] == str(world.people["zhengjie"].person_id)
    audited = await rows(
        world,
        "SELECT person_id, outcome FROM core_audit WHERE action = 'gateway.privacy.unmask' AND object_id = $1",
        person_id,
    )
    assert (world.people["zhengjie"].person_id, "ok") in [tuple(row) for row in audited]


async def test_members_are_revealed_within_the_enterprise_only(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    who = str(world.people["chenjing"].person_id)
    clear = await call(world, admin, "privacy.reveal_member", person_id=who, reason="出差联系")
    assert clear.body["phone"] == "13800000005"
    stranger = str(world.people["wuxia"].person_id)
    assert (await call(world, admin, "privacy.reveal_member", person_id=stranger, reason="x y")).status == 404
    employee = (await world.login("yangmin"))["access_token"]
    assert (await call(world, employee, "privacy.reveal_member", person_id=who, reason="x y")).status == 403


async def test_a_copy_of_ones_own_data(world: World) -> None:
    token = (await world.login("lina"))["access_token"]
    asked = await call(world, token, "privacy.request_export")
    assert asked.status == 200, asked.body
    task_id = asked.body["task_id"]
    assert (await call(world, token, "privacy.fetch_export", task_id=task_id)).status == 404

    async def done() -> bool:
        found = await rows(world, "SELECT state FROM gateway_privacy_tasks WHERE task_id = $1", int(task_id))
        return bool(found[0]["state"] == "done")

    await work(world, done)
    stored = (
        await rows(world, "SELECT result_sealed FROM gateway_privacy_tasks WHERE task_id = $1", int(task_id))
    )[0][0]
    assert b"13800000004" not in stored
    assert "李娜".encode() not in stored
    copy = (await call(world, token, "privacy.fetch_export", task_id=task_id)).body["data"]
    assert copy["person"][0]["phone"] == "13800000004"
    assert {one["enterprise"] for one in copy["memberships"]} == {"青山精密制造有限公司", "云岭茶业有限公司"}
    assert copy["sessions"]
    assert copy["audit"]
    text = orjson.dumps(copy).decode()
    for secret in ("password", "digest", "sealed"):
        assert secret not in text
    for other in ("wangfang", "zhengjie"):
        foreign = (await world.login(other))["access_token"]
        assert (await call(world, foreign, "privacy.fetch_export", task_id=task_id)).status == 404
    world.clock.advance(25 * 3_600_000)
    late = (await world.login("lina"))["access_token"]
    assert (await call(world, late, "privacy.fetch_export", task_id=task_id)).status == 404
    for _ in range(3):
        assert (await call(world, late, "privacy.request_export")).status == 200
    assert (await call(world, late, "privacy.request_export")).status == 429


async def test_being_forgotten(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    person = await registered(world, "13400000002", "庚辛", login_name="gengxin")
    token, person_id = person["access_token"], int(person["person"]["person_id"])
    await world.join(person_id, world.people["wangfang"].enterprise_id)
    world.clock.advance(60_000)
    erased = await call(world, token, "privacy.erase")
    assert erased.status == 200, erased.body
    assert (await call(world, token, "identity.me")).status == 401
    assert (await world.client.login("gengxin", "mist over nine hills")).status == 401
    support = await staff(world, "zhengjie")
    for way in ({"login": "13400000002"}, {"login": "gengxin"}, {"person_id": str(person_id)}):
        assert (await call(world, support, "people.find", **way)).status == 404
    listed = await call(world, admin, "identity.list_members", name="庚")
    assert listed.body["members"] == []
    world.clock.advance(int(world.runtime.settings.access_token_s * 1000) + 61_000)

    async def done() -> bool:
        statement = "SELECT state FROM gateway_privacy_tasks WHERE person_id = $1 AND kind = 'erase'"
        return bool((await rows(world, statement, person_id))[0]["state"] == "done")

    await work(world, done)
    assert await rows(world, "SELECT 1 FROM gateway_sessions WHERE person_id = $1", person_id) == []
    left = await rows(world, "SELECT t::text FROM gateway_people t WHERE person_id = $1", person_id)
    assert "庚辛" not in left[0][0]
    assert "gengxin" not in left[0][0]
    tables = await rows(world, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for (table,) in tables:
        for row in await rows(world, f"SELECT t::text FROM {table} t"):
            for trace in ("庚辛", "gengxin", "临时工", "13400000002"):
                assert trace not in row[0], (table, trace)
    kept = await rows(world, "SELECT 1 FROM core_audit WHERE person_id = $1", person_id)
    assert kept, "what the law keeps is kept, under the id"
    again = await registered(world, "13400000002", "壬癸")
    assert int(again["person"]["person_id"]) != person_id, "the number is free, and somebody new"


async def test_who_holds_an_enterprise_hands_over_first(world: World) -> None:
    boss = (await world.login("zhoutao"))["access_token"]
    world.clock.advance(60_000)
    assert (await call(world, boss, "privacy.erase")).status == 409
    assert (await call(world, boss, "identity.me")).status == 200
    clerk = await staff(world, "helei")
    world.clock.advance(60_000)
    assert (await call(world, clerk, "privacy.erase")).status == 409
