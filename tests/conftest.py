"""Engines for tests: real ones, one set for each pytest-xdist worker, with syncing to disk left on.

async def test_x(database: str) -> None:      a migrated database of this module's own
async def test_y(empty_database: str) -> None:  one without any table
async def test_z(redis_url: str) -> None:     the Valkey of this worker, emptied
engines                                       all of it, also to kill and restart (put it right again!)
"""

from __future__ import annotations

import asyncio
import importlib
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from core.embedded import EmbeddedEngines
from core.s3 import S3
from tests.security.matrix import pytest_addoption, pytest_configure, pytest_itemcollected

__all__ = ["pytest_addoption", "pytest_configure", "pytest_itemcollected"]

T = TypeVar("T")
_TEMPLATE = "template_bankhub"


@pytest.fixture(scope="session")
def open_directory() -> Iterator[Path]:
    """A new directory that other users can pass through, which pytest's own are not: root's PostgreSQL is nobody's."""
    path = Path(tempfile.gettempdir()) / f"bankhub-test-{secrets.token_hex(6)}"
    path.mkdir(mode=0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def engines(open_directory: Path) -> Iterator[EmbeddedEngines]:
    """PostgreSQL and Valkey of this xdist worker."""
    engines = EmbeddedEngines(open_directory / "var", {"postgres", "valkey"}, sync=False)
    engines.start_blocking()
    try:
        yield engines
    finally:
        engines.stop_blocking()


@pytest.fixture(scope="session")
def object_store(open_directory: Path) -> Iterator[S3]:
    """SeaweedFS of this xdist worker."""
    engines = EmbeddedEngines(open_directory / "store", {"s3"})
    engines.start_blocking()
    try:
        yield engines.s3
    finally:
        engines.stop_blocking()


@pytest.fixture(scope="session")
def template(engines: EmbeddedEngines) -> str:
    """The name of a migrated database that others are cloned from: migrations run once a worker."""
    url = run(create_database(engines, _TEMPLATE))
    migrate: Callable[[str], Awaitable[None] | None] = importlib.import_module("core.db").migrate
    done = migrate(url)
    if done is not None:
        run(_await(done))
    return _TEMPLATE


@pytest.fixture(scope="module")
def database(engines: EmbeddedEngines, template: str) -> Iterator[str]:
    """The address of a fresh database with all tables, of this module alone."""
    yield from _database(engines, template)


@pytest.fixture(scope="module")
def empty_database(engines: EmbeddedEngines) -> Iterator[str]:
    """The address of a fresh database without tables, of this module alone."""
    yield from _database(engines, None)


@pytest.fixture
def redis_url(engines: EmbeddedEngines) -> str:
    """The address of this worker's Valkey, emptied."""
    run(_flush(engines.redis_url))
    return engines.redis_url


def _database(engines: EmbeddedEngines, template: str | None) -> Iterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    yield run(create_database(engines, name, template))
    run(_drop(engines.admin_url, name))


async def create_database(engines: EmbeddedEngines, name: str, template: str | None = None) -> str:
    """Make a database that the application owns, as a copy of `template` if given; its address."""
    connection = await asyncpg.connect(engines.admin_url, ssl=False)
    try:
        like = f"TEMPLATE {template}" if template else ""
        await connection.execute(f"CREATE DATABASE {name} OWNER bankhub {like}")
    finally:
        await connection.close()
    return engines.database_url.rpartition("/")[0] + "/" + name


async def _drop(admin_url: str, name: str) -> None:
    connection = await asyncpg.connect(admin_url, ssl=False)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()


async def _flush(url: str) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(url) as redis:
        await redis.flushall()


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a loop of its own, from where no loop runs."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()
