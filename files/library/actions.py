"""Files as people see them: looked at, linked to, attached, taken back."""

from __future__ import annotations

from urllib.parse import quote

import orjson

from core.actions import INTERNAL, Context, Rate, action
from core.db import Record
from core.errors import Conflict, NotFound
from core.keys import cluster_secret, derive
from files.api import (
    FILES_READ,
    FILES_SEND,
    ArchiveEntry,
    Attach,
    File,
    Files,
    GetFiles,
    Link,
    ListEntries,
    ListFiles,
    Locate,
    MakeLinks,
    Place,
    Release,
    RemoveFile,
    Settled,
)
from files.inspection.kinds import BY_NAME, name_as
from files.library import rules, store
from files.parts import permit_still, service, shown, visible
from files.retention import store as retention
from files.room import store as room

_READ = Rate(burst=200, per_s=20)
_NEWEST = (1 << 63) - 1
DOOR = "/files/"


@action(GetFiles, needs=FILES_READ, audited=False, limit=_READ)
async def get(ctx: Context, command: GetFiles) -> list[File]:
    """These files, as far as they are there and one's own to see."""
    rows = await _seen(ctx, command.file_ids)
    return await shown(ctx, rows)


@action(ListFiles, needs=FILES_READ, audited=False, limit=_READ)
async def mine(ctx: Context, command: ListFiles) -> Files:
    """What one has uploaded, the newest first."""
    before = _NEWEST if command.before is None else command.before
    rows = await store.of_person(ctx.tx, ctx.enterprise_id, ctx.caller.person_id, before, command.limit)
    found = await shown(ctx, rows)
    return Files(files=found, next=found[-1].file_id if len(found) == command.limit else None)


@action(MakeLinks, needs=FILES_READ, audited=False, limit=_READ)
async def links(ctx: Context, command: MakeLinks) -> list[Link]:
    """Short-lived addresses of files one may see."""
    settings = ctx.runtime.settings
    secret = link_secret(ctx)
    expires_s = ctx.clock.now_ms() // 1000 + int(settings.files_link_s)
    base = (settings.files_public_url or "").rstrip("/")
    made = []
    for file in await shown(ctx, await _seen(ctx, command.file_ids)):
        if command.variant not in file.variants:
            continue
        allowed = rules.Pass(
            file.file_id, command.variant, ctx.enterprise_id, ctx.caller.person_id, expires_s, command.inline
        )
        url = f"{base}{DOOR}open/{rules.sign(secret, allowed)}/{quote(file.name, safe='')}"
        made.append(Link(file_id=file.file_id, variant=command.variant, url=url, expires_ms=expires_s * 1000))
    return made


@action(RemoveFile, needs=FILES_SEND, limit=_READ)
async def remove(ctx: Context, command: RemoveFile) -> None:
    """Take back a file of one's own that nothing refers to; its bytes go with the next clean-up."""
    row = (await store.lock_files(ctx.tx, ctx.enterprise_id, [command.file_id])).get(command.file_id)
    if row is None or row["person_id"] != ctx.caller.person_id or row["state"] == store.REMOVED:
        raise NotFound("no such file of yours")
    if await store.attached(ctx.tx, ctx.enterprise_id, [command.file_id]):
        raise Conflict("something refers to this file: take that back")
    if await retention.held(ctx.tx, ctx.enterprise_id, row["person_id"], command.file_id):
        raise Conflict("this file is on hold")
    full = (await store.files(ctx.tx, ctx.enterprise_id, [command.file_id]))[command.file_id]
    await store.set_state(ctx.tx, ctx.enterprise_id, command.file_id, store.REMOVED, ctx.clock.now())
    if row["state"] != store.QUARANTINED:  # else it was given back then
        await room.add(ctx.tx, ctx.enterprise_id, row["person_id"], -full["size_bytes"], -1)
    ctx.audit(object=command.file_id)
    ctx.after_commit(service(ctx).sweep_soon)


@action(ListEntries, needs=FILES_READ, audited=False, limit=_READ)
async def entries(ctx: Context, command: ListEntries) -> list[ArchiveEntry]:
    """What is in an archive, as its directory says; nothing is unpacked."""
    rows = await _seen(ctx, [command.file_id])
    if not rows or rows[0]["state"] != store.READY:
        raise NotFound("no such file")
    facts = orjson.loads(rows[0]["facts"] or b"{}")
    return [ArchiveEntry(**item) for item in facts.get("items", ())]


