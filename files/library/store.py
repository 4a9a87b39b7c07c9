"""SQL of files, their contents and variants, and of what refers to them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from core.db import Queries, Record, Transaction, sql

RAW, KEPT, DROPPING = "raw", "kept", "dropping"
CHECKING, READY, QUARANTINED, REMOVED = "checking", "ready", "quarantined", "removed"
STREAM: Final = "stream"
HELD: Final = "held"  # a stream's reference that was given up while a hold was in force
_EVERYBODY: Final = "clean-up is the same for every tenant"

_FILE: Final = (
    "f.file_id, f.enterprise_id, f.person_id, f.content_id, f.name, f.size_bytes, f.declared_type, f.kind, f.state, "
    "f.reason, f.cleaned, f.sha256_digest AS upload_digest, f.sm3_digest, f.created_at, f.upload_key, "
    "c.object_id, c.state AS content_state, c.size_bytes AS stored_bytes, c.sha256_digest, c.facts, c.wrapped_key"
)
_JOINED: Final = (
    "FROM files_files f JOIN files_contents c "
    "ON c.content_id = f.content_id AND c.enterprise_id = f.enterprise_id"
)

_INSERT_CONTENT = sql(
    """
    INSERT INTO files_contents (content_id, enterprise_id, identity, state, object_id, size_bytes, sha256_digest,
                                facts, wrapped_key, created_at, scanned, scanned_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    """
)
_CONTENT = sql(
    "SELECT content_id, object_id, size_bytes, wrapped_key, scanned FROM files_contents "
    "WHERE enterprise_id = $1 AND identity = $2 FOR UPDATE"
)
_CONTENTS = sql(
    "SELECT content_id, identity, facts, object_id, size_bytes, wrapped_key, scanned FROM files_contents "
    "WHERE enterprise_id = $1 AND identity IN ($*) ORDER BY identity FOR UPDATE"
)
_LOCK_CONTENT = sql(
    "SELECT content_id, state FROM files_contents WHERE enterprise_id = $1 AND content_id = $2 FOR UPDATE"
)
_KEEP_CONTENT = sql(
    "UPDATE files_contents SET identity = $3, state = 'kept', size_bytes = $4, sha256_digest = $5, "
    "facts = $6 WHERE enterprise_id = $1 AND content_id = $2"
)
_SCANNED = sql(
    "UPDATE files_contents SET scanned = $3, scanned_at = $4 WHERE enterprise_id = $1 AND content_id = $2"
)
_TO_SCAN = sql(
    "SELECT content_id, enterprise_id, object_id, wrapped_key FROM files_contents "
    "WHERE state = 'kept' AND content_id > $1 AND (scanned_at IS NULL OR scanned_at < $2) "
    "ORDER BY content_id LIMIT $3",
    exempt="contents of every tenant are scanned",
)
_CONDEMN = sql(
    "UPDATE files_contents SET identity = $3, state = 'raw' "
    "WHERE enterprise_id = $1 AND content_id = $2 AND state = 'kept'"
)
_READY_OF = sql(
    "SELECT file_id, person_id, name, kind, size_bytes FROM files_files "
    "WHERE enterprise_id = $1 AND content_id = $2 AND state = 'ready' ORDER BY file_id FOR UPDATE"
)
_QUARANTINE = sql(
    "UPDATE files_files SET state = 'quarantined', reason = $3, settled_at = $4 "
    "WHERE enterprise_id = $1 AND file_id = $2"
)
_DROP_CONTENT = sql(
    "UPDATE files_contents SET identity = $3, state = 'dropping' WHERE enterprise_id = $1 AND content_id = $2"
)
_HAND_OVER = sql(
    "UPDATE files_files SET content_id = $3 WHERE enterprise_id = $1 AND content_id = $2 AND state <> 'removed'"
)
_INSERT_FILE = sql(
    """
    INSERT INTO files_files (file_id, enterprise_id, person_id, upload_key, content_id, name, size_bytes, declared_type,
                             kind, state, cleaned, sha256_digest, sm3_digest, created_at, settled_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, $12, $13, $14)
    """
)
_SETTLE = sql(
    "UPDATE files_files SET state = $3, reason = $4, content_id = $5, cleaned = $6, sha256_digest = $7, kind = $8, "
    "settled_at = $9 WHERE enterprise_id = $1 AND file_id = $2"
)
_SET_STATE = sql(
    "UPDATE files_files SET state = $3, settled_at = $4 WHERE enterprise_id = $1 AND file_id = $2"
)
_BY_KEYS = sql(
    f"SELECT {_FILE} {_JOINED} WHERE f.enterprise_id = $1 AND f.person_id = $2 AND f.upload_key IN ($*)"
)
_FILES = sql(f"SELECT {_FILE} {_JOINED} WHERE f.enterprise_id = $1 AND f.file_id IN ($*)")
_LOCK_FILES = sql(
    "SELECT file_id, person_id, state FROM files_files WHERE enterprise_id = $1 AND file_id IN ($*) "
    "ORDER BY file_id FOR UPDATE"
)
_OF_PERSON = sql(
    f"SELECT {_FILE} {_JOINED} WHERE f.enterprise_id = $1 AND f.person_id = $2 AND f.file_id < $3 "
    "AND f.state <> 'removed' ORDER BY f.file_id DESC LIMIT $4"
)
_ANYWHERE = sql(
    "SELECT file_id, enterprise_id, name, size_bytes, state, created_at FROM files_files "
    "WHERE person_id = $1 AND state <> 'removed' ORDER BY file_id DESC LIMIT 10000",
    exempt="a person's own data, in whichever enterprises",
)
_CHECKING = sql(
    "SELECT file_id, enterprise_id FROM files_files WHERE state = 'checking' AND created_at < $1 "
    "ORDER BY file_id LIMIT $2",
    exempt="files of every tenant are checked",
)

_INSERT_VARIANT = sql(
    """
    INSERT INTO files_variants (content_id, variant, enterprise_id, object_id, media_type, size_bytes, wrapped_key)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    """
)
_VARIANTS = sql(
    "SELECT content_id, variant, object_id, media_type, size_bytes, wrapped_key FROM files_variants "
    "WHERE enterprise_id = $1 AND content_id IN ($*)"
)

_ATTACH = sql(
    "INSERT INTO files_attachments (file_id, holder, holder_id, position, enterprise_id) VALUES ($1, $2, $3, $4, $5)"
)
_ATTACHED = sql(
    "SELECT file_id, holder, holder_id, position FROM files_attachments "
    "WHERE enterprise_id = $1 AND file_id IN ($*) ORDER BY file_id, position DESC"
)
_RELEASE = sql(
    "DELETE FROM files_attachments WHERE enterprise_id = $1 AND holder = $2 AND holder_id = $3 AND position = $4"
)
_RELEASE_ALL = sql(
    "DELETE FROM files_attachments WHERE enterprise_id = $1 AND holder = $2 AND holder_id = $3"
)
_RELEASE_FILES = sql(
    "DELETE FROM files_attachments WHERE enterprise_id = $1 AND holder = $2 AND holder_id = $3 AND file_id IN ($*)"
)

_ENTERPRISE = sql(
    "SELECT enterprise_id FROM files_attachments WHERE holder = 'stream' AND holder_id = $1 AND position = $2",
    exempt="a stream belongs to one enterprise, which is what is asked for",
)
_HOLD_BACK = sql(
    "UPDATE files_attachments SET holder = 'held' "
    "WHERE enterprise_id = $1 AND holder = 'stream' AND holder_id = $2 AND position = $3"
)
_HELD_STREAMS = sql(
    "SELECT DISTINCT holder_id FROM files_attachments WHERE enterprise_id = $1 AND holder = 'held' ORDER BY holder_id"
)


class NewContent(NamedTuple):
    """A row of `files_contents`, by its columns."""

    content_id: int
    enterprise_id: int
    identity: str
    state: str
    object_id: int
    size_bytes: int
    sha256_digest: bytes
    facts: str | None
    wrapped_key: bytes | None
    created_at: datetime


class NewFile(NamedTuple):
    """A row of `files_files`, by its columns."""

    file_id: int
    enterprise_id: int
    person_id: int
    upload_key: str
    content_id: int
    name: str
    size_bytes: int
    declared_type: str | None
    kind: str
    state: str
    cleaned: int
    sha256_digest: bytes
    sm3_digest: bytes | None
    created_at: datetime
    settled_at: datetime | None


# --- contents ---------------------------------------------------------------------------------------------------------


def identity_of(sha256: bytes, size_bytes: int, kind: str | None, *, own_key: bool) -> str:
    """What the same content has in common. The kind as well: what was let pass as an archive was not looked into as a
    document. And whether the enterprise's own key is used: what is to be encrypted is not found among what is not."""
    return f"{sha256.hex()}:{size_bytes}:{kind}" + (":key" if own_key else "")


async def insert_content(
    tx: Transaction, *, content_id: int, enterprise_id: int, identity: str, state: str, object_id: int,
    size_bytes: int, sha256: bytes | None, facts: str | None, wrapped_key: bytes | None, now: datetime,
    scanned: str | None = None,
) -> None:  # fmt: skip
    """A new content. Raises `UniqueViolation` where the enterprise has the same one."""
    await tx.execute(
        _INSERT_CONTENT, content_id, enterprise_id, identity, state, object_id, size_bytes, sha256, facts, wrapped_key,
        now, scanned, None if scanned is None else now,
    )  # fmt: skip


async def content(tx: Transaction, enterprise_id: int, identity: str) -> Record | None:
    """The content that is this, with its object and its scanner; locked, so that it is not dropped meanwhile."""
    return await tx.fetchrow(_CONTENT, enterprise_id, identity)


async def contents(tx: Transaction, enterprise_id: int, identities: Sequence[str]) -> dict[str, Record]:
    """The contents that are these, with their objects and scanners, by identity; locked like one."""
    return {
        row["identity"]: row for row in await tx.fetch_in(_CONTENTS, sorted(set(identities)), enterprise_id)
    }


async def insert_contents(tx: Transaction, rows: Sequence[NewContent]) -> None:
    """New contents. Raises `UniqueViolation` where an enterprise has one of them."""
    ordered = sorted(rows, key=lambda row: (row.enterprise_id, row.identity))
    await tx.insert_many("files_contents", NewContent._fields, ordered)


async def lock_content(tx: Transaction, enterprise_id: int, content_id: int) -> Record | None:
    """Id and state of a content; locked."""
    return await tx.fetchrow(_LOCK_CONTENT, enterprise_id, content_id)


async def keep_content(
    tx: Transaction, enterprise_id: int, content_id: int, *, identity: str, size_bytes: int, sha256: bytes,
    facts: str | None,
) -> None:  # fmt: skip
    """A raw content was checked. Raises `UniqueViolation` where the enterprise has the same one."""
    await tx.execute(_KEEP_CONTENT, enterprise_id, content_id, identity, size_bytes, sha256, facts)


async def scanned(tx: Transaction, enterprise_id: int, content_id: int, base: str, now: datetime) -> None:
    """A scanner with this base of signatures has found nothing in it."""
    await tx.execute(_SCANNED, enterprise_id, content_id, base, now)


async def to_scan(db: Queries, after: int, before: datetime, limit: int) -> list[Record]:
    """(content, enterprise, object, wrapped key) of kept contents that no scanner has seen since before."""
    return await db.fetch(_TO_SCAN, after, before, limit)


async def condemn(tx: Transaction, enterprise_id: int, content_id: int) -> bool:
    """Nobody finds it any more when the same comes, and its files are what is left of it; False: it is not kept."""
    return bool(await tx.execute(_CONDEMN, enterprise_id, content_id, f"raw:{content_id}"))


async def ready_of(tx: Transaction, enterprise_id: int, content_id: int) -> list[Record]:
    """Ready files that have this content; locked."""
    return await tx.fetch(_READY_OF, enterprise_id, content_id)


async def quarantine(tx: Transaction, enterprise_id: int, file_id: int, reason: str, now: datetime) -> None:
    """A file that was ready is kept back from now on."""
    await tx.execute(_QUARANTINE, enterprise_id, file_id, reason, now)


async def drop_content(tx: Transaction, enterprise_id: int, content_id: int) -> None:
    """Nothing refers to it any more: its objects go next, and nobody finds it meanwhile."""
    await tx.execute(_DROP_CONTENT, enterprise_id, content_id, f"dropping:{content_id}")


async def hand_over(tx: Transaction, enterprise_id: int, lost_id: int, content_id: int) -> None:
    """Files whose content has lost its object have this one from now on, which is the same."""
    await tx.execute(_HAND_OVER, enterprise_id, lost_id, content_id)


# --- files ------------------------------------------------------------------------------------------------------------


async def insert_file(
    tx: Transaction, *, file_id: int, enterprise_id: int, person_id: int, key: str, content_id: int, name: str,
    size_bytes: int, declared_type: str | None, kind: str | None, state: str, sha256: bytes | None,
    sm3: bytes | None, now: datetime,
) -> None:  # fmt: skip
    """A new file. Raises `UniqueViolation` where the person used the key before."""
    await tx.execute(
        _INSERT_FILE, file_id, enterprise_id, person_id, key, content_id, name, size_bytes, declared_type, kind,
        state, sha256, sm3, now, None if state == CHECKING else now,
    )  # fmt: skip


async def insert_files(tx: Transaction, rows: Sequence[NewFile]) -> None:
    """New files. Raises `UniqueViolation` where one of these people used the key before."""
    ordered = sorted(rows, key=lambda row: (row.enterprise_id, row.person_id, row.upload_key))
    await tx.insert_many("files_files", NewFile._fields, ordered)


async def settle(
    tx: Transaction, enterprise_id: int, file_id: int, *, state: str, reason: str | None, content_id: int,
    cleaned: bool, sha256: bytes | None, kind: str | None, now: datetime,
) -> None:  # fmt: skip
    """What came of checking it."""
    await tx.execute(
        _SETTLE, enterprise_id, file_id, state, reason, content_id, int(cleaned), sha256, kind, now
    )


async def set_state(tx: Transaction, enterprise_id: int, file_id: int, state: str, now: datetime) -> None:
    """Another state."""
    await tx.execute(_SET_STATE, enterprise_id, file_id, state, now)


async def by_keys(tx: Queries, enterprise_id: int, person_id: int, keys: Sequence[str]) -> dict[str, Record]:
    """The files that somebody's keys made, by key."""
    return {row["upload_key"]: row for row in await tx.fetch_in(_BY_KEYS, keys, enterprise_id, person_id)}


async def files(tx: Queries, enterprise_id: int, file_ids: Sequence[int]) -> dict[int, Record]:
    """Files with their contents, by id."""
    return {row["file_id"]: row for row in await tx.fetch_in(_FILES, file_ids, enterprise_id)}


async def lock_files(tx: Transaction, enterprise_id: int, file_ids: Sequence[int]) -> dict[int, Record]:
    """Owner and state of files, by id; nobody takes them away before the transaction ends."""
    return {row["file_id"]: row for row in await tx.fetch_in(_LOCK_FILES, sorted(file_ids), enterprise_id)}


async def of_person(tx: Queries, enterprise_id: int, person_id: int, before: int, limit: int) -> list[Record]:
    """What somebody uploaded, the newest first, below an id."""
    return await tx.fetch(_OF_PERSON, enterprise_id, person_id, before, limit)


async def anywhere(tx: Queries, person_id: int) -> list[Record]:
    """The newest of what somebody uploaded, in whichever enterprises, as a copy of their data tells it."""
    return await tx.fetch(_ANYWHERE, person_id)


async def checking(db: Queries, before: datetime, limit: int) -> list[tuple[int, int]]:
    """(file, enterprise) of files that have waited to be checked since before."""
    return [(row[0], row[1]) for row in await db.fetch(_CHECKING, before, limit)]


# --- variants ---------------------------------------------------------------------------------------------------------


async def insert_variant(
    tx: Transaction, *, content_id: int, variant: str, enterprise_id: int, object_id: int, media_type: str,
    size_bytes: int, wrapped_key: bytes | None,
) -> None:  # fmt: skip
    """What was made of a content."""
    await tx.execute(
        _INSERT_VARIANT, content_id, variant, enterprise_id, object_id, media_type, size_bytes, wrapped_key
    )


async def variants(tx: Queries, enterprise_id: int, content_ids: Sequence[int]) -> dict[int, list[Record]]:
    """What there is beside these contents, by content."""
    found: dict[int, list[Record]] = {}
    for row in await tx.fetch_in(_VARIANTS, content_ids, enterprise_id):
        found.setdefault(row["content_id"], []).append(row)
    return found


# --- attachments ------------------------------------------------------------------------------------------------------


async def attach(tx: Transaction, rows: Sequence[tuple[int, str, int, int, int]]) -> None:
    """(file, holder, holder id, position, enterprise) of what refers to files from now on."""
    await tx.executemany(_ATTACH, rows)


async def attached(tx: Queries, enterprise_id: int, file_ids: Sequence[int]) -> list[Record]:
    """Everything that refers to these files."""
    return await tx.fetch_in(_ATTACHED, file_ids, enterprise_id)


async def release(
    tx: Transaction, enterprise_id: int, holder: str, holder_id: int, position: int | None
) -> int:
    """It refers to nothing any more, at this position or (None) at all; how many there were."""
    if position is None:
        return await tx.execute(_RELEASE_ALL, enterprise_id, holder, holder_id)
    return await tx.execute(_RELEASE, enterprise_id, holder, holder_id, position)


async def release_files(
    tx: Transaction, enterprise_id: int, holder: str, holder_id: int, file_ids: Sequence[int]
) -> int:
    """It refers to these no more; how many there were."""
    return await tx.execute_in(_RELEASE_FILES, file_ids, enterprise_id, holder, holder_id)


async def enterprise_of_entry(tx: Transaction, stream_id: int, seq: int) -> int | None:
    """Whose files an entry refers to; None where it refers to none."""
    found = await tx.fetchval(_ENTERPRISE, stream_id, seq)
    return None if found is None else int(found)


async def hold_back(tx: Transaction, enterprise_id: int, stream_id: int, seq: int) -> None:
    """An entry refers to its files no more, but they are held: keep the references out of sight."""
    await tx.execute(_HOLD_BACK, enterprise_id, stream_id, seq)


async def held_streams(tx: Transaction, enterprise_id: int) -> list[int]:
    """Streams with references that were held back."""
    return [row[0] for row in await tx.fetch(_HELD_STREAMS, enterprise_id)]
