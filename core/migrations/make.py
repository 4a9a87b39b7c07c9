"""``python -m core.migrations.make "why"`` writes the next revision; ``--anew`` writes the only one again.

Both compare the schemas of all packages with a database made for the comparison and dropped after it, on the server
of BANKHUB_DATABASE_URL (default: the running embedded one). For developers: the role must be allowed to make databases.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import pkgutil
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from core.db.upgrade import DIRECTORY, LOCK_TABLE, migrate, revisions

ROOT: Final = DIRECTORY.parent.parent


def import_schemas() -> list[str]:
    """Import the schema of every package beside core, so that all tables are in the metadata; their names."""
    names = [
        f"{package.name}.schema"
        for package in pkgutil.iter_modules([str(ROOT)])
        if package.ispkg and any((ROOT / package.name).glob("schema*"))
    ]
    for name in names:
        importlib.import_module(name)
    return names


def differences(connection: Any) -> list[Any]:
    """What Alembic would change in the database of a (synchronous SQLAlchemy) connection to match the schemas."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from core.db.metadata import metadata

    import_schemas()
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "compare_server_default": True,
            "include_object": lambda thing, name, kind, reflected, compare_to: name != LOCK_TABLE,
        },
    )
    return list(compare_metadata(context, metadata))


async def on_database(url: str, work: Any) -> Any:
    """Run `work(connection)` on a synchronous SQLAlchemy connection to `url`."""
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    scheme = re.sub(r"^postgres(ql)?://", "postgresql+asyncpg://", url)
    engine = create_async_engine(scheme, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def write_revision(connection: Any, message: str, number: int) -> Path:
    """Write the difference as the next revision file; the file."""
    from alembic import command
    from alembic.config import Config

    import_schemas()
    config = Config(attributes={"connection": connection, "lock_table": LOCK_TABLE})
    config.set_main_option("script_location", str(DIRECTORY))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    made: Any = command.revision(config, message, autogenerate=True, rev_id=f"{number:04d}")
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", made.path], check=True)
    return Path(made.path)


async def make(url: str, message: str, *, anew: bool) -> Path:
    """Make a database, migrate it, compare, write. See the module."""
    if anew:
        for file in (DIRECTORY / "versions").glob("*.py"):
            file.unlink()
    name = f"bankhub_make_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(url)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        try:
            fresh = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
            if not anew:
                await migrate(fresh)
            number = 1 if anew else int(revisions()[-1]) + 1
            made: Path = await on_database(fresh, lambda c: write_revision(c, message, number))
            return made
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.migrations.make", description=__doc__)
    parser.add_argument("message", nargs="?", default="All tables")
    parser.add_argument(
        "--anew", action="store_true", help="before the first release: write the one revision again"
    )
    parser.add_argument("--url", help="of a role that may make databases")
    given = parser.parse_args()
    with _server(given.url) as url:
        made = asyncio.run(make(url, given.message, anew=given.anew))
    sys.stdout.write(f"{made.relative_to(ROOT)}\n")


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    """Where databases may be made: as said, as set, or the embedded server, started for the moment if it is not."""
    from core.embedded import EmbeddedEngines
    from core.settings import load

    settings = load()
    if url is None and settings.database_url is not None:
        url = settings.database_url.get_secret_value()
    if url is not None:
        yield url
        return
    engines = EmbeddedEngines(settings.var_dir, {"postgres"})
    ours = engines.holder() is None
    if ours:
        engines.start_blocking()
    try:
        yield engines.admin_url
    finally:
        if ours:
            engines.stop_blocking()


if __name__ == "__main__":
    main()
