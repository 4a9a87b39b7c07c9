"""A world of hub nodes on this worker's engines."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.hub import harness


@pytest_asyncio.fixture
async def world(database: str, redis_url: str) -> AsyncIterator[harness.World]:
    async with harness.world(database, redis_url) as made:
        yield made
