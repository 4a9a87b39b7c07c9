"""What a database is to the product, whichever engine is behind it. asyncpg gave the methods their shape."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import structlog

from core.db.errors import RETRIED
from core.db.registry import IN_MAX, Sql, padded
from core.rng import Rng, SystemRng

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

ATTEMPTS: Final = 6  # of one transaction: with the pauses below about a second, then the caller is told
FIRST_PAUSE_S: Final = 0.02  # doubled each time, with jitter: contenders must not meet again in step


class Record(Protocol):
    """A row: a tuple whose values are also found by column name."""

    def __getitem__(self, key: int | str, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...
    def keys(self) -> Iterable[str]: ...
    def values(self) -> Iterable[Any]: ...
    def items(self) -> Iterable[tuple[str, Any]]: ...
    def get(self, key: str, default: Any = None, /) -> Any: ...


class Queries(ABC):
    """Running registered statements. All methods raise the errors of `core.db.errors`."""

    @abstractmethod
    async def _fetch(self, text: str, args: Sequence[Any]) -> list[Record]: ...

    @abstractmethod
    async def _execute(self, text: str, args: Sequence[Any]) -> int: ...

    @abstractmethod
    async def fetchrow(self, statement: Sql, *args: Any) -> Record | None:
        """The first row, or None."""

    @abstractmethod
    async def fetchval(self, statement: Sql, *args: Any) -> Any:
        """The first column of the first row, or None."""

    @abstractmethod
    async def executemany(self, statement: Sql, rows: Iterable[Sequence[Any]]) -> None:
        """Run the statement once for each row of arguments, all or none of them, in one round trip."""

    @abstractmethod
    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows the fastest way the engine has; all or none. Raises `UniqueViolation`."""

    async def fetch(self, statement: Sql, *args: Any) -> list[Record]:
        """All rows."""
        return await self._fetch(statement.text, args)

    async def execute(self, statement: Sql, *args: Any) -> int:
        """Run for effect; gives the number of rows concerned."""
        return await self._execute(statement.text, args)

    async def fetch_in(self, statement: Sql, values: Sequence[Any], *args: Any) -> list[Record]:
        """All rows of a statement with ``IN ($*)``; `args` are `$1`…, no values give no rows.

        The list is padded to a power of two with its last value (so few texts are prepared) and cut at `IN_MAX`:
        ORDER BY holds within each 512 values only, so sort `values` where the order of locking matters.
        """
        if not values:
            return []
        if len(values) <= IN_MAX:
            return await self._fetch(*_listed(statement, values, args))
        rows: list[Record] = []
        for start in range(0, len(values), IN_MAX):
            rows += await self._fetch(*_listed(statement, values[start : start + IN_MAX], args))
        return rows

    async def execute_in(self, statement: Sql, values: Sequence[Any], *args: Any) -> int:
        """The same for effect; gives the number of rows concerned."""
        concerned = 0
        for start in range(0, len(values), IN_MAX):
            concerned += await self._execute(*_listed(statement, values[start : start + IN_MAX], args))
        return concerned


def _listed(statement: Sql, values: Sequence[Any], args: tuple[Any, ...]) -> tuple[str, list[Any]]:
    size = padded(len(values))
    return statement.expanded(size), [*args, *values, *([values[-1]] * (size - len(values)))]


class Transaction(Queries):
    """An open transaction at READ COMMITTED. Not shared between tasks that run at the same time."""

    @abstractmethod
    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """A block that can fail alone: an exception that leaves it undoes only what the block did."""

    @abstractmethod
    def on_commit(self, hook: Callable[[], object]) -> None:
        """Call `hook` right after the commit; never when there is none. It must not fail and must not block."""


class Database(Queries):
    """A pool of connections. A statement run directly on it is a transaction of its own."""

    def __init__(self, rng: Rng | None = None) -> None:
        self._rng = rng if rng is not None else SystemRng()

    @property
    @abstractmethod
    def dialect(self) -> str:
        """`postgresql` or `dm`."""

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A block that is committed at its end and rolled back when an exception leaves it.

        Leaving the block raises `CommitUnknown` when the connection broke during the commit, and `ConnectionLost`
        when it broke before.
        """

    def reading(self) -> AbstractAsyncContextManager[Transaction]:
        """A block that only reads, on one connection: cheaper than a transaction where the engine has that."""
        return self.transaction()

    @abstractmethod
    async def close(self) -> None:
        """Wait for what runs, up to a few seconds, then close all connections."""

    async def run(
        self, step: Callable[Concatenate[Transaction, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run ``await step(tx, …)`` in a transaction, again when the engine says that nothing was written.

        `step` may run several times, so it changes nothing outside the database. Raises what `step` raises, the
        last `Contention` or `ConnectionLost` after `ATTEMPTS`, and `CommitUnknown` at once.
        """
        return await self._run(self.transaction, step, *args, **kwargs)

    async def read(
        self, step: Callable[Concatenate[Transaction, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """The same for what only reads: a write in it raises `Internal` where the engine can tell."""
        return await self._run(self.reading, step, *args, **kwargs)

    async def _run(
        self,
        block: Callable[[], AbstractAsyncContextManager[Transaction]],
        step: Callable[Concatenate[Transaction, P], Awaitable[R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        attempt = 1
        while True:
            try:
                async with block() as tx:
                    return await step(tx, *args, **kwargs)
            except RETRIED as error:
                if attempt == ATTEMPTS:
                    raise
                log.info("db.transaction_retried", attempt=attempt, reason=type(error).__name__)
            await asyncio.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1) * (0.5 + self._rng.random()))
            attempt += 1
