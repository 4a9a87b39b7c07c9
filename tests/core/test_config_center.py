"""Live settings: typed, in range, remembered with who and when, followed by every process."""

from __future__ import annotations

import asyncio

import pytest

from core.bus import MemoryBus, MemoryNetwork
from core.clock import ManualClock
from core.config_center import ConfigCenter, live
from core.db import Database, Transaction
from core.errors import Conflict, Invalid, NotFound
from core.rng import SeededRng

from .conftest import raw

SECONDS = live("testcore.seconds", 120, "for tests", ge=0, le=86_400)
RATIO = live("testcore.ratio", 0.5, "for tests", ge=0, le=1)
GREETING = live("testcore.greeting", "你好", "for tests", choices=("你好", "您好"))
OPEN = live("testcore.open", True, "for tests")


async def unrecorded(tx: Transaction, what: str, about: str, by: int, before: object, after: object) -> None:
    """Nobody keeps records here; test_audit looks at those that a process writes."""


def center(db: Database, bus: MemoryBus | None = None, poll_s: float = 60.0) -> ConfigCenter:
    return ConfigCenter(db, ManualClock(), SeededRng(1), bus, record=unrecorded, poll_s=poll_s)


async def test_a_change_is_in_force_and_has_a_history(clean_db: Database) -> None:
    config = center(clean_db)
    assert config.get(SECONDS) == 120
    assert await config.set("testcore.seconds", 60, changed_by=7) == 1
    assert await config.set("testcore.seconds", 90, changed_by=8, expected_version=1) == 2
    assert await config.set("testcore.seconds", None, changed_by=9) == 3
    assert config.get(SECONDS) == 120
    assert [(c.version, c.old, c.new, c.changed_by) for c in await config.history("testcore.seconds")] == [
        (3, 90, None, 9),
        (2, 60, 90, 8),
        (1, None, 60, 7),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("testcore.seconds", -1),
        ("testcore.seconds", 86_401),
        ("testcore.seconds", "60"),
        ("testcore.seconds", True),
        ("testcore.seconds", 1.0),
        ("testcore.ratio", 1.01),
        ("testcore.ratio", float("nan")),
        ("testcore.greeting", "hi"),
        ("testcore.greeting", "你" * 3000),
        ("testcore.open", 1),
    ],
)
async def test_what_does_not_fit_is_refused(clean_db: Database, name: str, value: object) -> None:
    with pytest.raises(Invalid):
        await center(clean_db).set(name, value, changed_by=1)
    assert await clean_db.fetchval(raw("SELECT count(*) FROM core_config")) == 0


async def test_unknown_settings_and_stale_changes_are_refused(clean_db: Database) -> None:
    config = center(clean_db)
    with pytest.raises(NotFound):
        await config.set("testcore.none", 1, changed_by=1)
    await config.set("testcore.ratio", 1, changed_by=1)
    assert config.get(RATIO) == 1.0
    with pytest.raises(Conflict):
        await config.set("testcore.ratio", 0.1, changed_by=2, expected_version=0)


async def test_of_two_first_changes_at_once_each_is_kept_or_refused(clean_db: Database) -> None:
    config = center(clean_db)
    done = await asyncio.gather(
        *(config.set("testcore.seconds", n, changed_by=n) for n in range(8)), return_exceptions=True
    )
    kept = [d for d in done if isinstance(d, int)]
    assert all(isinstance(d, int | Conflict) for d in done)
    assert sorted(kept) == list(range(1, len(kept) + 1))
    assert len(await config.history("testcore.seconds")) == len(kept)


async def test_other_processes_follow_over_the_bus_or_by_polling(clean_db: Database) -> None:
    network = MemoryNetwork()
    buses = [MemoryBus(network) for _ in range(2)]
    here, by_bus, by_poll = (
        center(clean_db, buses[0]),
        center(clean_db, buses[1]),
        center(clean_db, poll_s=0.05),
    )
    seen: list[bool] = []
    by_bus.watch(OPEN, seen.append)
    parts: list[MemoryBus | ConfigCenter] = [*buses, here, by_bus, by_poll]
    for part in parts:
        await part.start()
    try:
        await here.set("testcore.open", False, changed_by=1)
        async with asyncio.timeout(5):
            while by_bus.get(OPEN) or by_poll.get(OPEN):
                await asyncio.sleep(0.01)
        assert seen == [False]
    finally:
        for part in reversed(parts):
            await part.stop()


async def test_a_value_of_another_version_leaves_the_default(clean_db: Database) -> None:
    config = center(clean_db)
    await config.set("testcore.seconds", 5, changed_by=1)
    await clean_db.execute(raw("UPDATE core_config SET current_value = '\"soon\"', version = 2"))
    await config.load()
    assert config.get(SECONDS) == 120


def test_a_setting_is_declared_once_and_its_default_fits() -> None:
    with pytest.raises(TypeError, match="twice"):
        live("testcore.seconds", 1, "again")
    with pytest.raises(TypeError, match="range"):
        live("testcore.wrong", 10, "too much", le=5)
