"""Refusals of nobody in particular: recorded, counted, bounded, and never lost on the way out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.audit.recording import Recording
from core.clock import ManualClock
from core.context import Source
from core.crypto.ring import AUDIT
from core.db import Database, Sql
from core.errors import BankhubError, Forbidden, Unauthenticated, Unavailable
from core.runtime import Runtime
from tests.core import toy
from tests.core.audit import verified
from tests.core.conftest import raw
from tests.world import process, settings_for, somebody

_ROWS = Sql("SELECT * FROM core_audit ORDER BY audit_id", None, "tests")


@pytest.fixture
async def here(clean_db: Database, database: str, tmp_path: Path) -> AsyncIterator[Runtime]:
    settings = settings_for(database, tmp_path, audit_refusals_max=5)
    async with process(settings, [toy.Toy()], clock=ManualClock()) as runtime:
        yield runtime


def attacker(number: int) -> Source:
    return Source(f"203.0.113.{number}", "http")


async def rows(here: Runtime) -> list[Any]:
    return list(await here.db.fetch(_ROWS))


def _clock(here: Runtime) -> ManualClock:
    assert isinstance(here.clock, ManualClock)
    return here.clock


@pytest.mark.requirement("D04")
async def test_the_first_is_written_the_others_are_counted(here: Runtime) -> None:
    noted = here.refusals
    for n in range(1000):
        noted.note("hub.hello", "unauthenticated", attacker(1), device="phone\x1b[31m", trace_id=f"{n:032}")
    await noted.flush()
    (first,) = await rows(here)
    assert (first["action"], first["outcome"], first["address"]) == (
        "hub.hello",
        "unauthenticated",
        "203.0.113.1",
    )
    assert (first["enterprise_id"], first["person_id"], first["object_id"]) == (0, 0, None)
    assert first["device"] == "phone\ufffd[31m"
    assert first["trace_id"] == f"{0:032}"
    _clock(here).advance(60_000)
    await noted.flush()
    (_, counted) = await rows(here)
    assert (counted["object_id"], counted["trace_id"]) == ("+999", f"{999:032}")
    noted.note("hub.hello", "unauthenticated", attacker(1))
    await noted.flush()
    assert len(await rows(here)) == 2, "who goes on is known: the next row is the next interval's"
    _clock(here).advance(60_000)
    await noted.flush()
    assert (await rows(here))[2]["object_id"] == "+1"
    _clock(here).advance(60_000)
    await noted.flush()
    noted.note("hub.hello", "unauthenticated", attacker(1))
    await noted.flush()
    assert (await rows(here))[3]["object_id"] is None, (
        "who comes back after a quiet minute is the first again"
    )


async def test_outcomes_sources_and_people_are_told_apart_a_subscriber_is_one_source(here: Runtime) -> None:
    noted = here.refusals
    noted.note("hub.hello", "left", attacker(1), who=somebody(person_id=5, enterprise_id=7))
    noted.note("hub.hello", "left", attacker(1), who=somebody(person_id=6, enterprise_id=7))
    noted.note("hub.hello", "unauthenticated", attacker(1))
    noted.note("hub.hello", "unauthenticated", Source("2001:db8::1", "hub"))
    noted.note("hub.hello", "unauthenticated", Source("2001:db8::2", "hub"))
    noted.note(
        "gateway.oauth.proceed", "unmet_authentication_requirements", attacker(1)
    )  # one too many for the column
    await noted.flush()
    found = [(row["enterprise_id"], row["person_id"], row["outcome"]) for row in await rows(here)]
    assert found == [
        (7, 5, "left"),
        (7, 6, "left"),
        (0, 0, "unauthenticated"),
        (0, 0, "unauthenticated"),
        (0, 0, "unmet_authentication_requirement"),
    ]


@pytest.mark.requirement("D04")
async def test_a_botnet_costs_bounded_rows_and_memory(here: Runtime) -> None:
    noted = here.refusals
    for interval in range(3):
        for n in range(2000):
            address = Source(f"10.{interval}.{n // 250}.{n % 250}", "http")
            noted.note("gateway.unknown", "unauthenticated", address)
        assert len(noted._kinds) <= 7
        assert len(noted._waiting) <= 7
        await noted.flush()
        _clock(here).advance(60_000)
        await noted.flush()
    found = await rows(here)
    assert len(found) <= 3 * (5 + 2)
    together = [row for row in found if row["address"] is None]
    assert together
    counts = [1 if row["object_id"] is None else int(row["object_id"]) for row in found]
    assert sum(counts) == 6000, "nobody is forgotten, whoever it was"


async def test_what_the_database_does_not_take_is_kept_within_bounds(
    here: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted, run = here.refusals, here.db.run

    async def away(*args: Any) -> None:
        raise Unavailable

    monkeypatch.setattr(here.db, "run", away)
    noted.note("hub.hello", "left", attacker(1))
    await noted.flush()
    for n in range(200):
        noted.note("hub.hello", f"outcome-{n}", attacker(n))
        _clock(here).advance(60_000)
        await noted.flush()
    assert len(noted._waiting) == 4 * 5
    monkeypatch.setattr(here.db, "run", run)
    await noted.flush()
    assert len(await rows(here)) == 20
    assert (await rows(here))[0]["outcome"] == "left"

    async def unsure(step: Any, *args: Any) -> None:
        await run(step, *args)
        raise Unavailable

    monkeypatch.setattr(here.db, "run", unsure)
    noted.note("hub.hello", "twice", attacker(1))
    await noted.flush()
    monkeypatch.setattr(here.db, "run", run)
    await noted.flush()
    await noted.flush()
    assert [row["outcome"] for row in await rows(here)].count("twice") == 1, "written, and not told so"


@pytest.mark.requirement("D03", "D04")
async def test_what_is_noted_to_the_last_moment_is_written_and_chained(here: Runtime) -> None:
    recording = Recording(here)
    await recording.start()
    for _ in range(3):
        here.refusals.note("hub.hello", "revoked", attacker(9))
    await recording.stop()
    assert [row["object_id"] for row in await rows(here)] == [None, "+2"]
    found = await verified(here)
    assert (found.faults, found.waiting, found.rows) == ([], 0, 2)


async def test_it_writes_by_itself_within_a_second_or_two(here: Runtime) -> None:
    recording = Recording(here)
    await recording.start()
    try:
        here.refusals.note("hub.hello", "revoked", attacker(9))
        async with asyncio.timeout(10):
            while not await rows(here):
                await asyncio.sleep(0.05)
    finally:
        await recording.stop()


@pytest.mark.requirement("D04")
async def test_nobody_who_calls_what_is_not_for_everybody_is_recorded_also_a_thousand_times(
    here: Runtime,
) -> None:
    for _ in range(100):
        with pytest.raises(Unauthenticated):
            await here.calls.perform("toy.boss_only", {}, principal=None, source=attacker(3))
    who = somebody(person_id=90)
    for _ in range(60):
        with pytest.raises(Forbidden):
            await here.calls.perform("toy.boss_only", {}, principal=who, source=attacker(4))
    await here.refusals.flush(counts=True)
    found = await rows(here)
    assert [row["object_id"] for row in found if row["person_id"] == 0] == [None, "+99"]
    mine = [row for row in found if row["person_id"] == 90]
    assert len(mine) <= 24
    assert sum(int(row["object_id"] or 1) for row in mine) == 60, (
        "those without a row of their own are counted"
    )


@pytest.mark.requirement("D04")
async def test_nobody_fills_the_audit_by_failing_at_what_is_for_everybody(here: Runtime) -> None:
    for _ in range(300):
        with pytest.raises(BankhubError):
            await here.calls.call(toy.Write(word="x", then="conflict"), source=attacker(5))
    await here.refusals.flush(counts=True)
    found = await rows(here)
    assert len(found) <= 24
    assert sum(int(row["object_id"] or 1) for row in found) == 300


@pytest.mark.requirement("D04")
async def test_a_change_of_a_live_setting_is_recorded_with_both_digests(here: Runtime) -> None:
    from tests.core.test_config_center import SECONDS

    await here.config.set(SECONDS.name, 60, changed_by=7)
    await here.config.set(SECONDS.name, 90, changed_by=8)
    await here.config.set(SECONDS.name, None, changed_by=0)
    one, two, three = await rows(here)
    assert [(r["action"], r["object_id"], r["outcome"]) for r in (one, two, three)] == [
        ("core.config.set", SECONDS.name, "ok")
    ] * 3
    assert [row["person_id"] for row in (one, two, three)] == [7, 8, 0]
    assert one["after_digest"] == two["before_digest"] != two["after_digest"] == three["before_digest"]
    assert three["after_digest"] == one["before_digest"], "back to the default"
    with pytest.raises(BankhubError):
        await here.config.set(SECONDS.name, -1, changed_by=7)
    assert len(await rows(here)) == 3
    refused = await here.db.fetchval(
        raw("SELECT COUNT(*) FROM core_config_history WHERE name = $1"), SECONDS.name
    )
    assert refused == 3
    assert one["key_version"] == here.keys.current(AUDIT).version
