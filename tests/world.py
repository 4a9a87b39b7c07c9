"""A process of bankhub inside a test: real database, real services, a clock of the test's own if it wants one."""

from __future__ import annotations

import atexit
import functools
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from core.access import TokenGrants
from core.actions import Principal
from core.bus import MemoryBus, MemoryNetwork
from core.calls import Calls
from core.clock import Clock, SystemClock
from core.crypto.keyring import Keyring
from core.db import Database, connect
from core.ids import Ids
from core.rng import SystemRng
from core.runtime import Runtime
from core.service import Host, Service
from core.settings import Settings, load
from gateway.access.grantor import MemberGrants

_workers = iter(range(1 << 30))


@functools.cache
def ring_file() -> Path:
    """The keys of all tests of this process: tests share databases, so also what these are encrypted with."""
    place = tempfile.TemporaryDirectory()
    atexit.register(place.cleanup)
    return Keyring(Path(place.name) / "ring.json", SystemClock()).path


def settings_for(database: str, var_dir: Path, **changes: Any) -> Settings:
    """Settings with cheap passwords and ports of the system's choice."""
    given: dict[str, Any] = {
        "database_url": database,
        "var_dir": var_dir,
        "gateway_port": 0,
        "hub_port": 0,
        "password_memory_kib": 1024,
        "password_time_cost": 1,
        "cluster_secret": "the same in every process of a test, and nowhere else",
        "database_pool_max": 10,
        "keys_file": ring_file(),
        "s3_endpoint_url": "http://127.0.0.1:9",  # nobody is there; tests of files say where
        "s3_access_key": "nobody",
        "s3_secret_key": "nothing",
        "possession_roles": (),  # most clients of tests have no keys
    }
    return load({}, **(given | changes))


@asynccontextmanager
async def process(
    settings: Settings,
    services: Sequence[Service] | Callable[[Clock, Database], Sequence[Service]],
    *,
    clock: Clock | None = None,
    network: MemoryNetwork | None = None,
) -> AsyncIterator[Runtime]:
    """A started process with these services; stopped and closed at the end.

    With the gateway among them people have what its tables say, otherwise what their principals say.
    """
    assert settings.database_url is not None
    clock, rng = clock or SystemClock(), SystemRng()
    db = await connect(
        settings.database_url.get_secret_value(), min_size=1, max_size=settings.database_pool_max, rng=rng
    )
    bus = MemoryBus(network or MemoryNetwork())
    await bus.start()
    made = list(services(clock, db) if callable(services) else services)
    access = MemberGrants(db, clock)
    await access.follow(bus)
    runtime = Runtime(
        settings=settings,
        clock=clock,
        rng=rng,
        ids=Ids(clock, next(_workers) % 1024),
        db=db,
        bus=bus,
        node=f"test-{secrets.token_hex(4)}",
        calls=Calls(),
        access=access if any(one.name == "gateway" for one in made) else TokenGrants(),
    )
    host = Host(runtime, made)
    try:
        await host.start()
        yield runtime
    finally:
        await host.stop()
        await bus.stop()
        await db.close()


def somebody(
    *roles: str, person_id: int = 11, enterprise_id: int = 1, session_id: int = 111, device: str = "phone"
) -> Principal:
    """A person with these roles."""
    return Principal(person_id, enterprise_id, frozenset(roles or {"employee"}), session_id, device, 1 << 50)
