"""The composition root: which service there is, what each is given, and how a process lives."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from core.access import permissions_of
from core.actions import Action
from core.clock import Clock, SystemClock
from core.crypto.columns import Columns
from core.crypto.keyring import Keyring, open_keyring
from core.errors import Invalid
from core.logs import configure_logs
from core.rng import SystemRng
from core.runtime import Runtime
from core.service import Host, Service
from core.settings import Settings
from core.telemetry import export_spans
from core.tokens import AccessTokens
from house.demo import write_demo
from house.workers import announce_ready

if TYPE_CHECKING:
    from core.db import Database
    from files.storage.bucket import Bucket

log = structlog.get_logger(__name__)

VERSION = "0.1.0"
SERVICES = ("files", "hub", "im", "gateway")  # in the order they start; they stop in the reverse one


def services(
    settings: Settings,
    clock: Clock,
    db: Database,
    names: Collection[str],
    *,
    listen: bool = True,
    keys: Keyring | None = None,
) -> list[Service]:
    """The services of these names, wired to each other. `listen=False`: without their doors."""
    tokens = AccessTokens(settings, clock, private="gateway" in names, keys=keys)

    bucket = bucket_of(settings, clock) if "files" in names or settings.s3_endpoint_url else None

    def files() -> list[Service]:
        from files.service import FilesService

        assert bucket is not None
        return [FilesService(bucket)]

    def hub() -> list[Service]:
        from core.dpop import Window
        from files.library.carrying import CarriedFiles
        from gateway.admission import HubGate
        from hub.service import HubService
        from im.messages.rules import Policy

        gate = HubGate(tokens, db, clock, Window.of(settings))
        return [HubService(gate, Policy(), files=CarriedFiles(), listen=listen)]

    def im() -> list[Service]:
        from files.library.carrying import CarriedFiles
        from gateway.people import ActivePeople
        from im.service import ImService

        return [ImService(ActivePeople(), CarriedFiles())]

    def gateway() -> list[Service]:
        from files.doors.doors import FileDoors
        from gateway.service import GatewayService

        doors = [] if bucket is None else [FileDoors(bucket, settings.files_public_url)]
        everything = {action.name: action for action in actions()}
        table = permissions_of(action.needs for action in everything.values())
        edge = GatewayService(
            tokens, permissions=table, actions=everything, listen=listen, doors=[one.door for one in doors]
        )
        return [*doors, edge]

    make = {"files": files, "hub": hub, "im": im, "gateway": gateway}
    return [one for name in SERVICES if name in names for one in make[name]()]


def bucket_of(settings: Settings, clock: Clock) -> Bucket:
    """Where objects are kept. Raises `Invalid` where settings do not say."""
    from core.s3 import s3_of
    from files.storage.bucket import Bucket

    return Bucket(s3_of(settings), clock, connections=settings.files_store_connections)


def roles_of(settings: Settings) -> tuple[str, ...]:
    """The services of this process. Raises `Invalid` for one that is not there."""
    unknown = sorted(set(settings.roles) - set(SERVICES))
    if unknown:
        raise Invalid(f"there is no service {', '.join(unknown)}; there are {', '.join(SERVICES)}")
    return tuple(name for name in SERVICES if not settings.roles or name in settings.roles)


@asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncIterator[Runtime]:
    """What every service stands on: database, bus, ids under a lease, calls. Closed in reverse."""
    from core.bus import RedisBus
    from core.calls import Calls
    from core.ids import WorkerLease
    from core.keys import cluster_secret, derive
    from core.limits_store import RedisBuckets
    from gateway.access.grantor import MemberGrants

    clock, rng = SystemClock(), SystemRng()
    async with AsyncExitStack() as stack:
        db = await open_database(settings)
        stack.push_async_callback(db.close)
        lease = await WorkerLease.acquire(db, clock, rng=rng)
        lease.start()
        stack.push_async_callback(lease.release)
        node = f"{lease.worker}-{rng.token()[:8]}"
        configure_logs(settings.log_level, node=node)
        assert settings.redis_url is not None
        bus = RedisBus(settings.redis_url.get_secret_value(), rng=rng)
        await bus.start()
        stack.push_async_callback(bus.stop)
        calls = Calls()
        stack.push_async_callback(calls.close)
        if settings.otlp_url is not None:
            stack.callback(export_spans(settings.otlp_url, "bankhub", node))
        access = MemberGrants(db, clock)
        await access.follow(bus)
        runtime = Runtime(settings, clock, rng, lease.ids, db, bus, node, calls, access)
        if settings.rate_shared:
            buckets = RedisBuckets(
                settings.redis_url.get_secret_value(),
                derive(cluster_secret(settings), "rate limits"),
                cluster=settings.redis_cluster,
            )
            stack.push_async_callback(buckets.close)
            runtime.limits.share(buckets)
        yield runtime


async def open_database(settings: Settings) -> Database:
    """The database that settings name. Raises `Invalid` when they name none."""
    from core.db import connect

    if settings.database_url is None:
        raise Invalid("BANKHUB_DATABASE_URL is not set; `bankhub up` brings a database of its own")
    return await connect(
        settings.database_url.get_secret_value(),
        min_size=settings.database_pool_min,
        max_size=settings.database_pool_max,
        statement_timeout_s=settings.database_statement_timeout_s,
    )


async def serve(settings: Settings) -> None:
    """One process with its services, until SIGTERM or SIGINT; then it drains."""
    from core.audit.recording import Recording
    from core.background import Background

    configure_logs(settings.log_level)
    names = roles_of(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    raise_file_limit()
    if settings.redis_url is None:
        raise Invalid("BANKHUB_REDIS_URL is not set; `bankhub up` brings a Valkey of its own")
    async with open_runtime(settings) as runtime:
        host = Host(runtime, services(settings, runtime.clock, runtime.db, names, keys=runtime.keys))
        async with AsyncExitStack() as stack:
            recording = Recording(runtime)
            stack.push_async_callback(recording.stop)
            await recording.start()
            stack.push_async_callback(host.stop)
            await host.start()
            background = Background(runtime, host.services.values())
            stack.push_async_callback(background.stop)
            await background.start()
            settle_memory()
            log.info("process.ready", services=list(names))
            announce_ready()
            await stop.wait()
            log.info("process.draining", drain_s=settings.drain_s)
    log.info("process.stopped")


def settle_memory() -> None:
    """What was imported and wired up lives for ever: keep it out of every later collection, and collect seldom.

    Frames and requests come and go without cycles; a full collection of 10,000 sessions takes 0.1 s.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def raise_file_limit() -> None:
    """Every client is an open file, and the usual soft limit is for programs with few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def migrate(settings: Settings) -> list[str]:
    """Bring the tables up to date; the revisions that were missing."""
    from core.db import migrate as run_migrations

    assert settings.database_url is not None
    return await run_migrations(settings.database_url.get_secret_value(), columns_of(settings))


def columns_of(settings: Settings) -> Columns:
    """What opens encrypted columns, for verbs without a whole process."""
    return Columns(open_keyring(settings, SystemClock()), SystemRng())


async def seed(settings: Settings) -> None:
    """Load the demonstration and note its logins (mode 0600) for `up` and `chat`; the note says that it is loaded."""
    from gateway.demo import seed as load_people
    from gateway.oauth.demo import seed_app as load_app
    from gateway.people import ActivePeople
    from im.demo import seed as load_conversations
    from im.service import ImService

    configure_logs(settings.log_level)
    async with open_runtime(settings) as runtime:
        host = Host(runtime, [ImService(ActivePeople())])
        await host.start()
        try:
            people = await load_people(runtime)
            await load_conversations(runtime, people)
            client_id = await load_app(runtime, people)
        finally:
            await host.stop()
    assert settings.database_url is not None
    write_demo(settings.var_dir, settings.database_url.get_secret_value(), people, client_id)
    announce_ready()


def actions() -> list[Action[Any, Any]]:
    """Every action there is, by name, without starting anything."""
    from files.service import FilesService
    from gateway.service import GatewayService
    from hub.service import HubService
    from im.service import ImService

    found = [
        action
        for service in (FilesService, GatewayService, HubService, ImService)
        for action in service.actions
    ]
    return sorted(found, key=lambda action: action.name)


def openapi() -> dict[str, Any]:
    """The OpenAPI document of what callers from outside may see."""
    from core.actions import INTERNAL
    from gateway.openapi import document
    from gateway.paths import OTHERS

    return document(
        [action for action in actions() if action.needs is not INTERNAL], version=VERSION, others=OTHERS
    )


def bench(words: Sequence[str]) -> int:
    """The benchmarks live beside the tests, and so does what they need."""
    from tests.bench.__main__ import main

    return int(main(list(words)) or 0)
