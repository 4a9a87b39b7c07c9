"""A database emptied before every test, and the means to run statements that are no part of the product."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.clock import ManualClock
from core.db import Database, Sql, connect
from core.rng import SeededRng


def raw(text: str) -> Sql:
    """A statement for tests only: not registered, so no rule applies to it."""
    return Sql(text, None, "tests")


_TABLES = raw(
    "SELECT tablename FROM pg_tables WHERE schemaname = 'public' "
    "AND tablename NOT IN ('alembic_version', 'core_migration_lock')"
)


@pytest.fixture
async def clean_db(database: str) -> AsyncIterator[Database]:
    """The module's migrated database without rows."""
    db = await connect(database, min_size=1, max_size=40, rng=SeededRng(0))
    tables = [row[0] for row in await db.fetch(_TABLES)]
    await db.execute(raw(f"TRUNCATE {', '.join(tables)}"))
    yield db
    await db.close()


@pytest.fixture
def manual_clock() -> ManualClock:
    return ManualClock()
