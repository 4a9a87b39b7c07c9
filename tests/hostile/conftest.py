"""A node with short patience, and two people on it whom nothing of this may disturb."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from tests.hub import harness

_persons = itertools.count(50_000)


@pytest_asyncio.fixture
async def world(database: str, redis_url: str) -> AsyncIterator[harness.World]:
    async with harness.world(database, redis_url) as made:
        await made.node("a", hello_s=1.5)
        yield made


@pytest.fixture
def person() -> int:
    """Somebody new."""
    return next(_persons)


@pytest_asyncio.fixture
async def unharmed(world: harness.World) -> Callable[[], Awaitable[None]]:
    """Call it to see that two innocent people still talk."""
    one, two = next(_persons), next(_persons)
    room = await world.conversation(one, two)
    talker, listener = await world.client("a", one), await world.client("a", two)
    count = itertools.count()

    async def talk() -> None:
        text = f"still here {next(count)}"
        sent = await talker.say(room, text)
        assert sent[0] == 6
        await listener.when(lambda f: f[0] == 7 and f[8] == text, within_s=5)

    await talk()
    return talk