async def _seen(ctx: Context, file_ids: list[int]) -> list[Record]:
    """In the order asked for; what is not there, not visible or taken back is left out."""
    found = await store.files(ctx.tx, ctx.enterprise_id, list(dict.fromkeys(file_ids)))
    there = {i: row for i, row in found.items() if row["state"] != store.REMOVED}
    seen = await visible(ctx, list(there.values()))
    return [there[i] for i in dict.fromkeys(file_ids) if i in seen]


def link_secret(ctx: Context) -> bytes:
    """What addresses are signed with; the same in every process."""
    return derive(cluster_secret(ctx.runtime.settings), "file addresses")


# --- for the doors ----------------------------------------------------------------------------------------------------


@action(Locate, needs=INTERNAL, audited=False)
async def locate(ctx: Context, command: Locate) -> Place:
    """Where the bytes are; for a person who may see the file now, or an address that was made for one."""
    if not command.visible:
        await permit_still(ctx, FILES_READ)
    found = await store.files(ctx.tx, ctx.enterprise_id, [command.file_id])
    row = found.get(command.file_id)
    if row is None or row["state"] != store.READY:
        raise NotFound("no such file")
    if not command.visible and not await visible(ctx, [row]):
        raise NotFound("no such file")
    kind = BY_NAME[row["kind"]]
    name = name_as(row["name"], kind)
    if command.variant == "original":
        return Place(
            object_id=row["object_id"], size_bytes=row["stored_bytes"], media_type=kind.media_type, name=name,
            digest=row["sha256_digest"], wrapped_key=row["wrapped_key"], inline=kind.inline,
        )  # fmt: skip
    made = (await store.variants(ctx.tx, ctx.enterprise_id, [row["content_id"]])).get(row["content_id"], [])
    for one in made:
        if one["variant"] == command.variant:
            return Place(
                object_id=one["object_id"], size_bytes=one["size_bytes"], media_type=one["media_type"],
                name=name.rpartition(".")[0] + "." + one["media_type"].partition("/")[2],
                digest=row["sha256_digest"], wrapped_key=one["wrapped_key"], inline=True,
            )  # fmt: skip
    raise NotFound("no such variant")


@action(Settled, needs=INTERNAL, audited=False, transaction=False)
async def settled(ctx: Context, command: Settled) -> File:
    """The file when it has been checked, or as it is when the time is over."""
    until = ctx.clock.monotonic_s() + command.wait_s
    while True:
        file = await ctx.transact(_own, command.file_id)
        left_s = until - ctx.clock.monotonic_s()
        if file.state != "checking" or left_s <= 0:
            return file
        await service(ctx).settles(command.file_id, min(left_s, 0.5))


async def _own(ctx: Context, file_id: int) -> File:
    row = (await store.files(ctx.tx, ctx.enterprise_id, [file_id])).get(file_id)
    if row is None or row["person_id"] != ctx.caller.person_id:
        raise NotFound("no such file")
    return (await shown(ctx, [row]))[0]


# --- for other services -----------------------------------------------------------------------------------------------


@action(Attach, needs=INTERNAL)
async def attach(ctx: Context, command: Attach) -> None:
    """Something refers to files that the caller may see; they stay as long as it does. Again: nothing new."""
    rows = await store.files(ctx.tx, ctx.enterprise_id, command.file_ids)
    seen = await visible(ctx, list(rows.values()))
    missing = [i for i in command.file_ids if i not in seen]
    if missing:
        raise NotFound("no such file", detail={"file_ids": [str(i) for i in missing]})
    locked = await store.lock_files(ctx.tx, ctx.enterprise_id, command.file_ids)
    waiting = [i for i, row in locked.items() if row["state"] != store.READY]
    if waiting:
        raise Conflict("not ready to be attached", detail={"file_ids": [str(i) for i in waiting]})
    place = (command.holder, command.holder_id, command.position)
    before = {
        row["file_id"]
        for row in await store.attached(ctx.tx, ctx.enterprise_id, command.file_ids)
        if (row["holder"], row["holder_id"], row["position"]) == place
    }
    fresh = [i for i in dict.fromkeys(command.file_ids) if i not in before]
    if fresh:
        await store.attach(ctx.tx, [(i, *place, ctx.enterprise_id) for i in fresh])
    ctx.audit(object=command.holder_id)


@action(Release, needs=INTERNAL)
async def release(ctx: Context, command: Release) -> None:
    """It does not refer to them any more."""
    if command.file_ids is None:
        await store.release(ctx.tx, ctx.enterprise_id, command.holder, command.holder_id, command.position)
    else:
        await store.release_files(
            ctx.tx, ctx.enterprise_id, command.holder, command.holder_id, command.file_ids
        )
    ctx.audit(object=command.holder_id)
