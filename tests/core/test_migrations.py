"""The chain makes the tables that the schemas say, for both engines, once, however many processes ask for it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from core.db import ConnectionLost, DatabaseError, migrate, upgrade
from core.db.metadata import metadata
from core.migrations import make


def test_schemas_and_chain_agree(database: str) -> None:
    """When this fails: python -m core.migrations.make "why" (see core/migrations/__init__.py)."""
    assert asyncio.run(make.on_database(database, make.differences)) == []


def test_a_difference_would_be_seen(database: str) -> None:
    make.import_schemas()
    extra = sa.Table("core_extra", metadata, sa.Column("extra_id", sa.BigInteger, primary_key=True))
    try:
        found = asyncio.run(make.on_database(database, make.differences))
    finally:
        metadata.remove(extra)
    assert [kind for kind, *_ in found] == ["add_table"]


async def _empty(url: str) -> None:
    connection = await asyncpg.connect(url, ssl=False)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()


async def _tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url, ssl=False)
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    return {row[0] for row in rows}


async def test_of_many_processes_one_migrates_and_the_others_wait(empty_database: str) -> None:
    await _empty(empty_database)
    done = await asyncio.gather(*(migrate(empty_database) for _ in range(8)))
    assert sorted(done, reverse=True) == [upgrade.revisions(), *[[]] * 7]
    assert set(metadata.tables) <= await _tables(empty_database)
    assert await migrate(empty_database) == []


async def test_a_revision_that_fails_leaves_nothing_behind(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _empty(empty_database)
    whole = upgrade.script
    monkeypatch.setattr(upgrade, "script", lambda *args: whole(*args) + "; SELECT no_such_function()")
    with pytest.raises(DatabaseError):
        await migrate(empty_database)
    assert await _tables(empty_database) == {upgrade.LOCK_TABLE}
    monkeypatch.undo()
    assert await migrate(empty_database) == upgrade.revisions()


async def test_a_database_of_a_newer_version_is_left_alone(empty_database: str) -> None:
    await _empty(empty_database)
    await migrate(empty_database)
    connection = await asyncpg.connect(empty_database, ssl=False)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    with pytest.raises(DatabaseError, match="9999"):
        await migrate(empty_database)


async def test_a_database_that_is_not_there() -> None:
    with pytest.raises(ConnectionLost):
        await migrate("postgresql://nobody:x@127.0.0.1:1/none")


def _chain(directory: Path, *links: tuple[str, str | None]) -> None:
    (directory / "versions").mkdir()
    for revision, down in links:
        text = f'revision = "{revision}"\ndown_revision = {f"{chr(34)}{down}{chr(34)}" if down else None}\n'
        (directory / "versions" / f"{revision}_x.py").write_text(text)


@pytest.mark.parametrize(
    ("links", "wrong"),
    [
        ([("0001", None), ("0002", "0001"), ("0003", "0001")], "the chain is one"),
        ([("0001", None), ("0003", "0002")], "follow nothing"),
    ],
)
def test_a_chain_that_forks_or_breaks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: list[tuple[str, str | None]], wrong: str
) -> None:
    _chain(tmp_path, *links)
    monkeypatch.setattr(upgrade, "DIRECTORY", tmp_path)
    with pytest.raises(ValueError, match=wrong):
        upgrade.revisions()


def test_a_chain_is_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _chain(tmp_path, ("0002", "0001"), ("0001", None), ("0003", "0002"))
    monkeypatch.setattr(upgrade, "DIRECTORY", tmp_path)
    assert upgrade.revisions() == ["0001", "0002", "0003"]
    assert upgrade.after(["0001", "0002", "0003"], "0001") == ["0002", "0003"]


# --- DM8: rendered, never run here ----------------------------------------------------------------------------------


def test_the_script_for_dm8_has_every_table_in_its_words() -> None:
    make.import_schemas()
    script = upgrade.script("dm", None, upgrade.revisions()[-1])
    assert set(re.findall(r"CREATE TABLE (\w+)", script)) == {*metadata.tables, "alembic_version"}
    for word in (
        '"',
        "BOOLEAN",
        "DATETIME",
        "BYTEA",
        "VARCHAR(",
        "SERIAL",
        "IDENTITY",
        "RETURNING",
        "WITHOUT TIME",
    ):
        assert word not in script
    for columns in re.findall(r"VARCHAR2\(([^)]*)\)", script):
        assert columns.endswith(" CHAR")
    moments = sum(isinstance(c.type, sa.DateTime) for t in metadata.tables.values() for c in t.columns)
    assert script.count("TIMESTAMP WITH TIME ZONE") == moments


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda op: op.alter_column("t", "a", type_=sa.String(300)), "ALTER TABLE t MODIFY a VARCHAR2(300 CHAR)"),
        (lambda op: op.alter_column("t", "a", new_column_name="b"), "ALTER TABLE t RENAME COLUMN a TO b"),
        (lambda op: op.alter_column("t", "a", nullable=False), "ALTER TABLE t ALTER COLUMN a SET NOT NULL"),
        (lambda op: op.add_column("t", sa.Column("a", sa.SmallInteger)), "ALTER TABLE t ADD COLUMN a SMALLINT"),
        (lambda op: op.drop_column("t", "a"), "ALTER TABLE t DROP COLUMN a"),
        (lambda op: op.create_index("ix_t_a", "t", ["a"]), "CREATE INDEX ix_t_a ON t (a)"),
        (lambda op: op.rename_table("t", "u"), "ALTER TABLE t RENAME TO u"),
    ],
)  # fmt: skip
def test_a_change_for_dm8_is_spelt_as_its_manual_says(change: Any, expected: str) -> None:
    context = MigrationContext.configure(
        dialect_name="dm", opts={"as_sql": True, "output_buffer": (out := _Lines())}
    )
    change(Operations(context))
    assert " ".join(out.text.split()).rstrip("; /") == expected


class _Lines:
    """A file to write to."""

    text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...
