"""`verify`: walks the digest chains and prints what was found; safe beside a running bank."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.errors import Invalid
from core.settings import Settings
from house.compose import open_database
from house.words import counted

if TYPE_CHECKING:
    from core.crypto.keyring import Keyring
    from core.db import Database
    from core.stepup.evidence import Evidence

_SHOWN = 20  # faults: who has more looks at the first ones anyway


async def streams(settings: Settings, stream_id: int | None) -> int:
    """Walk stored streams, or one; the exit code."""
    from hub.verify import verify as walk

    db = await open_database(settings)
    try:
        result = await walk(db, stream_id)
    finally:
        await db.close()
    print(
        f"{counted(result.streams, 'stream')}, {counted(result.entries, 'entry', 'entries')} "
        f"({result.removed} with the content removed)"
    )
    for fault in result.faults:
        print(f"stream {fault.stream_id} breaks at entry {fault.seq}: {fault.why}")
    broken = counted(len(result.faults), "chain is", "chains are")
    print(f"{broken} broken" if result.faults else "every chain holds")
    return 1 if result.faults else 0


async def audit(settings: Settings, seals: Path | None) -> int:
    """Walk the audit of every tenant and compare it with exported seals; the exit code."""
    from core.audit import exports
    from core.audit.verify import verify as walk
    from core.clock import SystemClock
    from core.crypto.keyring import open_keyring

    clock, path = SystemClock(), seals or exports.seals_file(settings)
    if seals is not None and not seals.exists():
        print(f"{seals} is not there")
        return 1
    keys, db = open_keyring(settings, clock), await open_database(settings)
    try:
        result = await walk(db, clock, keys, exports.read(path) if path.exists() else ())
    finally:
        await db.close()
    print(
        f"{counted(result.tenants, 'tenant')}, {counted(result.rows, 'row')} under {counted(result.seals, 'seal')}, "
        f"{result.waiting} waiting for one, {result.seconds:.1f} s"
    )
    if path.exists():
        print(f"the newest exported seals of {counted(result.exported, 'tenant')} are there ({path})")
    else:
        print(f"no exported seals to compare with ({path} is not there)")
    for fault in result.faults[:_SHOWN]:
        print(f"BROKEN  {fault}")
    if result.lost:
        print(_LOST.format(path=path))
    print("every chain holds" if not result.faults else counted(len(result.faults), "fault"))
    return 1 if result.faults else 0


_LOST: Final = """\
Without exported seals nobody can tell whether a chain was cut off at its end. If {path} was moved
or lost, bring it back from its backup, or take the events "audit.sealed" of every node out of the log store
and name that file: verify audit --seals FILE. If nobody can say where it has gone, somebody may have taken it away:
compare the last rows of the chain with a backup of the database."""


async def evidence(settings: Settings, only: int | None, export: Path | None = None) -> int:
    """Verify what people confirmed, all of it or one challenge; the exit code. One piece is printed in full.

    What holds goes into the file `export`, if every piece does: it then stands for itself (`bundle`).
    """
    from core.clock import SystemClock
    from core.crypto.keyring import open_keyring
    from core.stepup.store import every_evidence

    keys, db = open_keyring(settings, SystemClock()), await open_database(settings)
    whole: list[Evidence] = []
    count, broken = 0, 0
    try:
        async for challenge_id, found in every_evidence(db, keys, only):
            count += 1
            if found is None or not found.holds():
                broken += 1
                why = "the row is not as it was written" if found is None else "the signature does not hold"
                print(f"BROKEN  {challenge_id}: {why}")
                continue
            if export is not None:
                whole.append(found)
            elif only is not None:
                print(found.shown())
        if only is not None and not count:
            print(f"there is no evidence of {only}")
            return 1
        if export is not None and not broken:
            await _export(settings, db, keys, whole, export)
            held = counted(count, "piece", "pieces")
            print(f"{export} holds {held}; it is verified with --bundle and the anchor of `keys --public`")
    finally:
        await db.close()
    pieces = counted(count, "piece", "pieces")
    print(
        f"{pieces} of evidence, "
        + ("every one holds" if not broken else f"{counted(broken, 'is', 'are')} broken")
    )
    return 1 if broken else 0


async def _export(settings: Settings, db: Database, keys: Keyring, whole: list[Evidence], path: Path) -> None:
    """Write a sealed bundle, mode 0600, and that somebody has. Raises `Invalid` where the file is there already."""
    from core.audit.changes import Changes
    from core.clock import SystemClock
    from core.crypto.provider import point_of, provider_of
    from core.crypto.ring import SEALS
    from core.crypto.sm3 import sm3
    from core.ids import WorkerLease
    from core.keys import replace_secret
    from core.rng import SystemRng
    from core.stepup import bundle

    if path.exists():
        raise Invalid(f"{path} is there already")
    clock, rng, key = SystemClock(), SystemRng(), keys.current(SEALS)
    document = bundle.unsealed(whole, clock.now(), key.key_id, point_of(key))
    provider = provider_of(settings)
    try:
        data = bundle.sealed(document, await provider.sign(key, bundle.statement(document)))
    finally:
        await provider.close()
    lease = await WorkerLease.acquire(db, clock, rng=rng)
    try:
        record = Changes(clock, rng, lease.ids, keys).record
        about = str(whole[0].challenge_id) if len(whole) == 1 else f"{len(whole)} pieces"
        await db.run(record, "core.evidence.export", about, 0, None, sm3(data))
    finally:
        await lease.release()
    replace_secret(path, data)


def evidence_bundle(path: Path, anchor: Path) -> int:
    """Verify an exported bundle against the bank's public keys; the exit code. Nothing else is asked."""
    from core.stepup import bundle

    try:
        found = bundle.verify(path.read_bytes(), bundle.read_anchor(anchor.read_bytes()))
    except OSError as error:
        print(f"{error.filename} cannot be read")
        return 1
    except Invalid as error:
        print(f"BROKEN  {error.message}")
        return 1
    if len(found) == 1:
        print(found[0].shown())
    pieces = counted(len(found), "piece", "pieces")
    print(f"{pieces} of evidence, every one holds, under the bank's seal")
    return 0
