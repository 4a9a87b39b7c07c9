"""A process by itself: an event of an action reaches its handler, jobs run, settings follow."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.actions import (
    PERSON,
    Command,
    Context,
    Event,
    Id,
    Value,
    action,
    actions_in,
    handlers_in,
    on,
)
from core.background import Background
from core.bus import MemoryNetwork
from core.config_center import live
from core.jobs import Every, Job, JobRun
from core.runtime import Runtime
from core.service import Service
from tests.world import process, settings_for, somebody

from .conftest import raw

DELAY = live("testbackground.delay", 5, "for tests")
handled: list[tuple[int, int, str]] = []
ran = asyncio.Event()


class Happened(Event, event="testbackground.happened"):
    thing_id: Id


class Done(Value):
    thing_id: Id


class Do(Command[Done], action="testbackground.things.do"):
    thing_id: Id


@action(Do, needs=PERSON)
async def do(ctx: Context, command: Do) -> Done:
    """Does it."""
    ctx.emit(Happened(enterprise_id=ctx.enterprise_id, thing_id=command.thing_id))
    return Done(thing_id=command.thing_id)


@on(Happened)
async def hear(ctx: Context, event: Happened) -> None:
    handled.append((event.enterprise_id, event.thing_id, ctx.trace.trace_id))


async def often(run: JobRun) -> None:
    ran.set()


THIS = sys.modules[__name__]


class Things(Service):
    name = "testbackground"
    actions = actions_in(THIS)
    handlers = handlers_in(THIS)
    jobs = (Job("testbackground.often", often, schedule=Every(0.1)),)


@pytest.fixture
async def here(database: str, tmp_path: Path) -> AsyncIterator[Runtime]:
    things = Things()
    async with process(settings_for(database, tmp_path), [things], network=MemoryNetwork()) as runtime:
        background = Background(runtime, [things])
        await background.start()
        yield runtime
        await background.stop()


async def test_what_a_process_does_by_itself(here: Runtime) -> None:
    await here.calls.call(Do(thing_id=5), principal=somebody(enterprise_id=3))
    async with asyncio.timeout(10):
        while not handled:
            await asyncio.sleep(0.01)
        await ran.wait()
    ((enterprise_id, thing_id, trace_id),) = handled
    assert (enterprise_id, thing_id) == (3, 5)
    audited = await here.db.fetchval(
        raw("SELECT trace_id FROM core_audit WHERE action = 'testbackground.things.do'")
    )
    assert trace_id == audited  # one trace from the call to what followed from it

    assert here.config.get(DELAY) == 5
    await here.config.set(DELAY.name, 6, changed_by=1)
    assert here.config.get(DELAY) == 6
    names = {row[0] for row in await here.db.fetch(raw("SELECT name FROM core_jobs"))}
    assert {"core.outbox.sweep", "core.jobs.sweep", "core.idempotency.sweep", "testbackground.often"} <= names
