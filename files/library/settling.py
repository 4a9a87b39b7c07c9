"""What came of looking into a file, written in one transaction: its state, its content, and the word to its sender."""

from __future__ import annotations

import orjson

from core.actions import INTERNAL, Context, action
from core.db import Record, UniqueViolation
from core.errors import Internal
from files import api
from files.api import Condemn, FileSettled, Settle
from files.inspection.kinds import BY_NAME, name_as
from files.library import store
from files.library.keeping import is_there
from files.parts import service
from files.room import store as room
from hub import api as hub


@action(Settle, needs=INTERNAL)
async def settle(ctx: Context, command: Settle) -> None:
    """A file is ready, or in quarantine; what two have found at once is written once."""
    enterprise_id, now = ctx.enterprise_id, ctx.clock.now()
    await store.lock_files(ctx.tx, enterprise_id, [command.file_id])
    row = (await store.files(ctx.tx, enterprise_id, [command.file_id])).get(command.file_id)
    if row is None or row["state"] != store.CHECKING:
        _forget(ctx, command)
        return
    content_id = int(row["content_id"])
    if command.state == store.READY:
        content_id = await _keep(ctx, row, command)
    else:
        await room.add(ctx.tx, enterprise_id, row["person_id"], -row["size_bytes"], -1)
    digest = row["upload_digest"] or (None if command.cleaned else command.sha256)
    await store.settle(
        ctx.tx, enterprise_id, command.file_id, state=command.state, reason=command.reason, content_id=content_id,
        cleaned=command.cleaned is not None, sha256=digest, kind=command.kind, now=now,
    )  # fmt: skip
    ctx.audit(object=command.file_id, after=command.sha256.hex())
    await _tell(ctx, row, command.kind, command.state, command.reason)


@action(Condemn, needs=INTERNAL)
async def condemn(ctx: Context, command: Condemn) -> None:
    """A scanner knows today what it did not know, or nobody asked it then: every file of it goes into quarantine."""
    enterprise_id, now = ctx.enterprise_id, ctx.clock.now()
    if not await store.condemn(ctx.tx, enterprise_id, command.content_id):
        return
    for row in await store.ready_of(ctx.tx, enterprise_id, command.content_id):
        await store.quarantine(ctx.tx, enterprise_id, row["file_id"], "malware", now)
        await room.add(ctx.tx, enterprise_id, row["person_id"], -row["size_bytes"], -1)
        await _tell(ctx, row, row["kind"], "quarantined", "malware")
    ctx.audit(object=command.content_id)


async def _tell(ctx: Context, row: Record, kind: str | None, state: api.State, reason: str | None) -> None:
    """Its sender, and whoever listens to events."""
    ctx.emit(
        FileSettled(
            enterprise_id=ctx.enterprise_id, file_id=row["file_id"], person_id=row["person_id"], state=state,
            reason=reason,
        )
    )  # fmt: skip
    body = {
        "file_id": str(row["file_id"]),
        "name": name_as(row["name"], BY_NAME[kind]) if kind else row["name"],
        "state": state,
        "reason": reason,
    }
    await hub.tell(ctx, ctx.enterprise_id, row["person_id"], "file", body)


async def _keep(ctx: Context, row: Record, command: Settle) -> int:
    """The content that the file has from now on: the one that came, its clean copy, or the same that was there."""
    tx, enterprise_id, raw = ctx.tx, ctx.enterprise_id, int(row["content_id"])
    identity = store.identity_of(
        command.sha256, command.size_bytes, command.kind, own_key=row["wrapped_key"] is not None
    )
    facts = orjson.dumps(command.facts).decode() if command.facts else None
    for _ in range(2):
        same = await store.content(tx, enterprise_id, identity)
        lost = None if same is None or await is_there(ctx, same) else int(same["content_id"])
        if same is not None and lost is None:
            if command.scanned is not None:
                await store.scanned(tx, enterprise_id, same["content_id"], command.scanned, ctx.clock.now())
            await store.drop_content(tx, enterprise_id, raw)
            _forget(ctx, command)
            ctx.after_commit(service(ctx).sweep_soon)
            return int(same["content_id"])
        try:
            async with tx.savepoint():
                if lost is not None:
                    await store.drop_content(tx, enterprise_id, lost)
                content_id = await _new_content(ctx, raw, identity, facts, command)
                if lost is not None:
                    await store.hand_over(tx, enterprise_id, lost, content_id)
                return content_id
        except UniqueViolation:
            continue  # somebody else has brought the same at this moment
    raise Internal("a content is there and is not")


async def _new_content(ctx: Context, raw: int, identity: str, facts: str | None, command: Settle) -> int:
    tx, enterprise_id, content_id = ctx.tx, ctx.enterprise_id, raw
    if command.cleaned is None:
        await store.keep_content(
            tx,
            enterprise_id,
            raw,
            identity=identity,
            size_bytes=command.size_bytes,
            sha256=command.sha256,
            facts=facts,
        )
        if command.scanned is not None:
            await store.scanned(tx, enterprise_id, raw, command.scanned, ctx.clock.now())
    else:
        content_id = ctx.ids.next()
        await store.insert_content(
            tx, content_id=content_id, enterprise_id=enterprise_id, identity=identity, state=store.KEPT,
            object_id=command.cleaned.object_id, size_bytes=command.size_bytes, sha256=command.sha256, facts=facts,
            wrapped_key=command.cleaned.wrapped_key, now=ctx.clock.now(), scanned=command.scanned,
        )  # fmt: skip
        await store.drop_content(tx, enterprise_id, raw)
        ctx.after_commit(service(ctx).sweep_soon)
    for made in command.variants:
        await store.insert_variant(
            tx, content_id=content_id, variant=made.variant, enterprise_id=enterprise_id, object_id=made.object_id,
            media_type=made.media_type, size_bytes=made.size_bytes, wrapped_key=made.wrapped_key,
        )  # fmt: skip
    return content_id


def _forget(ctx: Context, command: Settle) -> None:
    """The objects that were made are not needed."""
    made: list[api.Made] = [*command.variants, *([command.cleaned] if command.cleaned else [])]
    objects = [one.object_id for one in made]
    if objects:
        ctx.after_commit(lambda: service(ctx).forget_soon(*objects))
