"""SQL of usage, policies and holds."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from core.db import Queries, Record, Transaction, UniqueViolation, sql

EVERYBODY: Final = 0  # the person in whose name the enterprise's sum stands

_USED = sql("SELECT person_id, bytes, files FROM files_usage WHERE enterprise_id = $1 AND person_id IN ($*)")
_LOCK_USED = sql(
    "SELECT person_id, bytes FROM files_usage WHERE enterprise_id = $1 AND person_id IN ($*) "
    "ORDER BY person_id DESC FOR UPDATE"
)
_ADD = sql(
    "UPDATE files_usage SET bytes = bytes + $3, files = files + $4 WHERE enterprise_id = $1 AND person_id = $2"
)
_TAKE = sql(
    "UPDATE files_usage SET bytes = bytes + $3, files = files + $4 "
    "WHERE enterprise_id = $1 AND person_id = $2 AND bytes <= $5"
)
_INSERT = sql("INSERT INTO files_usage (enterprise_id, person_id, bytes, files) VALUES ($1, $2, $3, $4)")

_POLICY = sql("SELECT own_key, quota_bytes, person_quota_bytes FROM files_policies WHERE enterprise_id = $1")
_SET_POLICY = sql(
    "UPDATE files_policies SET own_key = $2, quota_bytes = $3, person_quota_bytes = $4, changed_by = $5, "
    "changed_at = $6 WHERE enterprise_id = $1"
)
_INSERT_POLICY = sql(
    "INSERT INTO files_policies (enterprise_id, own_key, quota_bytes, person_quota_bytes, changed_by, changed_at) "
    "VALUES ($1, $2, $3, $4, $5, $6)"
)

_HOLD: Final = "hold_id, kind, object_id, reason, placed_by, placed_at"
_PLACE = sql(
    "INSERT INTO files_holds (hold_id, enterprise_id, kind, object_id, reason, placed_by, placed_at) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7)"
)
_LIFT = sql(
    "UPDATE files_holds SET lifted_by = $3, lifted_at = $4 "
    "WHERE enterprise_id = $1 AND hold_id = $2 AND lifted_at IS NULL"
)
_HOLDS = sql(
    f"SELECT {_HOLD} FROM files_holds WHERE enterprise_id = $1 AND lifted_at IS NULL ORDER BY hold_id"
)


async def used(tx: Queries, enterprise_id: int, person_id: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(bytes, files) of the person, and of everybody together."""
    rows = await tx.fetch_in(_USED, [EVERYBODY, person_id], enterprise_id)
    found = {row["person_id"]: (int(row["bytes"]), int(row["files"])) for row in rows}
    return found.get(person_id, (0, 0)), found.get(EVERYBODY, (0, 0))


async def add(tx: Transaction, enterprise_id: int, person_id: int, size_bytes: int, files: int) -> None:
    """Take room, or (negative) give it back; the sum of all is locked last, because everybody meets there."""
    for whose in (person_id, EVERYBODY):
        if await tx.execute(_ADD, enterprise_id, whose, size_bytes, files):
            continue
        try:
            async with tx.savepoint():
                await tx.execute(_INSERT, enterprise_id, whose, size_bytes, files)
        except UniqueViolation:
            await tx.execute(_ADD, enterprise_id, whose, size_bytes, files)


async def lock(tx: Transaction, enterprise_id: int, whose: Iterable[int]) -> dict[int, int]:
    """Bytes of people, and of everybody where that is asked (locked last), by person; nobody takes any meanwhile."""
    rows = await tx.fetch_in(_LOCK_USED, sorted(whose, reverse=True), enterprise_id)
    return {row["person_id"]: int(row["bytes"]) for row in rows}


async def add_locked(
    tx: Transaction, enterprise_id: int, taken: Mapping[int, tuple[int, int]], there: Container[int]
) -> None:
    """Take (bytes, files) for people whose rows are locked. Raises `UniqueViolation` where a row has come for one of
    those who are not `there`."""
    rows = [(enterprise_id, whose, *taken[whose]) for whose in sorted(taken, reverse=True)]
    if known := [row for row in rows if row[1] in there]:
        await tx.executemany(_ADD, known)
    fresh = [row for row in rows if row[1] not in there]
    await tx.insert_many("files_usage", ("enterprise_id", "person_id", "bytes", "files"), fresh)


async def take(
    tx: Transaction, enterprise_id: int, whose: int, size_bytes: int, most_bytes: int, files: int = 1
) -> bool:
    """Take room for files, if it is then `most_bytes` at most; exact: who comes at the same moment waits."""
    least = most_bytes - size_bytes
    if await tx.execute(_TAKE, enterprise_id, whose, size_bytes, files, least):
        return True
    if least < 0:
        return False
    try:
        async with tx.savepoint():
            await tx.execute(_INSERT, enterprise_id, whose, size_bytes, files)
            return True
    except UniqueViolation:  # there is a row: of somebody who came at this moment, or one that is full
        return bool(await tx.execute(_TAKE, enterprise_id, whose, size_bytes, files, least))


async def policy(tx: Queries, enterprise_id: int) -> Record | None:
    """How the enterprise keeps files; None: as the bank does by default."""
    return await tx.fetchrow(_POLICY, enterprise_id)


async def set_policy(
    tx: Transaction, enterprise_id: int, *, own_key: bool, quota_bytes: int | None, person_quota_bytes: int | None,
    by: int, now: datetime,
) -> None:  # fmt: skip
    """Change it."""
    given = (enterprise_id, int(own_key), quota_bytes, person_quota_bytes, by, now)
    if await tx.execute(_SET_POLICY, *given):
        return
    try:
        async with tx.savepoint():
            await tx.execute(_INSERT_POLICY, *given)
    except UniqueViolation:
        await tx.execute(_SET_POLICY, *given)


async def place(
    tx: Transaction, hold_id: int, enterprise_id: int, kind: str, object_id: int, reason: str, by: int, now: datetime
) -> None:  # fmt: skip
    """A hold, in force."""
    await tx.execute(_PLACE, hold_id, enterprise_id, kind, object_id, reason, by, now)


async def lift(tx: Transaction, enterprise_id: int, hold_id: int, by: int, now: datetime) -> bool:
    """End it; False where there is none in force."""
    return bool(await tx.execute(_LIFT, enterprise_id, hold_id, by, now))


async def holds(tx: Queries, enterprise_id: int) -> Sequence[Record]:
    """Those in force, the oldest first."""
    return await tx.fetch(_HOLDS, enterprise_id)
