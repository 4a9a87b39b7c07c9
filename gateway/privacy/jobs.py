"""Making copies and forgetting, in the background."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from core.crypto.columns import Column
from core.jobs import Job, JobRun
from files import api as files
from gateway.people.phones import phone_of
from gateway.privacy import store

if TYPE_CHECKING:
    from core.crypto.columns import Columns
    from core.db import Transaction

log = structlog.get_logger(__name__)

EXPORT: Final = "gateway.privacy.export"
ERASE: Final = "gateway.privacy.erase"
RESULT: Final = Column("gateway_privacy_tasks", "result")
KEEP: Final = timedelta(days=1)  # how long a copy waits to be fetched


def jobs(columns: Columns) -> tuple[Job, ...]:
    """The jobs, with the keys that copies are sealed with."""

    async def export(run: JobRun) -> None:
        await run.transact(_export, columns, int(run.params["task_id"]), run.clock.now())

    async def erase(run: JobRun) -> None:
        rows = await run.transact(_erase, int(run.params["task_id"]), run.clock.now())
        log.info("privacy.erased", rows=rows)

    return Job(EXPORT, export), Job(ERASE, erase)


async def _export(tx: Transaction, columns: Columns, task_id: int, now: datetime) -> None:
    task = await store.task(tx, task_id)
    if task is None or task["state"] != "waiting":
        return
    text = orjson.dumps(await collect(tx, columns, task["person_id"]), option=orjson.OPT_INDENT_2).decode()
    await store.done(tx, task_id, now, now + KEEP, columns.seal(RESULT, task_id, text).sealed)


async def collect(tx: Transaction, columns: Columns, person_id: int) -> dict[str, Any]:
    """A copy of what is kept about a person: plain values, ids as text, times as ISO 8601. Files by name alone."""
    row = await store.person(tx, person_id)
    if row is None:
        return {}
    person = {name: value for name, value in dict(row).items() if name != "phone_sealed"}
    found: dict[str, Any] = {"person": [person | {"phone": phone_of(columns, row)}]}
    found |= await store.topics(tx, person_id)
    found["files"] = await files.of_person(tx, person_id)
    return {topic: [_plain(one) for one in rows] for topic, rows in found.items()}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat()
        if isinstance(value, datetime)
        else str(value)
        if name.endswith("_id") and value is not None
        else value
        for name, value in row.items()
    }


async def _erase(tx: Transaction, task_id: int, now: datetime) -> int:
    task = await store.task(tx, task_id)
    if task is None or task["state"] != "waiting":
        return 0
    rows = await store.forget(tx, task["person_id"])
    await store.done(tx, task_id, now, None, None)
    return rows
