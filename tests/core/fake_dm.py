"""A double of dmPython that runs on PostgreSQL. **It is not DM8**: it shows what core.db.dm does with such a driver.

It has the driver's documented habits: one thread per connection, autoCommit on by default, missing parameters become
NULL and surplus ones are ignored, column names in upper case, errors whose argument is an object with a number, and a
statement that fails is undone alone. tests/core/test_dm.py holds its names against the real driver's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

import asyncpg

PG_UTF8 = 1
LANGUAGE_EN = 1
apilevel = "2.0"
threadsafety = 1
paramstyle = "qmark"

KNOWN = frozenset(
    "user password dsn host server port access_mode autoCommit connection_timeout login_timeout txn_isolation app_name "
    "compress_msg use_stmt_pool ssl_path ssl_pwd mpp_login rwseparate rwseparate_percent cursor_rollback_behavior "
    "lang_id local_code cursorclass schema shake_crypto".split()
)

CODES = {
    "23505": -6602, "23502": -6609, "23514": -6603, "23503": -6606, "40P01": -6403, "40001": -7066, "55P03": -6407,
    "57014": -7049, "57P01": -6010, "57P02": -6010,
}  # fmt: skip


class Error(Exception): ...


class DatabaseError(Error): ...


@dataclass
class DmError:
    code: int
    message: str
    context: str = ""
    offset: int = 0


def _error(error: BaseException) -> DatabaseError:
    state = getattr(error, "sqlstate", None)
    lost = isinstance(error, OSError | asyncpg.PostgresConnectionError | asyncpg.InternalClientError)
    lost = lost or (isinstance(error, asyncpg.InterfaceError) and "clos" in str(error))
    code = (
        -70028
        if isinstance(error, ConnectionRefusedError)
        else -6010
        if lost
        else CODES.get(state or "", -2111)
    )
    return DatabaseError(DmError(code, "the text of an error may quote values"))


_CAUGHT = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class Connection:
    def __init__(self, **options: Any) -> None:
        unknown = set(options) - KNOWN
        if unknown:
            raise TypeError(f"{sorted(unknown)} is an invalid keyword argument")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.get_ident()
        self._auto = bool(options.get("autoCommit", True))
        self._open = False
        self._names = count()
        try:
            self._real = self.run(
                asyncpg.connect(
                    host=options["server"], port=options["port"], user=options["user"],
                    password=options["password"], database=options["schema"], ssl=False,
                    server_settings={"statement_timeout": str((options["connection_timeout"] - 5) * 1000 or 100)},
                )
            )  # fmt: skip
        except _CAUGHT as error:
            self._loop.close()
            raise _error(error) from error

    def run(self, work: Any) -> Any:
        assert threading.get_ident() == self._thread, "a connection belongs to one thread"
        return self._loop.run_until_complete(work)

    def cursor(self) -> Cursor:
        return Cursor(self)

    def begin(self) -> None:
        if not self._auto and not self._open:
            self.run(self._real.execute("BEGIN"))
            self._open = True

    def commit(self) -> None:
        self._end("COMMIT")

    def rollback(self) -> None:
        self._end("ROLLBACK")

    def _end(self, how: str) -> None:
        if self._open:
            self._open = False
            try:
                self.run(self._real.execute(how))
            except _CAUGHT as error:
                raise _error(error) from error

    def close(self) -> None:
        self._real.terminate()
        self.run(asyncio.sleep(0))
        self._loop.close()


class Cursor:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.description: list[tuple[Any, ...]] = []
        self.rowcount = -1
        self._rows: list[Any] = []

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        self._guarded(statement, [parameters])

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        self._guarded(statement, rows)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._rows]

    def close(self) -> None: ...

    def _guarded(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        connection = self._connection
        try:
            connection.begin()
            if statement.startswith(("SAVEPOINT", "ROLLBACK TO")):
                connection.run(connection._real.execute(statement))
                return
            name = f"one{next(connection._names)}"
            connection.run(connection._real.execute(f"SAVEPOINT {name}"))
            try:
                for row in rows:
                    connection.run(self._one(statement, list(row)))
            except _CAUGHT:
                if not connection._real.is_closed():
                    connection.run(connection._real.execute(f"ROLLBACK TO SAVEPOINT {name}"))
                raise
            connection.run(connection._real.execute(f"RELEASE SAVEPOINT {name}"))
        except _CAUGHT as error:
            raise _error(error) from error

    async def _one(self, statement: str, given: list[Any]) -> None:
        parts = statement.split("?")
        text = "".join(part + (f"${n}" if n < len(parts) else "") for n, part in enumerate(parts, 1))
        prepared = await self._connection._real.prepare(text)
        types = [parameter.name for parameter in prepared.get_parameters()]
        given = (given + [None] * len(types))[: len(types)]
        values = [
            datetime.fromisoformat(v.replace(" +", "+")) if t == "timestamptz" and isinstance(v, str) else v
            for t, v in zip(types, given, strict=True)
        ]
        self._rows = await prepared.fetch(*values)
        self.description = [
            (a.name.upper(), None, None, None, None, None, True) for a in prepared.get_attributes()
        ]
        number = prepared.get_statusmsg().rpartition(" ")[2]
        self.rowcount = int(number) if number.isdigit() else -1


def connect(**options: Any) -> Connection:
    return Connection(**options)
