"""Somebody who keeps files, on a real database: `hub.api.Files` in the smallest way that keeps what it promises.

The simulation has the same in memory (`tests/sim/files.py`); `tests/contract/test_files.py` compares them.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from core.db import Database, Sql, Transaction
from core.errors import BankhubError
from hub.api import Asked, Attached
from tests.sim.doubles import FileRow
from tests.sim.files import verdict

CREATE = """
CREATE TABLE IF NOT EXISTS test_files (
  file_id BIGINT PRIMARY KEY, enterprise_id BIGINT NOT NULL, person_id BIGINT NOT NULL, name VARCHAR(255) NOT NULL,
  ready SMALLINT NOT NULL);
CREATE TABLE IF NOT EXISTS test_references (
  file_id BIGINT NOT NULL, enterprise_id BIGINT NOT NULL, stream_id BIGINT NOT NULL, seq BIGINT NOT NULL,
  PRIMARY KEY (stream_id, seq, file_id));
CREATE TABLE IF NOT EXISTS test_released (stream_id BIGINT NOT NULL, seq BIGINT NOT NULL);
"""
_LOCK = Sql(
    "SELECT file_id, enterprise_id, person_id, name, ready FROM test_files WHERE file_id IN ($*) ORDER BY file_id "
    "FOR UPDATE",
    None,
    "tests",
)
_PUT = Sql(
    "INSERT INTO test_files (file_id, enterprise_id, person_id, name, ready) VALUES ($1, $2, $3, $4, $5)",
    None,
    "tests",
)
_REFERRED = Sql("SELECT COUNT(*) FROM test_references WHERE file_id = $1", None, "tests")
_TAKE_AWAY = Sql("DELETE FROM test_files WHERE file_id = $1", None, "tests")
_RELEASE = Sql("DELETE FROM test_references WHERE stream_id = $1 AND seq = $2", None, "tests")
_NOTE = Sql("INSERT INTO test_released (stream_id, seq) VALUES ($1, $2)", None, "tests")
_FILES = Sql("SELECT file_id FROM test_files ORDER BY file_id", None, "tests")
_REFERENCES = Sql("SELECT file_id, stream_id, seq FROM test_references ORDER BY 1, 2, 3", None, "tests")
_RELEASED = Sql("SELECT stream_id, seq FROM test_released ORDER BY 1, 2", None, "tests")


class SqlFiles:
    """`hub.api.Files`; `asked` is what was asked of it, whatever became of that."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    async def usable(self, tx: Transaction, asked: Sequence[Asked]) -> list[BankhubError | None]:
        self.asked += asked
        wanted = sorted({file_id for each in asked for file_id in each.file_ids})
        rows = await tx.fetch_in(_LOCK, wanted)
        files = {row[0]: FileRow(row[1], row[2], row[3], ready=row[4] == 1) for row in rows}
        return [verdict(each, files) for each in asked]

    async def attach(self, tx: Transaction, rows: Sequence[Attached]) -> None:
        await tx.insert_many(
            "test_references",
            ("file_id", "enterprise_id", "stream_id", "seq"),
            [(r.file_id, r.enterprise_id, r.stream_id, r.seq) for r in rows],
        )

    async def release(self, tx: Transaction, erased: Sequence[tuple[int, int]]) -> None:
        await tx.executemany(_RELEASE, erased)
        await tx.executemany(_NOTE, erased)

    async def clean_up(self, tx: Transaction, file_id: int) -> bool:
        """Takes the file away unless a message has it; whether it did."""
        if not await tx.fetch_in(_LOCK, [file_id]) or await tx.fetchval(_REFERRED, file_id):
            return False
        await tx.execute(_TAKE_AWAY, file_id)
        return True


async def make_tables(database: str) -> None:
    """What `SqlFiles` needs."""
    connection = await asyncpg.connect(database, ssl=False)
    try:
        await connection.execute(CREATE)
    finally:
        await connection.close()


async def put(db: Database, file_id: int, row: FileRow) -> None:
    """An upload has ended."""
    await db.execute(_PUT, file_id, row.enterprise_id, row.person_id, row.name, int(row.ready))


async def kept(
    db: Database,
) -> tuple[list[int], list[tuple[int, int, int]], list[tuple[int, int]]]:
    """All there is: files, references (file, stream, seq), and what was released, as often as it was."""
    return (
        [row[0] for row in await db.fetch(_FILES)],
        [tuple(row) for row in await db.fetch(_REFERENCES)],
        [tuple(row) for row in await db.fetch(_RELEASED)],
    )
