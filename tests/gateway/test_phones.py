"""Phone numbers at rest: nobody reads them in the database, nobody moves them, and keys turn while people log in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from core.background import Background
from core.clock import SystemClock
from core.crypto.columns import Columns
from core.crypto.keyring import Keyring
from core.crypto.ring import COLUMNS, INDEXES
from core.crypto.sm4 import NotAuthentic
from core.db import DatabaseError, Sql, migrate, upgrade
from core.errors import Invalid
from core.rng import SystemRng
from gateway.identity import store
from gateway.people import phones
from gateway.people import store as people
from tests.core.test_migrations import _empty
from tests.gateway.conftest import World

PHONES = ("13800000001", "13800000002")
_ROWS = Sql(
    "SELECT person_id, phone_sealed, phone_index FROM gateway_people ORDER BY person_id", None, "tests"
)
_SWAP = Sql("UPDATE gateway_people SET phone_sealed = $2 WHERE person_id = $1", None, "tests")


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ring of this module's own: it retires keys."""
    return Keyring(tmp_path_factory.mktemp("keys") / "ring.json", SystemClock()).path


@pytest.mark.requirement("D01")
async def test_no_number_stands_anywhere_in_the_database(world: World, database: str) -> None:
    await world.login("zhangwei")
    connection = await asyncpg.connect(database, ssl=False)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in tables:
            rows = await connection.fetch(f"SELECT CAST(t AS TEXT) FROM {table} t")
            for number in PHONES:
                digits = number.encode()
                assert not any(number in row[0] or digits.hex() in row[0] for row in rows), table
    finally:
        await connection.close()


@pytest.mark.requirement("D02")
async def test_a_number_of_another_row_does_not_open(world: World) -> None:
    db, columns = world.runtime.db, world.runtime.columns
    one, two = [row for row in await db.fetch(_ROWS) if row["phone_sealed"]][:2]
    assert phones.shown_phone(columns, one) == "138****0001"
    await db.execute(_SWAP, one["person_id"], two["phone_sealed"])
    try:
        changed = await store.person(db, one["person_id"])
        assert changed is not None
        with pytest.raises(NotAuthentic):
            phones.phone_of(columns, changed)
        answer = await world.client.login("zhangwei", world.people["zhangwei"].password)
        assert answer.status != 200
    finally:
        await db.execute(_SWAP, one["person_id"], one["phone_sealed"])
    assert (await world.client.login("zhangwei", world.people["zhangwei"].password)).status == 200


@pytest.mark.requirement("D02")
async def test_keys_turn_while_people_log_in(world: World) -> None:
    runtime, keys = world.runtime, world.runtime.keys
    job = next(job for job in world.gateway.jobs if job.name == "gateway.people.reseal")
    runner = Background(runtime, [world.gateway]).jobs
    await runner.enter_schedules()

    async def logs_in() -> bool:
        answer = await world.client.login("+86 138-0000-0001", world.people["zhangwei"].password)
        return answer.status == 200

    for purpose in (COLUMNS, INDEXES):
        before = keys.current(purpose)
        clock_ms = 400_000
        world.clock.advance(clock_ms)
        keys.rotate(purpose)
        assert await logs_in(), "what was written with the previous key is found and read"
        found = await store.person_by_phone(runtime.db, runtime.columns, PHONES[0])
        assert found is not None, (
            "whoever takes a number looks first, under every key: two rows would not clash"
        )
        world.clock.advance(3_600_000)
        while await runner.run_once():
            pass
        assert job.schedule is not None
        assert await logs_in()
        in_use = {(key, index) for key, index, _ in await people.phone_keys(runtime.db)}
        assert in_use == {runtime.columns.versions}
        keys.retire(purpose, before.version)
        assert await logs_in(), "nothing needs the retired key"


async def test_two_people_cannot_have_one_number(world: World) -> None:
    runtime = world.runtime

    async def insert(phone: str) -> None:
        await store.insert_person(
            runtime.db,
            runtime.columns,
            runtime.ids.next(),
            phone=phone,
            login_name=None,
            name="某人",
            password_hash=None,
            now=runtime.clock.now(),
        )

    results = await asyncio.gather(*(insert("13855550000") for _ in range(4)), return_exceptions=True)
    assert sorted(type(r).__name__ for r in results) == ["NoneType", *["UniqueViolation"] * 3]


async def test_a_migration_seals_what_is_there(empty_database: str, world: World, tmp_path: Path) -> None:
    await _empty(empty_database)
    whole = upgrade.revisions()
    connection = await asyncpg.connect(empty_database, ssl=False)
    await connection.execute(upgrade.script("postgresql", None, "0005"))
    for person_id, phone in ((1, "13800000001"), (2, None)):
        await connection.execute(
            "INSERT INTO gateway_people (person_id, phone, login_name, full_name, state, created_at) "
            "VALUES ($1, $2, NULL, '某人', 'active', CURRENT_TIMESTAMP)",
            person_id,
            phone,
        )
    with pytest.raises(DatabaseError, match="with the keys"):
        await migrate(empty_database)
    columns = world.runtime.columns
    assert await migrate(empty_database, columns) == whole[whole.index("0006") :]
    row = await connection.fetchrow(
        "SELECT person_id, phone_sealed, phone_index FROM gateway_people WHERE person_id = 1"
    )
    await connection.close()
    assert phones.phone_of(columns, row) == "13800000001"
    assert row["phone_index"] == columns.indexes(phones.PHONE, " +86 138 0000 0001 ")[0]
    stranger = Columns(Keyring(tmp_path / "ring.json", world.clock), SystemRng())
    with pytest.raises(Invalid):
        phones.phone_of(stranger, row)
