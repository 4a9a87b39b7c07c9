"""SQL of devices."""

from __future__ import annotations

from datetime import datetime

from core.db import Queries, Record, sql
from core.device_key import DeviceKey

_OWN = "a device belongs to a person; the enterprise does not matter"

_OF_PERSON = sql(
    """
    SELECT jkt, algorithm, point, device, name, platform, bound_at, used_at FROM gateway_devices
    WHERE person_id = $1 AND revoked_at IS NULL ORDER BY bound_at, jkt
    """
)
_INSERT = sql(
    """
    INSERT INTO gateway_devices (person_id, jkt, algorithm, point, device, name, platform, bound_at, used_at,
                                 revoked_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, NULL)
    """
)
_AGAIN = sql(
    """
    UPDATE gateway_devices SET device = $3, name = $4, platform = $5, bound_at = $6, used_at = $6, revoked_at = NULL
    WHERE person_id = $1 AND jkt = $2 AND revoked_at IS NOT NULL
    """
)
_USE = sql("UPDATE gateway_devices SET used_at = $3 WHERE person_id = $1 AND jkt = $2")
_RENAME = sql("UPDATE gateway_devices SET name = $3 WHERE person_id = $1 AND jkt = $2 AND revoked_at IS NULL")
_REVOKE = sql(
    "UPDATE gateway_devices SET revoked_at = $3 WHERE person_id = $1 AND jkt = $2 AND revoked_at IS NULL"
)
_REVOKE_ALL = sql("UPDATE gateway_devices SET revoked_at = $2 WHERE person_id = $1 AND revoked_at IS NULL")
_LOCK_PERSON = sql("SELECT person_id FROM gateway_people WHERE person_id = $1 FOR UPDATE")


async def lock_person(db: Queries, person_id: int) -> None:
    """Let changes of this person's devices happen one after the other: there is a limit to keep."""
    await db.execute(_LOCK_PERSON, person_id)


async def of_person(db: Queries, person_id: int) -> list[Record]:
    """jkt, algorithm, point, device, name, platform, bound_at, used_at of the trusted devices, the oldest first."""
    return await db.fetch(_OF_PERSON, person_id)


async def bind(
    db: Queries, person_id: int, key: DeviceKey, *, device: str, name: str, platform: str, now: datetime
) -> None:
    """Trust a key, again if it was revoked before."""
    jkt = key.thumbprint
    if not await db.execute(_AGAIN, person_id, jkt, device, name, platform or None, now):
        await db.execute(
            _INSERT, person_id, jkt, key.algorithm, key.point, device, name, platform or None, now
        )


async def use(db: Queries, person_id: int, jkt: str, now: datetime) -> None:
    """Somebody has logged in with it."""
    await db.execute(_USE, person_id, jkt, now)


async def rename(db: Queries, person_id: int, jkt: str, name: str) -> bool:
    """False where there is no such device."""
    return bool(await db.execute(_RENAME, person_id, jkt, name))


async def revoke(db: Queries, person_id: int, jkt: str, now: datetime) -> bool:
    """False where there is no such device, or not any more."""
    return bool(await db.execute(_REVOKE, person_id, jkt, now))


async def revoke_all(db: Queries, person_id: int, now: datetime) -> None:
    """None of a person's devices is trusted any more."""
    await db.execute(_REVOKE_ALL, person_id, now)
