from __future__ import annotations

import asyncpg

from core.embedded import EmbeddedEngines


async def test_settings_that_would_lose_data_are_on(engines: EmbeddedEngines) -> None:
    connection = await asyncpg.connect(engines.database_url)
    try:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await connection.fetchval(f"SHOW {name}") == "on"
    finally:
        await connection.close()
