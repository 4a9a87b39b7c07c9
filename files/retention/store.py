"""SQL of the clean-up: what nothing refers to, what is marked to go, what the store may know."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from core.db import Queries, Record, Transaction, sql

_ALL: Final = "clean-up is the same for every tenant"

_UNATTACHED = sql(
    """
    SELECT f.file_id, f.enterprise_id FROM files_files f
    WHERE f.state = 'ready' AND f.settled_at < $1 AND f.file_id > $2
      AND NOT EXISTS (SELECT 1 FROM files_attachments a
                      WHERE a.file_id = f.file_id AND a.enterprise_id = f.enterprise_id)
    ORDER BY f.file_id LIMIT $3
    """,
    exempt=_ALL,
)
_QUARANTINED = sql(
    "SELECT file_id, enterprise_id FROM files_files WHERE state = 'quarantined' AND settled_at < $1 AND file_id > $2 "
    "ORDER BY file_id LIMIT $3",
    exempt=_ALL,
)
_UNUSED = sql(
    """
    SELECT c.content_id, c.enterprise_id FROM files_contents c
    WHERE c.state IN ('kept', 'raw') AND c.created_at < $1 AND c.content_id > $2
      AND NOT EXISTS (SELECT 1 FROM files_files f WHERE f.content_id = c.content_id
                      AND f.enterprise_id = c.enterprise_id AND f.state <> 'removed')
    ORDER BY c.content_id LIMIT $3
    """,
    exempt=_ALL,
)
_IN_USE = sql(
    "SELECT COUNT(*) FROM files_files WHERE enterprise_id = $1 AND content_id = $2 AND state <> 'removed'"
)
_DROPPING = sql(
    "SELECT content_id, enterprise_id, object_id FROM files_contents WHERE state = 'dropping' AND content_id > $1 "
    "ORDER BY content_id LIMIT $2",
    exempt=_ALL,
)
_VARIANT_OBJECTS = sql(
    "SELECT object_id FROM files_variants WHERE enterprise_id = $1 AND content_id = $2 ORDER BY object_id"
)
_DELETE_VARIANTS = sql("DELETE FROM files_variants WHERE enterprise_id = $1 AND content_id = $2")
_POINTED = sql("SELECT COUNT(*) FROM files_files WHERE enterprise_id = $1 AND content_id = $2")
_DELETE_FILES = sql(
    "DELETE FROM files_files WHERE enterprise_id = $1 AND content_id = $2 AND state = 'removed'"
)
_DELETE_CONTENT = sql(
    "DELETE FROM files_contents WHERE enterprise_id = $1 AND content_id = $2 AND state = 'dropping'"
)

_KNOWN_CONTENTS = sql("SELECT object_id FROM files_contents WHERE object_id IN ($*)", exempt=_ALL)
_KNOWN_VARIANTS = sql("SELECT object_id FROM files_variants WHERE object_id IN ($*)", exempt=_ALL)
_FILES_OF: Final = (
    "LEFT JOIN files_files f ON f.content_id = c.content_id AND f.enterprise_id = c.enterprise_id "
    "AND f.state <> 'removed'"
)
_LOST_CONTENTS = sql(
    f"SELECT c.object_id, c.enterprise_id, 'original' AS variant, f.file_id, f.name FROM files_contents c {_FILES_OF} "
    "WHERE c.object_id IN ($*) ORDER BY c.object_id, f.file_id",
    exempt=_ALL,
)
_LOST_VARIANTS = sql(
    "SELECT v.object_id, v.enterprise_id, v.variant, f.file_id, f.name FROM files_variants v JOIN files_contents c "
    f"ON c.content_id = v.content_id AND c.enterprise_id = v.enterprise_id {_FILES_OF} "
    "WHERE v.object_id IN ($*) ORDER BY v.object_id, f.file_id",
    exempt=_ALL,
)
_CONTENT_OBJECTS = sql(
    "SELECT object_id FROM files_contents WHERE state <> 'dropping' AND object_id > $1 ORDER BY object_id LIMIT $2",
    exempt=_ALL,
)
_ALL_VARIANT_OBJECTS = sql(
    "SELECT v.object_id FROM files_variants v JOIN files_contents c "
    "ON c.content_id = v.content_id AND c.enterprise_id = v.enterprise_id "
    "WHERE c.state <> 'dropping' AND v.object_id > $1 ORDER BY v.object_id LIMIT $2",
    exempt=_ALL,
)
_HELD = sql(
    """
    SELECT COUNT(*) FROM files_holds h
    WHERE h.enterprise_id = $1 AND h.lifted_at IS NULL
      AND (h.kind = 'enterprise' OR (h.kind = 'person' AND h.object_id = $2) OR (h.kind = 'file' AND h.object_id = $3))
    """
)
_STREAM_HELD = sql(
    "SELECT COUNT(*) FROM files_holds WHERE enterprise_id = $1 AND lifted_at IS NULL "
    "AND (kind = 'enterprise' OR (kind = 'stream' AND object_id = $2))"
)


async def unattached(db: Queries, before: datetime, after: int, limit: int) -> list[Record]:
    """(file, enterprise) of ready files that nothing refers to and that have been there since before."""
    return await db.fetch(_UNATTACHED, before, after, limit)


async def quarantined(db: Queries, before: datetime, after: int, limit: int) -> list[Record]:
    """(file, enterprise) of files that have been in quarantine since before."""
    return await db.fetch(_QUARANTINED, before, after, limit)


async def unused(db: Queries, before: datetime, after: int, limit: int) -> list[Record]:
    """(content, enterprise) of contents that no file has any more."""
    return await db.fetch(_UNUSED, before, after, limit)


async def in_use(tx: Transaction, enterprise_id: int, content_id: int) -> bool:
    """Whether some file has this content."""
    return bool(await tx.fetchval(_IN_USE, enterprise_id, content_id))


async def dropping(db: Queries, after: int, limit: int) -> list[Record]:
    """(content, enterprise, object) of contents whose objects are to go."""
    return await db.fetch(_DROPPING, after, limit)


async def variant_objects(db: Queries, enterprise_id: int, content_id: int) -> list[int]:
    """Objects of what was made of a content."""
    return [row[0] for row in await db.fetch(_VARIANT_OBJECTS, enterprise_id, content_id)]


async def delete_content(tx: Transaction, enterprise_id: int, content_id: int) -> None:
    """Forget a content whose objects are gone, with its variants and the files that were removed."""
    await tx.execute(_DELETE_VARIANTS, enterprise_id, content_id)
    await tx.execute(_DELETE_FILES, enterprise_id, content_id)
    if not await tx.fetchval(_POINTED, enterprise_id, content_id):
        await tx.execute(_DELETE_CONTENT, enterprise_id, content_id)


async def known(db: Queries, object_ids: Sequence[int]) -> set[int]:
    """Those of these objects that contents or variants are made of."""
    contents = await db.fetch_in(_KNOWN_CONTENTS, object_ids)
    variants = await db.fetch_in(_KNOWN_VARIANTS, object_ids)
    return {row[0] for row in (*contents, *variants)}


async def lost(db: Queries, object_ids: Sequence[int]) -> list[Record]:
    """(object, enterprise, variant, file, name) of what has these objects; without a file where none has it."""
    contents = await db.fetch_in(_LOST_CONTENTS, object_ids)
    return [*contents, *await db.fetch_in(_LOST_VARIANTS, object_ids)]


async def expected(db: Queries, after: int, limit: int) -> list[int]:
    """The next objects that have to be in the store, of contents and variants, in order."""
    contents = await db.fetch(_CONTENT_OBJECTS, after, limit)
    variants = await db.fetch(_ALL_VARIANT_OBJECTS, after, limit)
    return sorted(row[0] for row in (*contents, *variants))[:limit]


async def held(tx: Queries, enterprise_id: int, person_id: int, file_id: int) -> bool:
    """Whether a hold keeps this file of this person."""
    return bool(await tx.fetchval(_HELD, enterprise_id, person_id, file_id))


async def stream_held(tx: Queries, enterprise_id: int, stream_id: int) -> bool:
    """Whether a hold keeps what was sent in this conversation."""
    return bool(await tx.fetchval(_STREAM_HELD, enterprise_id, stream_id))
