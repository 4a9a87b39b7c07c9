"""Bringing a database up to date, by as many processes at once as there are."""

from __future__ import annotations

import io
import re
import runpy
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from core.db.errors import DatabaseError
from core.db.postgres import translate

if TYPE_CHECKING:
    from core.crypto.columns import Columns

log = structlog.get_logger(__name__)

DIRECTORY: Final = Path(__file__).resolve().parent.parent / "migrations"
LOCK_TABLE: Final = "core_migration_lock"
WAIT_S: Final = 300.0  # for another process that is migrating

_REVISION: Final = re.compile(r"^revision = [\"'](\w+)[\"']", re.MULTILINE)
_DATA: Final = re.compile(r"^async def data\(", re.MULTILINE)
_DOWN: Final = re.compile(r"^down_revision = [\"'](\w+)[\"']", re.MULTILINE)


async def migrate(url: str, columns: Columns | None = None) -> list[str]:
    """Run the revisions that the database of `url` has not yet, all of them or none; gives their names.

    A revision that has a coroutine `data(connection, columns)` gets it run after its script, in the same transaction:
    what SQL alone cannot do. Processes that call this at once wait for each other on a row; the first does the work.
    Raises errors of `core.db.errors`, and `DatabaseError` for a database that a newer version of this program migrated.
    """
    try:
        connection = await asyncpg.connect(url, timeout=10.0, command_timeout=WAIT_S)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise translate(error) from error
    try:
        chain, steps = revisions(), _steps()
        if await _current(connection) == chain[-1]:
            return []
        await _make_lock(connection)
        async with connection.transaction():
            locked = await connection.fetchval(f"SELECT lock_id FROM {LOCK_TABLE} FOR UPDATE")
            assert locked is not None, "the row was made with its table"
            current = await _current(connection)
            missing = after(chain, current)
            for stop in [r for r in missing if r in steps or r == chain[-1]]:
                await connection.execute(script("postgresql", current, stop))
                if stop in steps:
                    await _data(steps[stop])(connection, columns)
                current = stop
        for revision in missing:
            log.info("db.migrated", revision=revision)
        return missing
    except asyncpg.PostgresError as error:
        raise translate(error, unknown=True) from error
    finally:
        await connection.close()


def revisions() -> list[str]:
    """The chain, oldest first, read from the files without importing them: start-up is no place to load Alembic."""
    follows: dict[str | None, str] = {}
    for file in sorted((DIRECTORY / "versions").glob("*.py")):
        text = file.read_text(encoding="utf-8")
        revision, down = _REVISION.search(text), _DOWN.search(text)
        if revision is None:
            raise ValueError(f"{file.name} is not a revision")
        before = down[1] if down else None
        if before in follows:
            raise ValueError(f"{file.name} and another revision both follow {before}: the chain is one")
        follows[before] = revision[1]
    chain: list[str] = []
    while (following := follows.get(chain[-1] if chain else None)) is not None:
        chain.append(following)
    if len(chain) != len(follows):
        raise ValueError("revisions that follow nothing in the chain")
    return chain


def _steps() -> dict[str, Path]:
    """The files of revisions that have a `data` of their own, by revision."""
    texts = {file: file.read_text(encoding="utf-8") for file in (DIRECTORY / "versions").glob("*.py")}
    return {
        found[1]: file
        for file, text in texts.items()
        if _DATA.search(text) and (found := _REVISION.search(text))
    }


def _data(file: Path) -> Callable[[Any, Columns | None], Awaitable[None]]:
    step: Callable[[Any, Columns | None], Awaitable[None]] = runpy.run_path(str(file))["data"]
    return step


def after(chain: list[str], current: str | None) -> list[str]:
    """What of the chain comes after `current`. Raises `DatabaseError` for a revision that is not in it."""
    if current is None:
        return chain
    if current not in chain:
        raise DatabaseError(f"the database is at revision {current}, which this version does not know")
    return chain[chain.index(current) + 1 :]


def script(dialect: str, current: str | None, target: str) -> str:
    """The SQL from one revision to another in a dialect (`postgresql`, or `dm` where its dialect is installed)."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    buffer = io.StringIO()
    config = Config(attributes={"dialect": dialect, "script": buffer, "lock_table": LOCK_TABLE})
    config.set_main_option("script_location", str(DIRECTORY))
    directory = ScriptDirectory.from_config(config)

    def steps(revision: Any, context: Any) -> Any:
        return directory._upgrade_revs(target, revision)  # as alembic.command.upgrade does

    with EnvironmentContext(
        config, directory, fn=steps, as_sql=True, starting_rev=current, destination_rev=target
    ):
        directory.run_env()
    return buffer.getvalue()


async def _current(connection: Any) -> str | None:
    # not to_regclass: it may answer from a cache filled before this transaction waited for its lock
    if not await connection.fetchval(
        "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'alembic_version'"
    ):
        return None
    revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return revision


async def _make_lock(connection: Any) -> None:
    # IF NOT EXISTS is not race-free: when it fails, another process has just made the table and its row
    with suppress(asyncpg.UniqueViolationError, asyncpg.DuplicateObjectError, asyncpg.DuplicateTableError):
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS {LOCK_TABLE} (lock_id SMALLINT PRIMARY KEY);"
            f"INSERT INTO {LOCK_TABLE} VALUES (1) ON CONFLICT DO NOTHING"
        )
