"""PostgreSQL by asyncpg: its pool, our errors, the durability guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Final, cast

import asyncpg
import structlog

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
from core.db.interface import Database, Record, Transaction
from core.db.postgres_pool import Hands, gone
from core.db.registry import Sql
from core.errors import BankhubError, Internal
from core.rng import Rng

log = structlog.get_logger(__name__)

COPY_FROM: Final = 4  # rows; below it INSERT is as fast and takes a simpler path
STATEMENT_CACHE: Final = 1_000  # texts prepared on a connection: all of ours, lists in every size
CLOSE_S: Final = 5.0  # for what still runs when the process ends

_GUARD: Final = (
    "SELECT current_setting('fsync'), current_setting('full_page_writes'), "
    "current_setting('synchronous_commit')"
)

_CONTENTION: Final = frozenset({"40001", "40P01", "55P03"})  # serialization, deadlock, lock time-out
_GONE: Final = frozenset(
    {"57P01", "57P02", "57P03", "57P05", "53300", "25P03"}
)  # shutting down, full, idle too long
# the last: what asyncpg says when the server ended the session while nobody was listening
_LOST: Final = (asyncpg.PostgresConnectionError, OSError, asyncpg.InternalClientError)
_DRIVER: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


def translate(error: BaseException, *, unknown: bool = False) -> BankhubError:
    """Our error for one of asyncpg's. `unknown`: a lost connection may have lost the answer to a commit."""
    code = str(getattr(error, "sqlstate", None) or "")
    if isinstance(error, asyncpg.UniqueViolationError):
        return UniqueViolation(code=code, constraint=error.constraint_name or "")
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return IntegrityViolation(code=code, constraint=error.constraint_name or "")
    if code in _CONTENTION:
        return Contention(retry_ms=50)
    if isinstance(error, TimeoutError) or code == "57014":
        return StatementTimeout()
    if isinstance(error, asyncpg.InterfaceError):
        # also raised for misuse (arguments, two statements at once), which no retry can heal
        lost = "clos" in str(error) or "released" in str(error)
    else:
        lost = isinstance(error, _LOST) or code in _GONE
    if lost:
        return CommitUnknown() if unknown else ConnectionLost(retry_ms=500)
    return DatabaseError(code=code)


