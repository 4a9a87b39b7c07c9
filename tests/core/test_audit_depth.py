"""The record of a call tells whom or what it was about, also where it was refused before anybody read it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
import pytest_asyncio

from core.access import PERSON, PUBLIC, Principal
from core.actions import Action, Command, Id, action
from core.audit.rows import account, object_of
from core.context import Context, Source
from core.crypto.ring import AUDIT
from core.db import Sql
from core.dispatch import Call
from core.errors import BankhubError, TooManyRequests
from core.limits import Rate
from core.runtime import Runtime
from core.telemetry import new_trace
from tests.core import toy
from tests.world import process, settings_for, somebody

_ROWS = Sql("SELECT * FROM core_audit WHERE person_id = $1 ORDER BY audit_id", None, "tests")


class Put(Command[None], action="depth.put"):
    enterprise_id: Id = 0
    group_id: Id = 0
    person_id: Id = 0
    note: str = ""


class Enter(Command[None], action="depth.enter"):
    login: str


@action(Put, needs=PERSON)
async def put(ctx: Context, command: Put) -> None: ...


class Expel(Command[None], action="depth.expel"):
    person_id: Id


@action(Expel, needs=toy.boss_only.needs)
async def expel(ctx: Context, command: Expel) -> None: ...


@action(Enter, needs=PUBLIC, limit=Rate(burst=2, per_s=0.001))
async def enter(ctx: Context, command: Enter) -> None: ...


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tables(database: str) -> str:
    connection = await asyncpg.connect(database, ssl=False)
    await connection.execute(toy.CREATE)
    await connection.close()
    return database


@pytest.fixture
async def here(tables: str, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with process(settings_for(tables, tmp_path), [toy.Toy()]) as runtime:
        for declared in (enter, expel):
            runtime.registry.actions[declared.name] = cast("Action[Any, Any]", declared)
        yield runtime


def _call(here: Runtime, who: Principal | None) -> Call:
    return Call(who, here.clock.monotonic_s() + 30, new_trace(here.rng), Source("203.0.113.8", "http"))


@pytest.mark.parametrize(
    ("given", "about"),
    [
        ({"person_id": "17", "group_id": "5", "enterprise_id": "2"}, "17"),
        ({"group_id": 5, "enterprise_id": "2"}, "5"),
        ({"enterprise_id": "2"}, "2"),
        ({"person_id": True, "group_id": "5"}, "1"),
        ({"person_id": "1 OR 1", "group_id": [1], "enterprise_id": {"a": 1}}, None),
        ({"person_id": "9" * 4000, "note": "secret"}, None),
        ({"person_id": -1, "group_id": 1 << 64}, None),
        ({"login": "13800000001"}, None),
        ({}, None),
        (Put(person_id=3), "3"),
    ],
)
def test_what_a_request_is_about(here: Runtime, given: object, about: str | None) -> None:
    assert object_of(cast("Action[Any, Any]", put), given, here.keys.current(AUDIT)) == about


@pytest.mark.requirement("D04")
def test_an_account_has_one_name_that_tells_nothing(here: Runtime) -> None:
    key = here.keys.current(AUDIT)
    same = {
        account(key, text)
        for text in (
            "13800000001",
            " +86 138 0000 0001",
            "13800000001".translate({ord(d): ord(d) + 0xFEE0 for d in "0138"}),
            "138 00000001",
        )
    }
    assert len(same) == 1
    (name,) = same
    assert name.startswith("login:")
    assert "138" not in name.removeprefix("login:")
    assert account(key, "Chenjing") == account(key, "chenjing") != name
    assert len(account(key, "x" * 10_000)) == len(name) <= 64
    assert object_of(cast("Action[Any, Any]", enter), {"login": "13800000001"}, key) == name


@pytest.mark.requirement("D04")
async def test_whom_somebody_wanted_to_remove_is_recorded_though_he_was_refused(here: Runtime) -> None:
    who = somebody(person_id=81)
    with pytest.raises(BankhubError):
        await here.calls.dispatcher.run(expel.name, {"person_id": "42", "why": ["x"]}, _call(here, who))
    (row,) = await here.db.fetch(_ROWS, 81)
    assert (row["outcome"], row["object_id"]) == ("forbidden", "42")


@pytest.mark.requirement("D04")
async def test_a_write_has_a_digest_of_what_came_of_it(here: Runtime) -> None:
    who = somebody(person_id=82)
    await here.calls.call(toy.Write(word="depth"), principal=who)
    (row,) = await here.db.fetch(_ROWS, 82)
    assert None not in (row["request_digest"], row["after_digest"])
    assert row["request_digest"] != row["after_digest"]


@pytest.mark.requirement("D04", "W05")
async def test_who_asks_too_much_is_on_record_once_and_counted(here: Runtime) -> None:
    refused = 0
    call = _call(here, None)
    for _ in range(50):
        try:
            await here.calls.dispatcher.run(enter.name, {"login": "x"}, call)
        except TooManyRequests:
            refused += 1
    assert refused >= 48
    await here.refusals.flush(counts=True)
    rows = [row for row in await here.db.fetch(_ROWS, 0) if row["outcome"] == "too_many_requests"]
    assert [row["object_id"] for row in rows] == [None, f"+{refused - 1}"]
    assert rows[0]["address"] == "203.0.113.8"
