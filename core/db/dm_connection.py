"""One connection of DM8's driver, made asynchronous: a thread for each, parameters, rows and errors translated.

See `core.db.dm` for what is known of DM8 here and what is not.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

from core.db.errors import (
    CommitUnknown,
    ConnectionLost,
    Contention,
    DatabaseError,
    IntegrityViolation,
    StatementTimeout,
    UniqueViolation,
)
from core.db.interface import Record
from core.errors import BankhubError

T = TypeVar("T")

# the driver's own table of errors
UNIQUE: Final = frozenset({-6602, -6608, -6610, -6611, -6612})
INTEGRITY: Final = frozenset({-6601, -6603, -6604, -6605, -6606, -6607, -6609})
CONTENTION: Final = frozenset({-6402, -6403, -6405, -6407, -6509, -7066, -7120})
LOST: Final = frozenset({-6001, -6002, -6007, -6010, -6029, -70019, -70028})
TIMEOUT: Final = frozenset({-7049})

_PARAMETER: Final = re.compile(r"\$(\d+)")


@lru_cache(maxsize=4096)
def rendered(text: str) -> tuple[str, tuple[int, ...], int]:
    """A statement with ``?``; which argument each of them is; how many arguments there are."""
    places = tuple(int(n) - 1 for n in _PARAMETER.findall(text))
    return _PARAMETER.sub("?", text), places, max(places, default=-1) + 1


def bound(text: str, args: Sequence[Any]) -> tuple[str, list[Any]]:
    """A statement and its arguments as the driver takes them.

    Raises `DatabaseError` for a wrong number: the driver itself fills up with NULL and ignores what is too much.
    """
    statement, places, count = rendered(text)
    if len(args) != count:
        raise DatabaseError(f"the statement has {count} parameters, {len(args)} were given")
    return statement, [_given(args[place]) for place in places]


def _given(value: Any) -> Any:
    if isinstance(value, datetime):
        # a literal of TIMESTAMP WITH TIME ZONE as the manual writes it; whether the driver keeps a tzinfo is not known
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f +00:00")
    return value


def _taken(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    return value


class Row(tuple[Any, ...]):
    """A row; subclasses know the names of its columns."""

    __slots__ = ()
    _places: dict[str, int] = {}  # noqa: RUF012 - of the subclass

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self._places[key] if isinstance(key, str) else key)

    def keys(self) -> Iterable[str]:
        return self._places.keys()

    def values(self) -> Iterable[Any]:
        return tuple(self)

    def items(self) -> Iterator[tuple[str, Any]]:
        return zip(self._places, self, strict=True)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self._places else default


@lru_cache(maxsize=4096)
def _row_type(names: tuple[str, ...]) -> type[Row]:
    places = {name.lower(): place for place, name in enumerate(names)}
    return type("Row", (Row,), {"__slots__": (), "_places": places})


def code_of(error: BaseException) -> int | None:
    """The number of a driver's error: its only argument is an object with a `code`, not a text."""
    code = getattr(error.args[0], "code", None) if error.args else None
    return code if isinstance(code, int) else None


def translate(error: BaseException, *, unknown: bool = False) -> BankhubError:
    """Our error for one of the driver's, by its number: its classes do not say (a refused port is a DatabaseError)."""
    code = code_of(error)
    text = str(code or "")
    if code in UNIQUE:
        return UniqueViolation(code=text)
    if code in INTEGRITY:
        return IntegrityViolation(code=text)
    if code in CONTENTION:
        return Contention(retry_ms=50)
    if code in TIMEOUT:
        return StatementTimeout()
    if code in LOST:
        return CommitUnknown() if unknown else ConnectionLost(retry_ms=500)
    return DatabaseError(code=text)


class Connection:
    """One of the driver's connections and the one thread that may touch it."""

    def __init__(self, driver: Any, options: dict[str, Any]) -> None:
        self._driver, self._options = driver, options
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dm8")
        self._session: Any = None
        self.broken = False

    @property
    def is_open(self) -> bool:
        """Whether it has logged in."""
        return self._session is not None

    async def open(self) -> None:
        """Log in. Raises `ConnectionLost`."""

        def connect() -> None:
            self._session = self._driver.connect(**self._options)

        await self.call(connect)

    async def call(self, work: Callable[[], T], *, unknown: bool = False) -> T:
        """Run `work` in the thread. A caller that is cancelled leaves it running and the connection broken."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self.broken = True
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        except self._driver.Error as error:
            translated = translate(error, unknown=unknown)
            if isinstance(translated, ConnectionLost | CommitUnknown):
                self.broken = True
            raise translated from error

    async def query(self, text: str, args: Sequence[Any]) -> list[Record]:
        """All rows of a statement."""
        statement, values = bound(text, args)

        def work() -> list[Record]:
            cursor = self._session.cursor()
            try:
                cursor.execute(statement, values)
                kind = _row_type(tuple(column[0] for column in cursor.description))
                return [cast("Record", kind(map(_taken, row))) for row in cursor.fetchall()]
            finally:
                cursor.close()

        return await self.call(work)

    async def execute(self, text: str, args: Sequence[Any]) -> int:
        """The number of rows concerned."""
        statement, values = bound(text, args)

        def work() -> int:
            cursor = self._session.cursor()
            try:
                cursor.execute(statement, values)
                return max(0, int(cursor.rowcount))
            finally:
                cursor.close()

        return await self.call(work)

    async def execute_many(self, text: str, rows: Iterable[Sequence[Any]]) -> None:
        """One statement with an array of arguments."""
        given = [bound(text, row)[1] for row in rows]
        if not given:
            return

        def work() -> None:
            cursor = self._session.cursor()
            try:
                cursor.executemany(rendered(text)[0], given)
            finally:
                cursor.close()

        await self.call(work)

    async def commit(self) -> None:
        """Raises `CommitUnknown` when the connection broke on the way."""
        await self.call(lambda: self._session.commit(), unknown=True)

    async def rollback(self) -> None:
        """Leave the connection without a transaction, or broken."""
        if self.broken:
            return
        try:
            await self.call(lambda: self._session.rollback())
        except BankhubError:
            self.broken = True

    def close(self) -> None:
        """Close it when its thread has nothing to do any more; does not wait."""

        def work() -> None:
            if self._session is not None:
                with suppress(self._driver.Error):
                    self._session.close()

        self._thread.submit(work)
        self._thread.shutdown(wait=False)
