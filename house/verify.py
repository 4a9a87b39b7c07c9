"""`verify`: walks the digest chains and prints what was found; safe beside a running bank."""

from __future__ import annotations

from pathlib import Path

from core.settings import Settings
from house.compose import open_database

_SHOWN = 20  # faults: who has more looks at the first ones anyway


async def streams(settings: Settings, stream_id: int | None) -> int:
    """Walk stored streams, or one; the exit code."""
    from hub.verify import verify as walk

    db = await open_database(settings)
    try:
        result = await walk(db, stream_id)
    finally:
        await db.close()
    print(f"{result.streams} streams, {result.entries} entries ({result.removed} with their content removed)")
    for fault in result.faults:
        print(f"stream {fault.stream_id} breaks at entry {fault.seq}: {fault.why}")
    print("every chain holds" if not result.faults else f"{len(result.faults)} chains are broken")
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
        f"{result.tenants} tenants, {result.rows} rows under {result.seals} seals, {result.waiting} waiting for one, "
        f"{result.seconds:.1f} s"
    )
    if path.exists():
        print(f"the newest exported seals of {result.exported} tenants are there ({path})")
    else:
        print("no exported seals to compare with: a chain that was cut off at its end would not be found")
    for fault in result.faults[:_SHOWN]:
        print(f"BROKEN  {fault}")
    print("every chain holds" if not result.faults else f"{len(result.faults)} faults")
    return 1 if result.faults else 0


async def evidence(settings: Settings, only: int | None) -> int:
    """Verify what people confirmed, all of it or one challenge; the exit code. One piece is printed in full."""
    from core.clock import SystemClock
    from core.crypto.keyring import open_keyring
    from core.stepup.store import every_evidence

    keys, db = open_keyring(settings, SystemClock()), await open_database(settings)
    count, broken = 0, 0
    try:
        async for challenge_id, found in every_evidence(db, keys, only):
            count += 1
            if found is None or not found.holds():
                broken += 1
                why = "the row is not as it was written" if found is None else "the signature does not hold"
                print(f"BROKEN  {challenge_id}: {why}")
            elif only is not None:
                print(found.shown())
    finally:
        await db.close()
    if only is not None and not count:
        print(f"there is no evidence of {only}")
        return 1
    print(f"{count} pieces of evidence, " + ("every one holds" if not broken else f"{broken} are broken"))
    return 1 if broken else 0
