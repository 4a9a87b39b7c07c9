"""Dameng DM8 by dmPython, the vendor's driver: the interface of `core.db` over a blocking DB-API.

**It has never run on a DM8**: none can be had where this was made. What is known of the server is from its manuals and
from the driver itself, and marked so. Tested are the driver's own behaviour without a server (tests/core/test_dm.py,
where dmPython is installed), and everything above the driver on a double of it that runs on PostgreSQL.

The driver has one thread per connection (its ``threadsafety`` is 1), and a statement that was cancelled cannot be taken
back: such a connection is closed when its thread returns, and is not used again.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

import structlog

from core.db.dm_connection import Connection
from core.db.errors import ConnectionLost, DatabaseError, PoolTimeout
from core.db.interface import Database, Record, Transaction
from core.db.registry import Sql
from core.errors import Invalid
from core.rng import Rng

log = structlog.get_logger(__name__)

LOGIN_TIMEOUT_MS: Final = 5_000  # 2.6.1 takes milliseconds where its manual says seconds: 5 would be 5 ms
CLOSE_S: Final = 5.0

_HERE: Final = Sql("SELECT 1", None, __name__)


class DmTransaction(Transaction):
    """One transaction on one connection.

    DM8 undoes a failed statement alone and goes on; PostgreSQL does not. The product is written for the stricter one,
    so after a failure only a savepoint or the end of the transaction helps, here too.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._hooks: list[Callable[[], object]] = []
        self._savepoints = 0
        self._failed = False

    async def _run(self, work: Callable[[], Any]) -> Any:
        if self._failed:
            raise DatabaseError("a statement of this transaction has failed; only its end is left")
        try:
            return await work()
        except BaseException:
            self._failed = True
            raise

    async def _fetch(self, text: str, args: Sequence[Any]) -> list[Record]:
        return cast("list[Record]", await self._run(lambda: self._connection.query(text, args)))

    async def _execute(self, text: str, args: Sequence[Any]) -> int:
        return int(await self._run(lambda: self._connection.execute(text, args)))

    async def fetchrow(self, statement: Sql, *args: Any) -> Record | None:
        rows = await self._fetch(statement.text, args)
        return rows[0] if rows else None

    async def fetchval(self, statement: Sql, *args: Any) -> Any:
        rows = await self._fetch(statement.text, args)
        return rows[0][0] if rows else None

    async def executemany(self, statement: Sql, rows: Iterable[Sequence[Any]]) -> None:
        await self._run(lambda: self._connection.execute_many(statement.text, rows))

    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        await self._run(lambda: self._connection.execute_many(_insert(table, tuple(columns)), rows))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        self._savepoints += 1
        name = f"s{self._savepoints}"
        await self._execute(f"SAVEPOINT {name}", ())
        try:
            yield
        except BaseException:
            if not self._connection.broken:
                self._failed = False
                await self._execute(f"ROLLBACK TO SAVEPOINT {name}", ())
            raise

    def on_commit(self, hook: Callable[[], object]) -> None:
        self._hooks.append(hook)

    async def end(self) -> None:
        """Commit. Raises `DatabaseError` when a statement had failed and was caught."""
        if self._failed:
            await self._connection.rollback()
            raise DatabaseError("a statement of this transaction had failed; nothing was written")
        await self._connection.commit()
        for hook in self._hooks:
            try:
                hook()
            except Exception:
                log.exception("db.commit_hook_failed")


@lru_cache(maxsize=1024)
def _insert(table: str, columns: tuple[str, ...]) -> str:
    marks = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"


