"""SQL of uploads in parts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from core.db import Queries, Record, Transaction, sql

_COLUMNS: Final = (
    "upload_id, enterprise_id, person_id, way, state, name, declared_type, size_bytes, part_bytes, sha256_digest, "
    "sm3_digest, object_id, multipart, wrapped_key, tail_bytes, tail_epoch, epoch, file_id, created_at, touched_at"
)
_ALL: Final = "left uploads of every tenant are given up alike"

_INSERT = sql(
    """
    INSERT INTO files_uploads (upload_id, enterprise_id, person_id, way, state, name, declared_type, size_bytes,
                               part_bytes, sha256_digest, sm3_digest, object_id, multipart, wrapped_key, tail_bytes,
                               tail_epoch, epoch, created_at, touched_at)
    VALUES ($1, $2, $3, $4, 'open', $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, 0, 0, $14, $14)
    """
)
_GET = sql(
    f"SELECT {_COLUMNS} FROM files_uploads WHERE upload_id = $1 AND enterprise_id = $2 AND person_id = $3"
)
_LOCK = sql(
    f"SELECT {_COLUMNS} FROM files_uploads WHERE upload_id = $1 AND enterprise_id = $2 AND person_id = $3 FOR UPDATE"
)
_CLAIM = sql(
    "UPDATE files_uploads SET epoch = epoch + 1, touched_at = $3 WHERE upload_id = $1 AND enterprise_id = $2"
)
_ADVANCE = sql(
    "UPDATE files_uploads SET tail_bytes = $3, tail_epoch = epoch, touched_at = $4 "
    "WHERE upload_id = $1 AND enterprise_id = $2"
)
_SET_STATE = sql(
    "UPDATE files_uploads SET state = $3, file_id = $4, touched_at = $5 WHERE upload_id = $1 AND enterprise_id = $2"
)
_ADD_PART = sql(
    "INSERT INTO files_parts (upload_id, part_no, enterprise_id, size_bytes, etag) VALUES ($1, $2, $3, $4, $5)"
)
_DROP_PARTS = sql("DELETE FROM files_parts WHERE upload_id = $1 AND enterprise_id = $2")
_PARTS = sql(
    "SELECT part_no, size_bytes, etag FROM files_parts WHERE upload_id = $1 AND enterprise_id = $2 ORDER BY part_no"
)
_OPEN_OF = sql(
    "SELECT COUNT(*) FROM files_uploads WHERE enterprise_id = $1 AND person_id = $2 AND state IN ('open', 'finishing')"
)
_LEFT = sql(
    f"SELECT {_COLUMNS} FROM files_uploads WHERE (state = 'finishing' AND touched_at < $1) "
    "OR (state = 'open' AND created_at < $2) ORDER BY touched_at LIMIT $3",
    exempt=_ALL,
)
_FORGET = sql("DELETE FROM files_uploads WHERE state IN ('done', 'aborted') AND touched_at < $1", exempt=_ALL)
_KNOWN = sql(
    "SELECT object_id FROM files_uploads WHERE state IN ('open', 'finishing') AND object_id IN ($*)",
    exempt=_ALL,
)
_UNDER_WAY = sql(
    "SELECT upload_id FROM files_uploads WHERE state IN ('open', 'finishing') AND upload_id IN ($*)",
    exempt=_ALL,
)
_KNOWN_MULTIPARTS = sql(
    "SELECT multipart FROM files_uploads WHERE state IN ('open', 'finishing') AND multipart IN ($*)",
    exempt=_ALL,
)


async def insert(
    tx: Transaction, *, upload_id: int, enterprise_id: int, person_id: int, way: str, name: str,
    declared_type: str | None, size_bytes: int, part_bytes: int, sha256: bytes | None, sm3: bytes | None,
    object_id: int, multipart: str, wrapped_key: bytes | None, now: datetime,
) -> None:  # fmt: skip
    """A new upload, open, with nothing of it there."""
    await tx.execute(
        _INSERT, upload_id, enterprise_id, person_id, way, name, declared_type, size_bytes, part_bytes, sha256, sm3,
        object_id, multipart, wrapped_key, now,
    )  # fmt: skip


async def get(tx: Queries, upload_id: int, enterprise_id: int, person_id: int) -> Record | None:
    """All columns of somebody's upload."""
    return await tx.fetchrow(_GET, upload_id, enterprise_id, person_id)


async def lock(tx: Transaction, upload_id: int, enterprise_id: int, person_id: int) -> Record | None:
    """The same; nobody else changes it before the transaction ends."""
    return await tx.fetchrow(_LOCK, upload_id, enterprise_id, person_id)


async def claim(tx: Transaction, upload_id: int, enterprise_id: int, now: datetime) -> None:
    """The next writer: those before it can no longer advance."""
    await tx.execute(_CLAIM, upload_id, enterprise_id, now)


async def advance(
    tx: Transaction, upload_id: int, enterprise_id: int, tail_bytes: int, now: datetime
) -> None:
    """How long the tail is now."""
    await tx.execute(_ADVANCE, upload_id, enterprise_id, tail_bytes, now)


async def set_state(
    tx: Transaction, upload_id: int, enterprise_id: int, state: str, file_id: int | None, now: datetime
) -> None:
    """Where it has come to."""
    await tx.execute(_SET_STATE, upload_id, enterprise_id, state, file_id, now)


async def add_part(
    tx: Transaction, upload_id: int, enterprise_id: int, number: int, size_bytes: int, etag: str
) -> None:
    """A part that the store has. Raises `UniqueViolation` for one that is there already."""
    await tx.execute(_ADD_PART, upload_id, number, enterprise_id, size_bytes, etag)


async def parts(tx: Queries, upload_id: int, enterprise_id: int) -> list[Record]:
    """Number, size and ETag of the parts that are there, by number."""
    return await tx.fetch(_PARTS, upload_id, enterprise_id)


async def drop_parts(tx: Transaction, upload_id: int, enterprise_id: int) -> None:
    """Nobody asks for parts of an upload that is over."""
    await tx.execute(_DROP_PARTS, upload_id, enterprise_id)


async def open_of(tx: Queries, enterprise_id: int, person_id: int) -> int:
    """How many uploads somebody has under way."""
    return int(await tx.fetchval(_OPEN_OF, enterprise_id, person_id))


async def left(db: Queries, finishing: datetime, begun: datetime, limit: int) -> list[Record]:
    """Uploads that have been finishing since `finishing`, and those open that were begun before `begun`."""
    return await db.fetch(_LEFT, finishing, begun, limit)


async def forget(db: Queries, before: datetime) -> int:
    """Rows of uploads that were over long ago; how many."""
    return await db.execute(_FORGET, before)


async def known(db: Queries, object_ids: Sequence[int]) -> set[int]:
    """Those of these objects that uploads under way are writing."""
    return {row[0] for row in await db.fetch_in(_KNOWN, object_ids)}


async def known_multiparts(db: Queries, multiparts: Sequence[str]) -> set[str]:
    """Those of these uploads in parts that are under way with us."""
    return {row[0] for row in await db.fetch_in(_KNOWN_MULTIPARTS, multiparts)}


async def under_way(db: Queries, upload_ids: Sequence[int]) -> set[int]:
    """Those of these uploads that are open."""
    return {row[0] for row in await db.fetch_in(_UNDER_WAY, upload_ids)}
