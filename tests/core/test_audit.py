"""What is recorded: every write, every refused access, with everything about it and nothing that does harm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from core.audit.rows import harmless
from core.context import Source
from core.crypto.ring import AUDIT
from core.db import Sql
from core.errors import BankhubError, Conflict, Forbidden
from core.runtime import Runtime
from tests.core import toy
from tests.core.audit import chainer, verified
from tests.world import process, settings_for, somebody

_ROWS = Sql(
    "SELECT * FROM core_audit WHERE enterprise_id = $1 AND person_id = $2 ORDER BY audit_id", None, "tests"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tables(database: str) -> str:
    connection = await asyncpg.connect(database, ssl=False)
    await connection.execute(toy.CREATE)
    await connection.close()
    return database


@pytest.fixture
async def here(tables: str, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with process(settings_for(tables, tmp_path), [toy.Toy()]) as runtime:
        yield runtime


async def _recorded(here: Runtime, person_id: int) -> list[Any]:
    return list(await here.db.fetch(_ROWS, 1, person_id))


@pytest.mark.requirement("D04")
async def test_who_where_when_what_with_which_outcome(here: Runtime) -> None:
    who = replace(somebody("boss", person_id=71, device="pad"), client_id="app-7")
    source = Source(address="10.1.2.3", edge="http", agent="x")
    row = await here.calls.call(toy.Write(word="noted"), principal=who, source=source)
    (record,) = await _recorded(here, 71)
    expected = {
        "session_id": 111,
        "client_id": "app-7",
        "device": "pad",
        "address": "10.1.2.3",
        "edge": "http",
        "action": "toy.rows.write",
        "outcome": "ok",
    }
    assert {name: record[name] for name in expected} == expected
    assert record["object_id"] == str(row.row_id)
    assert len(record["trace_id"]) == 32
    assert abs((here.clock.now() - record["happened_at"]).total_seconds()) < 60


@pytest.mark.requirement("D04")
async def test_access_that_is_refused_is_recorded_also_of_reads(here: Runtime) -> None:
    who = somebody(person_id=72)
    for command in (toy.BossOnly(), toy.Inside(), toy.Refuse(code="forbidden")):
        with pytest.raises(BankhubError):
            await here.calls.perform(
                command.action_name, command.model_dump(), principal=who, source=Source(edge="http")
            )
    assert [(r["action"], r["outcome"]) for r in await _recorded(here, 72)] == [
        ("toy.boss_only", "forbidden"),
        ("toy.inside", "not_found"),
        ("toy.refuse", "forbidden"),
    ]


async def test_what_a_read_does_not_find_is_not_recorded(here: Runtime) -> None:
    who = somebody(person_id=73)
    with pytest.raises(BankhubError):
        await here.calls.call(toy.Refuse(code="not_found"), principal=who)
    await here.calls.call(toy.WhoCalls(), principal=who)
    assert await _recorded(here, 73) == []


async def test_who_is_refused_again_and_again_does_not_fill_the_disk(here: Runtime) -> None:
    who = somebody(person_id=74)
    for _ in range(60):
        with pytest.raises(Forbidden):
            await here.calls.call(toy.Refuse(code="forbidden"), principal=who)
    assert len(await _recorded(here, 74)) <= 22


async def test_all_rows_of_an_invocation_or_none(here: Runtime) -> None:
    who = somebody(person_id=75)
    await here.calls.call(toy.WriteTwice(words=["seventy", "five"]), principal=who)
    names = [r["action"] for r in await _recorded(here, 75)]
    assert names == ["toy.rows.write", "toy.rows.write", "toy.rows.write_twice"]
    with pytest.raises(Conflict):
        await here.calls.call(toy.WriteTwice(words=["seventy-a", "five-a"], fail_second=True), principal=who)
    rows = await _recorded(here, 75)
    assert [(r["action"], r["outcome"]) for r in rows[3:]] == [("toy.rows.write_twice", "conflict")]


@pytest.mark.requirement("D04")
async def test_what_steers_terminals_is_harmless(here: Runtime) -> None:
    evil = "pho\r\nne\x1b[31m\x00\u202e\u2028\x9b"
    who = somebody(person_id=76, device=evil)
    await here.calls.call(
        toy.Write(word="evil"), principal=who, source=Source(address="1.2.3.4\r\nX: y", edge="http")
    )
    (record,) = await _recorded(here, 76)
    assert record["device"] == "pho��ne�[31m����"
    assert record["address"] == "1.2.3.4��X: y"
    await chainer(here, None).run_once()
    assert (await verified(here)).faults == []


@given(st.text(max_size=200))
def test_any_text_becomes_harmless_and_fits(text: str) -> None:
    made = harmless(text, 64)
    assert made is None or 0 < len(made) <= 64
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in made or "")
    (made or "").encode()


async def test_digests_cannot_be_tried_out(here: Runtime) -> None:
    """Equal requests have equal digests under one key, and nothing but the key tells of what."""
    from core.crypto.sm3 import sm3

    who = somebody(person_id=77)
    for word in ("guess", "another", "guess"):
        with pytest.raises(Conflict):
            await here.calls.call(toy.Write(word=word, then="conflict"), principal=who)
    one, other, again = await _recorded(here, 77)
    assert one["request_digest"] == again["request_digest"] != other["request_digest"]
    assert len(one["request_digest"]) == 32
    assert one["key_version"] == here.keys.current(AUDIT).version
    assert one["request_digest"] != sm3(b"guess")