class DmDatabase(Database):
    """A pool of connections, each with its thread."""

    def __init__(
        self,
        driver: Any,
        options: dict[str, Any],
        *,
        max_size: int,
        acquire_timeout_s: float,
        rng: Rng | None = None,
    ) -> None:
        super().__init__(rng)
        self._driver, self._options = driver, options
        self._acquire_timeout_s = acquire_timeout_s
        self._free = asyncio.Semaphore(max_size)
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()

    @property
    def dialect(self) -> str:
        return "dm"

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self._connection() as connection:
            transaction = DmTransaction(connection)
            try:
                yield transaction
            except BaseException:
                await connection.rollback()
                raise
            await transaction.end()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            await asyncio.wait_for(self._free.acquire(), self._acquire_timeout_s)
        except TimeoutError as error:
            raise PoolTimeout(retry_ms=1000) from error
        try:
            connection = self._idle.pop() if self._idle else Connection(self._driver, self._options)
            self._used.add(connection)
            try:
                if not connection.is_open:
                    await connection.open()
                yield connection
            except ConnectionLost:
                self._forget_idle()  # what broke this one has likely broken them
                raise
            finally:
                self._used.discard(connection)
                if connection.broken or not connection.is_open:
                    connection.close()
                else:
                    self._idle.append(connection)
        finally:
            self._free.release()

    def _forget_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _alone(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        """One statement in a transaction of its own."""
        async with self._connection() as connection:
            try:
                result = await work(connection)
            except BaseException:
                await connection.rollback()
                raise
            await connection.commit()
            return result

    async def _fetch(self, text: str, args: Sequence[Any]) -> list[Record]:
        return cast("list[Record]", await self._alone(lambda c: c.query(text, args)))

    async def _execute(self, text: str, args: Sequence[Any]) -> int:
        return int(await self._alone(lambda c: c.execute(text, args)))

    async def fetchrow(self, statement: Sql, *args: Any) -> Record | None:
        rows = await self._fetch(statement.text, args)
        return rows[0] if rows else None

    async def fetchval(self, statement: Sql, *args: Any) -> Any:
        rows = await self._fetch(statement.text, args)
        return rows[0][0] if rows else None

    async def executemany(self, statement: Sql, rows: Iterable[Sequence[Any]]) -> None:
        await self._alone(lambda c: c.execute_many(statement.text, rows))

    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        await self._alone(lambda c: c.execute_many(_insert(table, tuple(columns)), rows))

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while self._used:
                    await asyncio.sleep(0.01)
        self._forget_idle()
        for connection in self._used:
            connection.close()


def options_of(url: str, driver: Any, statement_timeout_s: float) -> dict[str, Any]:
    """What dmPython's `connect` is given for ``dm://user:password@host:5236/schema``. Raises `Invalid`."""
    parts = urlsplit(url)
    if parts.scheme != "dm" or not parts.hostname or parts.username is None:
        raise Invalid("the address of a DM8 is dm://user:password@host:5236/schema")
    options: dict[str, Any] = {
        "user": unquote(parts.username),
        "password": unquote(parts.password or ""),
        "server": parts.hostname,
        "port": parts.port or 5236,
        "autoCommit": False,  # the driver's default is True
        "local_code": driver.PG_UTF8,
        "lang_id": driver.LANGUAGE_EN,
        "login_timeout": LOGIN_TIMEOUT_MS,
        "connection_timeout": int(statement_timeout_s) + 5,
    }
    if parts.path.strip("/"):
        options["schema"] = unquote(parts.path.strip("/"))
    return options


async def connect_dm(
    url: str,
    *,
    min_size: int,
    max_size: int,
    acquire_timeout_s: float,
    statement_timeout_s: float,
    rng: Rng | None,
    driver: Any = None,
) -> DmDatabase:
    """See `core.db.connect`. Raises `Invalid` when dmPython is not installed.

    There is no guard of durability here: which of DM8's settings to ask for is to be agreed with its administrator.
    """
    if driver is None:
        try:
            driver = importlib.import_module("dmPython")
        except ImportError as error:
            raise Invalid("dmPython is not installed: install the extra dm") from error
    options = options_of(url, driver, statement_timeout_s)
    db = DmDatabase(driver, options, max_size=max_size, acquire_timeout_s=acquire_timeout_s, rng=rng)
    await asyncio.gather(*(db.fetchval(_HERE) for _ in range(max(1, min_size))))
    log.warning("db.durability_not_checked", dialect="dm")
    return db
