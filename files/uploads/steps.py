"""What the actions of uploads share: room, one's own upload and how it is told, its end, and the file it becomes."""

from __future__ import annotations

import contextlib
from datetime import timedelta

from core.actions import Context
from core.clock import to_ms
from core.db import Record
from core.errors import Conflict, NotFound
from core.failpoints import failpoint
from files.api import (
    Allowance,
    File,
    Upload,
)
from files.library import store as library
from files.library.keeping import Arrived, add_file
from files.parts import service, shown
from files.room import store as room
from files.room.actions import limits
from files.sealing.sealer import ObjectKey
from files.storage.keys import content_key, tail_key
from files.uploads import rules, store


async def allowance(ctx: Context, name: str, size_bytes: int) -> Allowance:
    """What may come, by name and size, now. Raises `Invalid` and `Forbidden` for what may not."""
    clean, max_bytes = rules.named(name, ctx.runtime.settings.files_max_bytes)
    (own, _), (of_all, _) = await room.used(ctx.tx, ctx.enterprise_id, ctx.caller.person_id)
    quota, quota_of_all, own_key = await limits(ctx)
    rules.room(
        size_bytes, max_bytes=max_bytes, used=own, quota=quota, used_by_all=of_all, quota_of_all=quota_of_all
    )
    return Allowance(
        name=clean, max_bytes=max_bytes, left_bytes=min(quota - own, quota_of_all - of_all), own_key=own_key
    )


async def take_room(ctx: Context, size_bytes: int) -> None:
    """Book the room for a file, exactly. Raises `Forbidden`.

    Last in a transaction: from here to its commit everybody else of the enterprise waits.
    """
    quota, quota_of_all, _ = await limits(ctx)
    person_id = ctx.caller.person_id
    if not await room.take(ctx.tx, ctx.enterprise_id, person_id, size_bytes, quota):
        (own, _), _ = await room.used(ctx.tx, ctx.enterprise_id, person_id)
        raise rules.full("person", quota - own)
    if not await room.take(ctx.tx, ctx.enterprise_id, room.EVERYBODY, size_bytes, quota_of_all):
        _, (of_all, _) = await room.used(ctx.tx, ctx.enterprise_id, person_id)
        raise rules.full("enterprise", quota_of_all - of_all)


async def mine(ctx: Context, upload_id: int, person_id: int | None = None) -> Record:
    """An upload of the caller's, or, for the clean-up, of `person_id`; locked. Raises `NotFound`."""
    whose = ctx.caller.person_id if person_id is None else person_id
    row = await store.lock(ctx.tx, upload_id, ctx.enterprise_id, whose)
    if row is None:
        raise NotFound("no such upload")
    return row


async def told(ctx: Context, row: Record, sizes: dict[int, int] | None = None) -> Upload:
    if sizes is None:
        found = await store.parts(ctx.tx, row["upload_id"], row["enterprise_id"])
        sizes = {part["part_no"]: part["size_bytes"] for part in found}
    over = row["state"] in (rules.DONE, rules.FINISHING)
    life = timedelta(seconds=ctx.runtime.settings.files_upload_life_s)
    return Upload(
        upload_id=row["upload_id"],
        way=row["way"],
        name=row["name"],
        size_bytes=row["size_bytes"],
        received_bytes=row["size_bytes"] if over else rules.received(sizes, row["tail_bytes"]),
        part_bytes=row["part_bytes"],
        state=row["state"],
        file_id=row["file_id"],
        expires_ms=to_ms(row["created_at"] + life),
    )


def is_whole(row: Record, upload: Upload) -> bool:
    return upload.received_bytes == row["size_bytes"] and not row["tail_bytes"]


async def file_of(ctx: Context, file_id: int) -> File:
    row = (await library.files(ctx.tx, ctx.enterprise_id, [file_id]))[file_id]
    return (await shown(ctx, [row]))[0]


async def give_up(ctx: Context, row: Record) -> None:
    """End an upload that is locked: its room is free, its objects go after the commit."""
    await store.set_state(
        ctx.tx, row["upload_id"], row["enterprise_id"], rules.ABORTED, None, ctx.clock.now()
    )
    await store.drop_parts(ctx.tx, row["upload_id"], row["enterprise_id"])
    await room.add(ctx.tx, row["enterprise_id"], row["person_id"], -row["size_bytes"], -1)
    ctx.audit(object=row["upload_id"])
    bucket = service(ctx).bucket

    async def forget() -> None:
        await bucket.abort(content_key(row["object_id"]), row["multipart"])
        if row["tail_bytes"]:
            await bucket.delete([tail_key(row["upload_id"], row["tail_epoch"])])

    ctx.after_commit(lambda: service(ctx).soon(forget()))


async def make_whole(
    ctx: Context, upload_id: int, *, kind: str | None, sha256: bytes | None, person_id: int | None = None
) -> File:
    """Have the store put the parts together, then write the file; killed between the two, the next one goes on."""
    row, parts = await ctx.transact(_with_parts, upload_id, person_id)
    if row["state"] == rules.DONE:
        return await ctx.transact(file_of, row["file_id"])
    bucket, key = service(ctx).bucket, content_key(row["object_id"])
    size = row["size_bytes"] if row["wrapped_key"] is None else ObjectKey.stored_bytes(row["size_bytes"])
    try:
        with contextlib.suppress(NotFound):  # it was done before
            await bucket.complete(key, row["multipart"], parts)
        whole = await bucket.size(key) == size
    except Conflict:
        whole = False
    if not whole:
        await ctx.transact(_lost, upload_id, person_id)
        raise Conflict("the store has lost this upload: begin again")
    await failpoint("files.whole_before_row")
    return await ctx.transact(_done, upload_id, kind, sha256, person_id)


async def _lost(ctx: Context, upload_id: int, person_id: int | None) -> None:
    row = await mine(ctx, upload_id, person_id)
    if row["state"] == rules.FINISHING:
        await give_up(ctx, row)


async def _with_parts(
    ctx: Context, upload_id: int, person_id: int | None
) -> tuple[Record, list[tuple[int, str]]]:
    row = await mine(ctx, upload_id, person_id)
    found = await store.parts(ctx.tx, upload_id, ctx.enterprise_id)
    return row, [(part["part_no"], part["etag"]) for part in found]


async def _done(
    ctx: Context, upload_id: int, kind: str | None, sha256: bytes | None, person_id: int | None
) -> File:
    row = await mine(ctx, upload_id, person_id)
    if row["state"] == rules.DONE:
        return await file_of(ctx, row["file_id"])
    rules.same_digest("sha-256", row["sha256_digest"] if sha256 is not None else None, sha256)
    file_id = await add_file(
        ctx,
        Arrived(
            person_id=row["person_id"], object_id=row["object_id"], name=row["name"], size_bytes=row["size_bytes"],
            declared_type=row["declared_type"], kind=kind, sha256=sha256, declared_sha256=row["sha256_digest"],
            sm3=row["sm3_digest"], wrapped_key=row["wrapped_key"], key=f"upload-{upload_id}",
        ),
    )  # fmt: skip
    await store.set_state(ctx.tx, upload_id, ctx.enterprise_id, rules.DONE, file_id, ctx.clock.now())
    await store.drop_parts(ctx.tx, upload_id, ctx.enterprise_id)
    ctx.audit(object=file_id)
    return await file_of(ctx, file_id)
