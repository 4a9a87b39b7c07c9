"""Uploads: whether one may come, how far it is, and what it becomes."""

from __future__ import annotations

from core.actions import INTERNAL, Context, Rate, action
from core.db import Record
from core.errors import Conflict, Forbidden, Invalid, NotFound, TooManyRequests
from files.api import (
    FILES_SEND,
    AbortUpload,
    Advance,
    Allowance,
    BeginUpload,
    CheckUpload,
    Claim,
    Complete,
    EndUpload,
    File,
    FinishUpload,
    GetUpload,
    Keep,
    PartAddress,
    SignParts,
    Ticket,
    Upload,
)
from files.parts import permit_still, service
from files.storage.keys import content_key
from files.uploads import rules, store
from files.uploads.steps import allowance, file_of, give_up, is_whole, make_whole, mine, take_room, told

_BEGIN = Rate(burst=60, per_s=2)


# --- may it come ------------------------------------------------------------------------------------------------------


@action(CheckUpload, needs=FILES_SEND, audited=False, limit=rules.CHECK)
async def check(ctx: Context, command: CheckUpload) -> Allowance:
    """Whether a file of this name and size may be uploaded now."""
    return await allowance(ctx, command.name, command.size_bytes)


# --- in one request ---------------------------------------------------------------------------------------------------


@action(Keep, needs=INTERNAL, transaction=False)
async def keep(ctx: Context, command: Keep) -> File:
    """What a request has brought whole becomes a file; the same key is the same file."""
    return await service(ctx).keeper.keep(ctx, command)


# --- in parts ---------------------------------------------------------------------------------------------------------


@action(BeginUpload, needs=FILES_SEND, transaction=False, limit=_BEGIN)
async def begin(ctx: Context, command: BeginUpload) -> Upload:
    """Begin an upload in parts. Its room is booked now, and given back if it is given up."""
    if command.way == "direct" and command.sha256 is None:
        raise Invalid("a direct upload says its SHA-256 beforehand")
    if command.way == "direct" and ctx.runtime.settings.files_direct_url is None:
        raise Forbidden("the store is not reached from outside here: upload through us")
    allowed = await ctx.transact(_may_begin, command)
    if command.way == "direct" and allowed.own_key:
        raise Forbidden("this enterprise's files are encrypted on their way: upload through us")
    object_id, bucket = ctx.ids.next(), service(ctx).bucket
    wrapped_key = (
        service(ctx).sealer.new_key(ctx.enterprise_id, object_id).wrapped if allowed.own_key else None
    )
    multipart = await bucket.begin(content_key(object_id))
    return await ctx.transact(_insert, command, allowed.name, object_id, multipart, wrapped_key)


async def _may_begin(ctx: Context, command: BeginUpload) -> Allowance:
    under_way = await store.open_of(ctx.tx, ctx.enterprise_id, ctx.caller.person_id)
    if under_way >= ctx.runtime.settings.files_uploads_open:
        raise TooManyRequests("too many uploads are under way", detail={"open": under_way})
    return await allowance(ctx, command.name, command.size_bytes)


async def _insert(
    ctx: Context, command: BeginUpload, name: str, object_id: int, multipart: str, wrapped_key: bytes | None
) -> Upload:
    upload_id = ctx.ids.next()
    await store.insert(
        ctx.tx, upload_id=upload_id, enterprise_id=ctx.enterprise_id, person_id=ctx.caller.person_id,
        way=command.way, name=name, declared_type=command.media_type, size_bytes=command.size_bytes,
        part_bytes=rules.part_bytes(command.size_bytes), sha256=command.sha256, sm3=command.sm3,
        object_id=object_id, multipart=multipart, wrapped_key=wrapped_key, now=ctx.clock.now(),
    )  # fmt: skip
    ctx.audit(object=upload_id)
    upload = await told(ctx, await mine(ctx, upload_id))
    await take_room(ctx, command.size_bytes)
    return upload


@action(GetUpload, needs=FILES_SEND, audited=False, limit=rules.CHECK)
async def get(ctx: Context, command: GetUpload) -> Upload:
    """How far an upload of one's own is."""
    row = await store.get(ctx.tx, command.upload_id, ctx.enterprise_id, ctx.caller.person_id)
    if row is None:
        raise NotFound("no such upload")
    return await told(ctx, row)


