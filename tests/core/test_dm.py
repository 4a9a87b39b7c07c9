"""The wrapper around DM8's driver: its own translation, and the driver's real behaviour where no server is needed.

tests/core/test_db.py runs the promises of `core.db` over it too, on a double of the driver. **None of it ran on DM8.**
"""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from core.db import ConnectionLost, Contention, DatabaseError, StatementTimeout, UniqueViolation, connect
from core.db.dm import LOGIN_TIMEOUT_MS, connect_dm, options_of
from core.db.dm_connection import bound, code_of, rendered, translate
from core.errors import Invalid

from . import fake_dm


def test_parameters_are_put_in_the_order_of_their_places() -> None:
    assert rendered("UPDATE t SET a = $2, b = $2 WHERE c = $1") == (
        "UPDATE t SET a = ?, b = ? WHERE c = ?",
        (1, 1, 0),
        2,
    )
    assert bound("SELECT a FROM t WHERE b = $2 AND c = $1", (1, 2)) == (
        "SELECT a FROM t WHERE b = ? AND c = ?",
        [2, 1],
    )


@pytest.mark.parametrize("args", [(), (1,), (1, 2, 3)])
def test_a_wrong_number_of_arguments_never_reaches_the_driver(args: tuple[int, ...]) -> None:
    """It would make NULLs of what is missing and ignore what is too much."""
    with pytest.raises(DatabaseError, match="2 parameters"):
        bound("SELECT a FROM t WHERE b = $1 AND c = $2", args)


def test_moments_are_given_as_literals_with_their_zone() -> None:
    there = datetime(2026, 1, 1, 8, 0, 0, 5, tzinfo=timezone(timedelta(hours=8)))
    assert bound("SELECT $1", (there,))[1] == ["2026-01-01 00:00:00.000005 +00:00"]


@pytest.mark.parametrize(
    ("code", "ours"),
    [
        (-6602, UniqueViolation),
        (-6403, Contention),
        (-7066, Contention),
        (-7049, StatementTimeout),
        (-6010, ConnectionLost),
        (-70028, ConnectionLost),
        (-2007, DatabaseError),
    ],
)
def test_errors_are_told_by_their_numbers(code: int, ours: type[Exception]) -> None:
    error = translate(fake_dm.DatabaseError(fake_dm.DmError(code, "quotes values")))
    assert type(error) is ours
    assert "quotes" not in str(error)


def test_what_the_driver_is_told() -> None:
    options = options_of("dm://SYSDBA:p%40ss@db.bank:5237/HUB", fake_dm, 30.0)
    assert options["password"] == "p@ss"
    assert (options["server"], options["port"], options["schema"]) == ("db.bank", 5237, "HUB")
    assert options["autoCommit"] is False
    assert set(options) <= fake_dm.KNOWN
    for wrong in ("dm://db.bank/HUB", "postgresql://a:b@c/d"):
        with pytest.raises(Invalid):
            options_of(wrong, fake_dm, 30.0)


# --- the real driver, without a server ------------------------------------------------------------------------------


@pytest.fixture
def driver() -> Any:
    return pytest.importorskip("dmPython", reason="dmPython is not installed (extra dm)")


def test_the_double_has_no_names_that_the_driver_lacks(driver: Any) -> None:
    for name in ("connect", "Error", "DatabaseError", "PG_UTF8", "LANGUAGE_EN"):
        assert hasattr(driver, name)
    assert (driver.apilevel, driver.threadsafety, driver.paramstyle) == ("2.0", 1, "qmark")
    assert issubclass(driver.DatabaseError, driver.Error)
    for name in ("execute", "executemany", "fetchall", "close", "description", "rowcount"):
        assert hasattr(driver.Cursor, name)
    for name in ("cursor", "commit", "rollback", "close"):
        assert hasattr(driver.Connection, name)


def test_the_driver_takes_every_option_and_no_other(driver: Any) -> None:
    options = options_of("dm://a:b@127.0.0.1:1/x", driver, 1.0)
    with pytest.raises(driver.Error):
        driver.connect(**options)
    with pytest.raises(TypeError):
        driver.connect(**options, no_such_option=1)


async def test_a_refused_port_is_a_lost_connection_and_blocks_nobody(driver: Any) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    with pytest.raises(ConnectionLost) as caught:
        await connect("dm://a:b@127.0.0.1:1/x", min_size=1, max_size=1)
    ticking.cancel()
    assert caught.value.__cause__ is not None
    assert code_of(caught.value.__cause__) == -70028
    assert ticks > 20  # it took about a second, in a thread of its own


async def test_a_silent_server_is_given_up(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.db.dm.LOGIN_TIMEOUT_MS", 500)
    assert LOGIN_TIMEOUT_MS >= 1000, "milliseconds, whatever the manual says"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(ConnectionLost):
            await connect(f"dm://a:b@127.0.0.1:{silent.getsockname()[1]}/x", min_size=1, max_size=1)
    assert time.monotonic() - started < 10


async def test_without_the_driver_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dmPython", None)
    with pytest.raises(Invalid, match="dmPython"):
        await connect_dm(
            "dm://a:b@127.0.0.1/x",
            min_size=1,
            max_size=1,
            acquire_timeout_s=1,
            statement_timeout_s=1,
            rng=None,
        )
