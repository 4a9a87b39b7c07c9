"""`keys`: the inventory of keys, and turning them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.console import Console
from rich.table import Table

from core.clock import SystemClock
from core.crypto.keyring import KeyRecord, Keyring, open_keyring
from core.crypto.provider import Handle, point_of, provider_of
from core.crypto.ring import COLUMNS, INDEXES, PURPOSES, SEALS, Key, Purpose
from core.errors import Conflict, Invalid
from core.settings import Settings
from core.stepup.bundle import anchor
from house.words import counted


def keys(
    settings: Settings,
    *,
    add: bool = False,
    attach: str | None = None,
    rotate: str | None = None,
    retire: str | None = None,
    at_once: bool = False,
) -> int:
    """Do what was asked for, then print the inventory; 1 where a rotation is overdue."""
    clock = SystemClock()
    ring = open_keyring(settings, clock, make=add)
    if attach is not None:
        ring.attach(SEALS, asyncio.run(_handle(settings, *attach.partition(":")[::2])).to_material())
        print(f"{attach} is the next key for seals: rotate in some minutes")
    if rotate is not None:
        key = ring.rotate(_purpose(rotate), at_once=at_once)
        print(f"{key.key_id} is the current key now")
    if retire is not None:
        name, _, version = retire.partition(".")
        if not version.isdecimal():
            raise Invalid("which one? as in columns.1")
        _retire(settings, ring, _purpose(name), int(version))
        print(f"{retire} is forgotten")
    _show(ring)
    return 1 if overdue(ring) else 0


def write_public(settings: Settings, path: Path) -> int:
    """The anchor that bundles of evidence are verified against; the exit code."""
    ring = open_keyring(settings, SystemClock())
    points = {key.key_id: point_of(key) for key in ring.all(SEALS)}
    path.write_bytes(anchor(points))
    print(
        f"{path} holds the public keys {', '.join(points)}: give it to whoever is to verify, by a way they trust"
    )
    return 0


def _show(ring: Keyring) -> None:
    now, table = SystemClock().now(), Table(box=None, pad_edge=False)
    for column in ("key", "algorithm", "state", "made", "rotation due", "kept in"):
        table.add_column(column)
    for record in ring.inventory():
        due = "" if record.rotation_due is None else f"{record.rotation_due:%Y-%m-%d}"
        due += " OVERDUE" if record.overdue(now) else ""
        table.add_row(
            record.key_id, record.algorithm, record.state, f"{record.created:%Y-%m-%d}", due, record.kept_in
        )
    Console(highlight=False).print(table)


async def _handle(settings: Settings, place: str, handle: str) -> Handle:
    """A key elsewhere, after it has signed something that verifies."""
    provider = provider_of(settings)
    try:
        made = Handle(place, handle, await provider.point(place, handle))
        await provider.sign(Key(SEALS.name, 0, "next", 0, made.to_material()), b"bankhub keys --attach")
    finally:
        await provider.close()
    return made


def overdue(ring: Keyring) -> list[KeyRecord]:
    """Current keys that should have turned."""
    return [record for record in ring.inventory() if record.overdue(SystemClock().now())]


def _purpose(name: str) -> Purpose:
    if name not in PURPOSES:
        raise Invalid(f"there are keys for {', '.join(PURPOSES)}; not for {name}")
    return PURPOSES[name]


def _retire(settings: Settings, ring: Keyring, purpose: Purpose, version: int) -> None:
    """Raises `Conflict` where something would become unreadable."""
    if purpose.previous is None and purpose not in (COLUMNS, INDEXES):
        raise Conflict(
            f"keys for {purpose.name} are kept: what was made with them could not be read or verified any more"
        )
    if purpose in (COLUMNS, INDEXES):
        place = 0 if purpose is COLUMNS else 1
        used = sum(row[2] for row in asyncio.run(_in_use(settings)) if row[place] == version)
        if used:
            raise Conflict(f"still needed by {counted(used, 'row')}: wait for the job that seals them again")
    ring.retire(purpose, version)


async def _in_use(settings: Settings) -> list[tuple[int, int, int]]:
    from gateway.factors.store import secret_keys
    from gateway.people.store import phone_keys
    from house.compose import open_database

    db = await open_database(settings)
    try:
        secrets = [(version, 0, count) for version, count in await secret_keys(db)]
        return await phone_keys(db) + secrets
    finally:
        await db.close()
