"""What lies in the store becomes a file: at once where nothing has to be looked into, else when it has been checked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from core.context import Context
from core.db import Contention, Record, UniqueViolation
from core.errors import Unavailable
from files.inspection.kinds import BY_NAME, Work
from files.library import store
from files.parts import service
from files.sealing.sealer import ObjectKey
from files.storage.keys import content_key

log = structlog.get_logger(__name__)

_LOOK_S: Final = 5.0  # the store answers a HEAD in some milliseconds


@dataclass(frozen=True, slots=True)
class Arrived:
    """A whole object, and what is known of it. `sha256` and `kind` None: nobody has seen its bytes on the way."""

    person_id: int  # whose it becomes
    object_id: int
    name: str
    size_bytes: int
    declared_type: str | None
    kind: str | None
    sha256: bytes | None
    sm3: bytes | None  # as declared
    wrapped_key: bytes | None
    key: str | None
    declared_sha256: bytes | None = None  # where nobody has seen the bytes


async def add_file(ctx: Context, came: Arrived) -> int:
    """The file's id; the row is there when the transaction ends, and what is to be checked is checked after it.

    Raises `UniqueViolation` where the caller's key made a file before.
    """
    tx, enterprise_id, now = ctx.tx, ctx.enterprise_id, ctx.clock.now()
    file_id, content_id = ctx.ids.next(), ctx.ids.next()
    known = came.sha256 is not None and came.kind is not None
    at_once = known and not service(ctx).checks(BY_NAME[came.kind or ""].work)
    found = await store.content(tx, enterprise_id, _identity(came)) if known else None
    # what no scanner has seen says nothing of what comes now that there is one: this is scanned, and so that is
    lost = found is not None and not await is_there(ctx, found)
    unseen = found is not None and found["scanned"] is None and service(ctx).scans
    same = int(found["content_id"]) if found is not None and not lost and not unseen else None
    settled = at_once or same is not None
    if same is None and at_once:
        if found is not None:
            await store.drop_content(tx, enterprise_id, found["content_id"])
        try:
            await _insert(ctx, content_id, came, store.KEPT, _identity(came))
        except (
            UniqueViolation
        ) as error:  # somebody else has brought the same at this moment: it is found next time
            raise Contention("the same has come twice at once", retry_ms=50) from error
        if found is not None:
            await store.hand_over(tx, enterprise_id, found["content_id"], content_id)
    elif same is None:
        await _insert(ctx, content_id, came, store.RAW, f"raw:{content_id}")
    if same is not None:
        await _insert(ctx, content_id, came, store.DROPPING, f"dropping:{content_id}")
        ctx.after_commit(service(ctx).sweep_soon)
    await store.insert_file(
        tx, file_id=file_id, enterprise_id=enterprise_id, person_id=came.person_id,
        key=came.key or f"file-{file_id}", content_id=content_id if same is None else same, name=came.name,
        size_bytes=came.size_bytes, declared_type=came.declared_type, kind=came.kind,
        state=store.READY if settled else store.CHECKING, sha256=came.sha256 or came.declared_sha256, sm3=came.sm3,
        now=now,
    )  # fmt: skip
    if not settled:
        ctx.after_commit(lambda: service(ctx).check_soon(file_id, enterprise_id))
    return file_id


async def _insert(ctx: Context, content_id: int, came: Arrived, state: str, identity: str) -> None:
    await store.insert_content(
        ctx.tx, content_id=content_id, enterprise_id=ctx.enterprise_id, identity=identity, state=state,
        object_id=came.object_id, size_bytes=came.size_bytes, sha256=came.sha256, facts=None,
        wrapped_key=came.wrapped_key, now=ctx.clock.now(),
    )  # fmt: skip


async def is_there(ctx: Context, content: Record) -> bool:
    """Whether the store has what this content is made of, as long as it should be: asked before the same that came is
    thrown away. What is lost is healed by what came (`store.hand_over`). Raises `Unavailable`."""
    size, object_id = int(content["size_bytes"]), int(content["object_id"])
    expected = size if content["wrapped_key"] is None else ObjectKey.stored_bytes(size)
    try:
        async with asyncio.timeout(_LOOK_S):  # rows are locked meanwhile
            found = await service(ctx).bucket.size(content_key(object_id))
    except TimeoutError as error:
        raise Unavailable("the object store is slow to answer", retry_ms=1000) from error
    if found == expected:
        return True
    log.error(
        "files.lost", enterprise_id=ctx.enterprise_id, content_id=content["content_id"], key=content_key(object_id),
        expected=expected, found=found,
    )  # fmt: skip
    return False


def _identity(came: Arrived) -> str:
    assert came.sha256 is not None
    return store.identity_of(came.sha256, came.size_bytes, came.kind, own_key=came.wrapped_key is not None)


def looked_into(kind: str | None) -> bool:
    """Whether files of this kind are opened before anybody sees them."""
    return kind is None or BY_NAME[kind].work is not Work.NONE