class PostgresTransaction(Transaction):
    """One transaction on one connection."""

    __slots__ = ("_connection", "_hooks", "_savepoints")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._hooks: list[Callable[[], object]] = []
        self._savepoints = 0

    async def _fetch(self, text: str, args: Sequence[Any]) -> list[Record]:
        try:
            return cast("list[Record]", await self._connection.fetch(text, *args))
        except _DRIVER as error:
            raise translate(error) from error

    async def fetchrow(self, statement: Sql, *args: Any) -> Record | None:
        try:
            return cast("Record | None", await self._connection.fetchrow(statement.text, *args))
        except _DRIVER as error:
            raise translate(error) from error

    async def fetchval(self, statement: Sql, *args: Any) -> Any:
        try:
            return await self._connection.fetchval(statement.text, *args)
        except _DRIVER as error:
            raise translate(error) from error

    async def _execute(self, text: str, args: Sequence[Any]) -> int:
        try:
            return concerned(await self._connection.execute(text, *args))
        except _DRIVER as error:
            raise translate(error) from error

    async def executemany(self, statement: Sql, rows: Iterable[Sequence[Any]]) -> None:
        try:
            await self._connection.executemany(statement.text, rows)
        except _DRIVER as error:
            raise translate(error) from error

    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        try:
            await _insert_many(self._connection, table, columns, rows)
        except _DRIVER as error:
            raise translate(error) from error

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        self._savepoints += 1
        name = f"s{self._savepoints}"
        await self._control(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            if not gone(self._connection):
                await self._control(f"ROLLBACK TO SAVEPOINT {name}")
            raise
        await self._control(f"RELEASE SAVEPOINT {name}")

    def on_commit(self, hook: Callable[[], object]) -> None:
        self._hooks.append(hook)

    async def _control(self, text: str) -> None:
        try:
            await self._connection.execute(text)
        except _DRIVER as error:
            raise translate(error) from error

    async def commit(self) -> None:
        """Raises `DatabaseError` when a statement had failed and was caught: PostgreSQL then only rolls back."""
        try:
            status = await self._connection.execute("COMMIT")
        except _DRIVER as error:
            raise translate(error, unknown=True) from error
        if status != "COMMIT":
            raise DatabaseError("a statement of this transaction had failed; nothing was written")
        self._committed()

    def _committed(self) -> None:
        for hook in self._hooks:
            try:
                hook()
            except Exception:
                log.exception("db.commit_hook_failed")

    async def rollback(self) -> None:
        """Leaves the connection without a transaction, or closed."""
        if gone(self._connection):
            return
        try:
            await self._connection.execute("ROLLBACK")
        except BaseException as error:
            with suppress(asyncpg.InterfaceError):
                self._connection.terminate()
            if not isinstance(error, Exception):
                raise


class _Block(AbstractAsyncContextManager[Transaction]):
    """`async with db.transaction()`: a class, because a generator costs twice as much and this runs all the time."""

    __slots__ = ("_database", "_transaction", "_writes")

    def __init__(self, database: PostgresDatabase, *, writes: bool) -> None:
        self._database = database
        self._writes = writes
        self._transaction: PostgresTransaction | None = None

    async def __aenter__(self) -> Transaction:
        connection = await self._database.acquire()
        if self._writes:
            try:
                await connection.execute("BEGIN")
            except BaseException as error:
                await PostgresTransaction(connection).rollback()  # cancelled: it may have begun nevertheless
                await self._database.release(connection)
                if isinstance(error, _DRIVER):
                    raise translate(error) from error
                raise
            self._transaction = PostgresTransaction(connection)
        else:
            self._transaction = PostgresReads(connection)
        return self._transaction

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transaction, self._transaction = self._transaction, None
        assert transaction is not None
        whole = False
        try:
            if error is None:
                try:
                    await transaction.commit()
                    whole = True
                except BaseException:
                    await transaction.rollback()
                    raise
            else:
                await transaction.rollback()
        finally:
            await self._database.release(transaction._connection, whole=whole)


class PostgresReads(PostgresTransaction):
    """Reads on one connection, each a transaction of its own: at READ COMMITTED that shows the same."""

    __slots__ = ()

    async def _execute(self, text: str, args: Sequence[Any]) -> int:
        raise Internal("what was declared to read only writes")

    async def executemany(self, statement: Sql, rows: Iterable[Sequence[Any]]) -> None:
        raise Internal("what was declared to read only writes")

    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        raise Internal("what was declared to read only writes")

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        yield
        raise Internal("what was declared to read only writes")

    async def commit(self) -> None:
        self._committed()

    async def rollback(self) -> None:
        """Nothing to undo; whoever gets the connection next finds out whether it still works."""


class PostgresDatabase(Database):
    """A pool of asyncpg connections."""

    def __init__(
        self, pool: Any, *, acquire_timeout_s: float, size: int | None = None, rng: Rng | None = None
    ) -> None:
        super().__init__(rng)
        self._pool = pool
        self._hands = Hands(pool, size or pool.get_max_size(), acquire_timeout_s)

    @property
    def dialect(self) -> str:
        return "postgresql"

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return _Block(self, writes=True)

    def reading(self) -> AbstractAsyncContextManager[Transaction]:
        return _Block(self, writes=False)

    async def acquire(self) -> Any:
        """A connection of the pool. Raises `PoolTimeout` or `ConnectionLost`."""
        try:
            return await self._hands.take()
        except TimeoutError as error:
            raise PoolTimeout(retry_ms=1000) from error
        except _DRIVER as error:
            translated = translate(error)
            raise (translated if isinstance(translated, ConnectionLost) else ConnectionLost()) from error

    async def release(self, connection: Any, *, whole: bool = False) -> None:
        """Give it back; a broken one is thrown away. `whole`: its last statement ended as it should."""
        if whole:
            self._hands.give(connection)
            return
        try:
            await self._hands.give_broken(connection)
        except _DRIVER as error:
            log.info("db.connection_dropped", reason=type(error).__name__)

    async def _direct(self, method: str, *args: Any, writes: bool = False) -> Any:
        connection, whole = await self.acquire(), False
        try:
            result = await getattr(connection, method)(*args)
            whole = True
            return result
        except _DRIVER as error:
            raise translate(error, unknown=writes) from error
        finally:
            await self.release(connection, whole=whole)

    async def _fetch(self, text: str, args: Sequence[Any]) -> list[Record]:
        return cast("list[Record]", await self._direct("fetch", text, *args))

    async def fetchrow(self, statement: Sql, *args: Any) -> Record | None:
        return cast("Record | None", await self._direct("fetchrow", statement.text, *args))

    async def fetchval(self, statement: Sql, *args: Any) -> Any:
        return await self._direct("fetchval", statement.text, *args)

    async def _execute(self, text: str, args: Sequence[Any]) -> int:
        return concerned(await self._direct("execute", text, *args, writes=True))

    async def executemany(self, statement: Sql, rows: Iterable[Sequence[Any]]) -> None:
        await self._direct("executemany", statement.text, rows, writes=True)

    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        connection, whole = await self.acquire(), False
        try:
            await _insert_many(connection, table, columns, rows)
            whole = True
        except _DRIVER as error:
            raise translate(error, unknown=True) from error
        finally:
            await self.release(connection, whole=whole)

    async def close(self) -> None:
        with suppress(*_DRIVER):
            await self._hands.close()
        try:
            await asyncio.wait_for(self._pool.close(), CLOSE_S)
        except (TimeoutError, *_DRIVER):
            self._pool.terminate()


def concerned(status: str) -> int:
    """The number of rows in a command's status: ``UPDATE 3``, ``INSERT 0 1``; 0 where there is none."""
    number = status.rpartition(" ")[2]
    return int(number) if number.isdigit() else 0


_inserts: dict[tuple[str, tuple[str, ...]], str] = {}


async def _insert_many(
    connection: Any, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    if len(rows) >= COPY_FROM:
        await connection.copy_records_to_table(table, records=rows, columns=columns)
    elif rows:
        key = (table, tuple(columns))
        text = _inserts.get(key)
        if text is None:
            marks = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
            text = _inserts[key] = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        await connection.executemany(text, rows)


async def _no_reset(connection: Any) -> None:
    """Nothing to undo between two users of a connection: no statement of ours changes the session."""


async def _guard(connection: Any) -> None:
    """Run on every new connection, because a fail-over may lead to another server."""
    fsync, full_page_writes, synchronous_commit = await connection.fetchrow(_GUARD)
    off = [
        name
        for name, value in (
            ("fsync", fsync),
            ("full_page_writes", full_page_writes),
            ("synchronous_commit", synchronous_commit),
        )
        if value == "off"
    ]
    if off:
        raise NotDurable(f"the database runs with {', '.join(off)} off and may lose acknowledged writes")


async def connect_postgres(
    url: str,
    *,
    min_size: int,
    max_size: int,
    acquire_timeout_s: float,
    statement_timeout_s: float,
    lock_timeout_s: float,
    rng: Rng | None,
) -> PostgresDatabase:
    """See `core.db.connect`."""
    pool = asyncpg.create_pool(
        url,
        min_size=min_size,
        max_size=max_size,
        max_queries=2**31,  # a connection is good until it breaks
        max_inactive_connection_lifetime=300.0,
        statement_cache_size=STATEMENT_CACHE,
        max_cached_statement_lifetime=0,
        command_timeout=statement_timeout_s
        + 5.0,  # the server's own limit speaks first, unless the network is gone
        timeout=10.0,
        init=_guard,
        reset=_no_reset,
        server_settings={
            "application_name": "bankhub",
            "timezone": "UTC",
            "jit": "off",  # our statements are short; compiling them costs more than running them
            "statement_timeout": str(int(statement_timeout_s * 1000)),
            "lock_timeout": str(int(lock_timeout_s * 1000)),
            "idle_in_transaction_session_timeout": str(int((statement_timeout_s + 30.0) * 1000)),
        },
    )
    try:
        await pool
    except _DRIVER as error:
        raise translate(error) from error
    return PostgresDatabase(pool, acquire_timeout_s=acquire_timeout_s, rng=rng)
