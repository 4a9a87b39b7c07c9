"""What the audit knows of people who come, fail, and are turned away."""

from __future__ import annotations

from typing import Any

import pytest

from core.audit import store
from tests.core.audit import chainer, verified
from tests.gateway.conftest import World


async def _new(world: World, enterprise_id: int, before: set[int]) -> list[Any]:
    rows = await store.waiting(world.runtime.db, enterprise_id, 10_000)
    return [row for row in rows if row.audit_id not in before]


async def _known(world: World, *tenants: int) -> set[int]:
    return {row.audit_id for t in tenants for row in await store.waiting(world.runtime.db, t, 10_000)}


@pytest.mark.requirement("D04")
async def test_logins_that_fail_and_succeed(world: World) -> None:
    tenant = world.people["zhangwei"].enterprise_id
    before = await _known(world, 0, tenant)
    assert (await world.client.login("zhangwei", "not the password", "other-phone")).status == 401
    assert (await world.client.login("nobody at all", "not the password")).status == 401
    failed = await _new(world, 0, before)
    assert [(row.action, row.outcome, row.person_id) for row in failed] == [
        ("gateway.identity.login", "unauthenticated", 0),
        ("gateway.identity.login", "unauthenticated", 0),
    ]
    assert failed[0].device == "other-phone"
    assert failed[0].address == "127.0.0.1"
    began = await world.login("zhangwei", "phone")
    (row,) = await _new(world, tenant, before)
    assert (row.outcome, row.person_id) == ("ok", world.people["zhangwei"].person_id)
    assert row.object_id == began["session_id"]


@pytest.mark.requirement("D04")
async def test_who_is_logged_in_and_may_not(world: World) -> None:
    tenant = world.people["huangting"].enterprise_id
    session = await world.login("huangting")
    before = await _known(world, tenant)
    answer = await world.client.call(
        "gateway.identity.end_membership", {"person_id": "1"}, token=session["access_token"]
    )
    assert answer.status == 403
    (row,) = await _new(world, tenant, before)
    assert (row.action, row.outcome) == ("gateway.identity.end_membership", "forbidden")
    assert row.trace_id == answer.body["trace_id"]
    assert row.session_id == int(session["session_id"])
    await chainer(world.runtime, None).run_once()
    assert (await verified(world.runtime)).faults == []
