"""The database: registered portable statements, transactions with a retry set, one error tree for every engine.

    db = await connect("postgresql://…")
    await db.run(transfer, 1, 2)                     # in a transaction, again after a deadlock
    async with db.transaction() as tx:               # in a transaction, once
        await tx.execute(MOVE, 1, 2)

Times are bound as aware datetimes, ids are BIGINT, flags SMALLINT 0/1, JSON is TEXT, an empty string is NULL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from core.db.errors import (
    CommitUnknown,
    ConnectionLost,
    Contention,
    DatabaseError,
    IntegrityViolation,
    NotDurable,
    PoolTimeout,
    StatementTimeout,
    UniqueViolation,
)
from core.db.interface import Database, Queries, Record, Transaction
from core.db.registry import IN_MAX, STATEMENTS, Sql, sql
from core.errors import Invalid
from core.rng import Rng

if TYPE_CHECKING:
    from core.crypto.columns import Columns

__all__ = [
    "IN_MAX",
    "STATEMENTS",
    "CommitUnknown",
    "ConnectionLost",
    "Contention",
    "Database",
    "DatabaseError",
    "IntegrityViolation",
    "NotDurable",
    "PoolTimeout",
    "Queries",
    "Record",
    "Sql",
    "StatementTimeout",
    "Transaction",
    "UniqueViolation",
    "connect",
    "migrate",
    "sql",
]

_POSTGRES: Final = ("postgresql://", "postgres://")


async def connect(
    url: str,
    *,
    min_size: int = 2,
    max_size: int = 20,
    acquire_timeout_s: float = 5.0,
    statement_timeout_s: float = 30.0,
    lock_timeout_s: float = 10.0,
    rng: Rng | None = None,
) -> Database:
    """Open a pool on the database of `url`.

    Raises `NotDurable` when fsync, full_page_writes or synchronous_commit are off, `ConnectionLost` when it cannot be
    reached, `Invalid` for a URL of an engine that is not supported. `rng` draws the jitter of retries.
    """
    if url.startswith(_POSTGRES):
        from core.db.postgres import connect_postgres

        return await connect_postgres(
            url,
            min_size=min_size,
            max_size=max_size,
            acquire_timeout_s=acquire_timeout_s,
            statement_timeout_s=statement_timeout_s,
            lock_timeout_s=lock_timeout_s,
            rng=rng,
        )
    if url.startswith("dm://"):
        from core.db.dm import connect_dm

        return await connect_dm(
            url,
            min_size=min_size,
            max_size=max_size,
            acquire_timeout_s=acquire_timeout_s,
            statement_timeout_s=statement_timeout_s,
            rng=rng,
        )
    raise Invalid("the database URL begins with postgresql:// or dm://")


async def migrate(url: str, columns: Columns | None = None) -> list[str]:
    """Bring the database of `url` up to date; several processes may do so at once. Gives the revisions it ran.

    `columns` seals what a revision begins to encrypt; without it such rows make the migration fail.
    """
    if url.startswith(_POSTGRES):
        from core.db import upgrade

        return await upgrade.migrate(url, columns)
    raise Invalid(
        "only PostgreSQL is migrated by the program; for DM8 run the script that core.db.upgrade renders"
    )
