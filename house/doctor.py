"""`doctor`: what this place lacks, one line a finding, with what to do about it."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from core.clock import SystemClock
from core.crypto.keyring import open_keyring
from core.db import Database, DatabaseError, sql
from core.errors import BankhubError
from core.settings import Settings
from files.inspection.scanner import scanner_of
from house.engines import engines_of
from house.keys import overdue
from house.supervisor import PortTaken, read_note, reserve, wanted_engines
from house.words import counted

_NOW = sql("SELECT CURRENT_TIMESTAMP")
_FILES = 4096  # open files below which a thousand clients do not fit beside the database's connections
_DISK_BYTES = 2 << 30
_CLOCK_S = 1.0  # between this machine and the database; ids and times of messages come from both


@dataclass(frozen=True, slots=True)
class Finding:
    """`level`: ok, warn (works, but), bad (does not work)."""

    level: str
    what: str
    advice: str = ""


async def examine(settings: Settings) -> int:
    """Print every finding; 1 when something is bad."""
    bad = 0
    for finding in _place(settings):
        bad += _show(finding)
    async for finding in _engines(settings):
        bad += _show(finding)
    bad += _show(await _scanner(settings))
    print("all is well" if not bad else f"{bad} thing{'s' if bad > 1 else ''} must be put right")
    return 1 if bad else 0


def _show(finding: Finding) -> int:
    mark = {"ok": "  ok ", "warn": " warn", "bad": "  BAD"}[finding.level]
    print(f"{mark}  {finding.what}" + (f"\n       {finding.advice}" if finding.advice else ""))
    return 1 if finding.level == "bad" else 0


def _place(settings: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding("ok" if sys.version_info >= (3, 11) else "bad", f"Python {version} at {sys.executable}")
    kind, number = platform.libc_ver()
    new_enough = kind == "glibc" and tuple(map(int, number.split(".")[:2])) >= (2, 28)
    advice = (
        "" if new_enough else "the embedded engines need glibc 2.28 or newer; name external ones in settings"
    )
    yield Finding("ok" if new_enough else "warn", f"{kind or 'unknown C library'} {number}", advice)
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)  # the hub raises the soft limit to it
    level, advice = (
        ("ok", "") if files >= _FILES else ("warn", "every client is an open file; see ulimit -Hn")
    )
    yield Finding(level, f"{files} open files allowed", advice)
    var = settings.var_dir
    home = var if var.exists() else var.absolute().parent
    if not os.access(home, os.W_OK):
        yield Finding("bad", f"{home} cannot be written to", "name another directory in BANKHUB_VAR_DIR")
        return
    free = shutil.disk_usage(home).free
    level, advice = ("ok", "") if free >= _DISK_BYTES else ("warn", "PostgreSQL stops when the disk is full")
    yield Finding(level, f"{free / (1 << 30):.1f} GiB free for {var}", advice)
    yield from _secrets(var)
    yield from _keys(settings)
    note = read_note(var)
    if note is not None:
        yield Finding("ok", f"running: process {note['pid']}, {note['gateway_url']}, {note['hub_url']}")
        return
    for host, port, flag in (
        (settings.gateway_host, settings.gateway_port, "--gateway-port"),
        (settings.hub_host, settings.hub_port, "--hub-port"),
    ):
        try:
            reserve(host, port, flag).close()
            yield Finding("ok", f"port {port} on {host} is free")
        except PortTaken as error:
            yield Finding("bad", error.message)


async def _scanner(settings: Settings) -> Finding:
    """Whether files are scanned, by what, and how old its signatures are."""
    try:
        scanner = scanner_of(settings)
        if scanner is None:
            return Finding(
                "warn", "no malware scanner: files are not scanned", "name a clamd in BANKHUB_FILES_CLAMD"
            )
        return Finding("ok", f"files are scanned by {await scanner.version()}")
    except BankhubError as error:
        advice = "no file becomes visible meanwhile; is clamd running where BANKHUB_FILES_CLAMD says?"
        return Finding("bad", f"the malware scanner: {error.message}", advice)


def _secrets(var: Path) -> Iterator[Finding]:
    for path in (var / "secrets.json", *(var / "keys").glob("*")):
        if path.exists() and path.stat().st_mode & 0o077:
            yield Finding(
                "bad", f"{path} can be read by others", f"chmod 600 {path}; then change what is in it"
            )


def _keys(settings: Settings) -> Iterator[Finding]:
    """The self test, the ring of keys, and which of them should have turned."""
    if settings.keys_file is None and not (settings.var_dir / "keys" / "ring.json").exists():
        return  # `up` makes one
    try:
        ring = open_keyring(settings, SystemClock())
    except BankhubError as error:
        yield Finding("bad", f"the keys: {error.message}")
        return
    late = [record.key_id for record in overdue(ring)]
    due = min(record.rotation_due for record in ring.inventory() if record.rotation_due is not None)
    advice = f"{', '.join(late)} should have turned: `bankhub keys --rotate`" if late else ""
    yield Finding(
        "warn" if late else "ok",
        f"{counted(len(ring.inventory()), 'key')}, the next turns by {due:%Y-%m-%d}",
        advice,
    )


async def _engines(settings: Settings) -> AsyncIterator[Finding]:
    embedded = wanted_engines(settings)
    if read_note(settings.var_dir) is None and embedded:
        yield Finding("ok", f"{', '.join(sorted(embedded))} will be started by `up`")
    elif embedded:
        with engines_of(settings, embedded) as found:
            settings = found
    if settings.database_url is not None:
        async for finding in _database(settings):
            yield finding
    if settings.redis_url is not None:
        yield await _reachable("the bus", settings.redis_url.get_secret_value(), 6379)
    note = read_note(settings.var_dir)
    if settings.s3_endpoint_url is not None:
        yield await _store(settings)
    if note is not None:
        yield await _reachable("the gateway", note["gateway_url"], 80)
        yield await _reachable("the hub", note["hub_url"], 80)


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    from house.compose import open_database

    try:
        db = await open_database(settings)
    except BankhubError as error:
        yield Finding("bad", f"the database: {error.message}")
        return
    try:
        yield Finding("ok", "the database answers and keeps what it acknowledges")
        now = await db.fetchval(_NOW)
        off = abs(now.timestamp() - time.time())
        yield await _fitting(settings, db)
        advice = "" if off < _CLOCK_S else "set both clocks by the same time server"
        yield Finding(
            "ok" if off < _CLOCK_S else "bad", f"its clock differs from ours by {off:.3f} s", advice
        )
    finally:
        await db.close()


async def _fitting(settings: Settings, db: Database) -> Finding:
    """Whether the ring of keys is the one that this database was written with."""
    from gateway.people.phones import phone_of
    from gateway.people.store import any_phone
    from house.compose import columns_of

    try:
        row = await any_phone(db)
        if row is not None:
            phone_of(columns_of(settings), row)
    except DatabaseError as error:
        return Finding("bad", f"the database: {error.message}", "run `bankhub migrate`")
    except BankhubError:
        return Finding(
            "bad",
            "what is stored encrypted does not open",
            "restore the ring of keys that belongs to this database",
        )
    return Finding("ok", "what is stored encrypted opens with these keys")


async def _store(settings: Settings) -> Finding:
    """Whether the bucket of files is there for these keys, and encrypts what it keeps where it should."""
    from house.compose import bucket_of

    where = f"the object store at {settings.s3_endpoint_url}, bucket {settings.s3_bucket}"
    try:
        bucket = bucket_of(settings, SystemClock())
        try:
            encrypts = await bucket.encrypts()
        finally:
            await bucket.close()
    except BankhubError as error:
        return Finding(
            "bad",
            f"{where}: {error.message}",
            "do address, bucket and keys belong together?",
        )
    if settings.files_at_rest_encrypted and not encrypts:
        return Finding(
            "warn", f"{where} does not encrypt what it keeps", "is a worker running? It asks the store to"
        )
    return Finding("ok", f"{where} answers" + (" and encrypts what it keeps" if encrypts else ""))


async def _reachable(what: str, url: str, default_port: int) -> Finding:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or default_port
    try:
        async with asyncio.timeout(3):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
    except (OSError, TimeoutError, socket.gaierror) as error:
        return Finding("bad", f"{what} at {host} port {port} does not answer ({type(error).__name__})")
    return Finding("ok", f"{what} answers at {host} port {port}")