@action(SignParts, needs=FILES_SEND, audited=False, limit=rules.CHECK)
async def sign_parts(ctx: Context, command: SignParts) -> list[PartAddress]:
    """Addresses for parts of a direct upload, each for one part of one length, for a few minutes."""
    row = await store.get(ctx.tx, command.upload_id, ctx.enterprise_id, ctx.caller.person_id)
    if row is None or row["way"] != "direct":
        raise NotFound("no such direct upload")
    rules.may_write(row["state"], 0, 0, row["size_bytes"], 0)
    settings = ctx.runtime.settings
    expires_ms = ctx.clock.now_ms() + int(settings.files_link_s * 1000)
    return [
        PartAddress(
            number=number,
            size_bytes=(size := rules.part_size(number, row["size_bytes"], row["part_bytes"])),
            url=service(ctx).bucket.part_url(
                content_key(row["object_id"]), row["multipart"], number, size, int(settings.files_link_s),
                endpoint=settings.files_direct_url,
            ),
            expires_ms=expires_ms,
        )
        for number in command.numbers
    ]  # fmt: skip


@action(FinishUpload, needs=FILES_SEND, transaction=False, limit=_BEGIN)
async def finish(ctx: Context, command: FinishUpload) -> File:
    """All parts of a direct upload are stored: read what is there, then it is a file or is refused."""
    row = await ctx.transact(mine, command.upload_id)
    if row["state"] == rules.DONE:
        return await ctx.transact(file_of, row["file_id"])
    if row["way"] != "direct" or row["state"] not in (rules.OPEN, rules.FINISHING):
        raise Conflict("this upload is not finished in this way", detail={"state": row["state"]})
    if row["state"] == rules.OPEN:
        key, multipart = content_key(row["object_id"]), row["multipart"]
        stored = await service(ctx).bucket.parts(key, multipart)
        count = -(-row["size_bytes"] // row["part_bytes"])
        expected = [rules.part_size(n, row["size_bytes"], row["part_bytes"]) for n in range(1, count + 1)]
        if [part.size_bytes for part in stored] != expected or [p.number for p in stored] != list(
            range(1, count + 1)
        ):
            raise Conflict(
                "parts are missing", detail={"stored": [part.number for part in stored], "parts": count}
            )
        await ctx.transact(_note_parts, row, [(p.number, p.size_bytes, p.etag) for p in stored])
    return await make_whole(ctx, row["upload_id"], kind=None, sha256=None)


async def _note_parts(ctx: Context, row: Record, parts: list[tuple[int, int, str]]) -> None:
    now, again = ctx.clock.now(), await mine(ctx, row["upload_id"])
    if again["state"] != rules.OPEN:
        return  # another request was faster
    await store.drop_parts(ctx.tx, row["upload_id"], ctx.enterprise_id)
    for number, size_bytes, etag in parts:
        await store.add_part(ctx.tx, row["upload_id"], ctx.enterprise_id, number, size_bytes, etag)
    await store.set_state(ctx.tx, row["upload_id"], ctx.enterprise_id, rules.FINISHING, None, now)


@action(AbortUpload, needs=FILES_SEND, limit=_BEGIN)
async def abort(ctx: Context, command: AbortUpload) -> None:
    """Give an upload up. What was stored of it goes at once, or with the next clean-up."""
    row = await mine(ctx, command.upload_id)
    if row["state"] == rules.ABORTED:
        return
    if row["state"] != rules.OPEN:
        raise Conflict("this upload is over", detail={"state": row["state"]})
    await give_up(ctx, row)


# --- what the door says of it -----------------------------------------------------------------------------------------


@action(EndUpload, needs=INTERNAL, transaction=False)
async def end(ctx: Context, command: EndUpload) -> None:
    """Nobody goes on with it: what is whole becomes a file, what is not is given up."""
    if await ctx.transact(_end, command):
        await make_whole(ctx, command.upload_id, kind=None, sha256=None, person_id=command.person_id)


async def _end(ctx: Context, command: EndUpload) -> bool:
    row = await mine(ctx, command.upload_id, command.person_id)
    if row["state"] == rules.OPEN and row["way"] == "tus" and is_whole(row, await told(ctx, row)):
        await store.set_state(
            ctx.tx, row["upload_id"], ctx.enterprise_id, rules.FINISHING, None, ctx.clock.now()
        )
        return True
    if row["state"] == rules.OPEN:
        await give_up(ctx, row)
    return bool(row["state"] == rules.FINISHING)


@action(Claim, needs=INTERNAL, audited=False, transaction=False)
async def claim(ctx: Context, command: Claim) -> Ticket:
    """Become the writer of an upload: whoever wrote before can note nothing any more. Its end is what is audited."""
    return await ctx.transact(_claim, command)


async def _claim(ctx: Context, command: Claim) -> Ticket:
    await permit_still(ctx, FILES_SEND)
    upload_id = command.upload_id
    row = await mine(ctx, upload_id)
    if row["way"] != "tus":
        raise NotFound("no such upload")
    found = await store.parts(ctx.tx, upload_id, ctx.enterprise_id)
    upload = await told(ctx, row, {part["part_no"]: part["size_bytes"] for part in found})
    if row["state"] == rules.OPEN and command.offset == upload.received_bytes:
        await store.claim(ctx.tx, upload_id, ctx.enterprise_id, ctx.clock.now())
    return Ticket(
        upload=upload,
        object_id=row["object_id"],
        multipart=row["multipart"],
        epoch=row["epoch"] + 1,
        next_part=len(found) + 1,
        tail_bytes=row["tail_bytes"],
        tail_epoch=row["tail_epoch"],
        wrapped_key=row["wrapped_key"],
        sha256=row["sha256_digest"],
        sm3=row["sm3_digest"],
        media_type=row["declared_type"],
    )


@action(Advance, needs=INTERNAL, audited=False, transaction=False)
async def advance(ctx: Context, command: Advance) -> Upload:
    """One more part, or another tail, is stored."""
    return await ctx.transact(_advance, command)


async def _advance(ctx: Context, command: Advance) -> Upload:
    row = await mine(ctx, command.upload_id)
    still_writing(row, command.epoch)
    if command.part is not None:
        if command.part != len(await store.parts(ctx.tx, row["upload_id"], ctx.enterprise_id)) + 1:
            raise Conflict("a part is missing before this one", detail={"part": command.part})
        await store.add_part(
            ctx.tx, row["upload_id"], ctx.enterprise_id, command.part, command.size_bytes, command.etag or ""
        )
    await store.advance(ctx.tx, row["upload_id"], ctx.enterprise_id, command.tail_bytes, ctx.clock.now())
    return await told(ctx, await mine(ctx, command.upload_id))


def still_writing(row: Record, epoch: int) -> None:
    """Raises `Conflict` where somebody else has taken the upload over, or it is over."""
    if row["state"] != rules.OPEN or row["epoch"] != epoch:
        raise Conflict("the upload goes on elsewhere", detail={"state": row["state"]})


@action(Complete, needs=INTERNAL, transaction=False)
async def complete(ctx: Context, command: Complete) -> File:
    """Everything of a resumable upload is stored: it becomes a file. Again: the same file."""
    row = await ctx.transact(_finishing, command)
    if row["state"] == rules.DONE:
        return await ctx.transact(file_of, row["file_id"])
    alone = (
        row["epoch"] == command.epoch == 1
    )  # else an earlier writer may have written over a part: the store is asked what it has
    return await make_whole(
        ctx, command.upload_id, kind=command.kind if alone else None, sha256=command.sha256 if alone else None
    )


async def _finishing(ctx: Context, command: Complete) -> Record:
    await permit_still(ctx, FILES_SEND)
    row = await mine(ctx, command.upload_id)
    if row["state"] == rules.OPEN:
        upload = await told(ctx, row)
        if not is_whole(row, upload):
            raise Conflict("not everything is stored", detail={"received_bytes": str(upload.received_bytes)})
        await store.set_state(
            ctx.tx, row["upload_id"], ctx.enterprise_id, rules.FINISHING, None, ctx.clock.now()
        )
    elif row["state"] == rules.ABORTED:
        raise Conflict("this upload is over", detail={"state": row["state"]})
    return row
