"""How much room there is, how an enterprise keeps its files, and holds."""

from __future__ import annotations

from core.actions import Context, Rate, action
from core.clock import to_ms
from core.db import Record
from core.errors import Invalid, NotFound
from core.settings import Settings
from files.api import (
    FILES_MANAGE,
    FILES_READ,
    GetPolicy,
    GetUsage,
    Hold,
    LiftHold,
    ListHolds,
    PlaceHold,
    Policy,
    SetPolicy,
    Usage,
)
from files.library import store as library
from files.retention import store as retention
from files.room import store

_READ = Rate(burst=60, per_s=5)
_CHANGE = Rate(burst=30, per_s=0.5)


async def limits(ctx: Context) -> tuple[int, int, bool]:
    """(bytes a person may have, bytes the enterprise may have, whether its files are encrypted with its own key)."""
    return limits_of(ctx.runtime.settings, await store.policy(ctx.tx, ctx.enterprise_id))


def limits_of(settings: Settings, row: Record | None) -> tuple[int, int, bool]:
    """The same from the enterprise's policy, where it has one."""
    person, all_of_it = settings.files_person_quota_bytes, settings.files_enterprise_quota_bytes
    if row is None:
        return person, all_of_it, False
    of_all = all_of_it if row["quota_bytes"] is None else min(all_of_it, row["quota_bytes"])
    own = person if row["person_quota_bytes"] is None else row["person_quota_bytes"]
    return min(own, of_all), of_all, bool(row["own_key"])


@action(GetUsage, needs=FILES_READ, audited=False, limit=_READ)
async def usage(ctx: Context, command: GetUsage) -> Usage:
    """How much room is taken, and how much there is."""
    (person_bytes, person_files), (all_bytes, all_files) = await store.used(
        ctx.tx, ctx.enterprise_id, ctx.caller.person_id
    )
    person_quota, quota, _ = await limits(ctx)
    return Usage(
        person_bytes=person_bytes,
        person_files=person_files,
        person_quota_bytes=person_quota,
        enterprise_bytes=all_bytes,
        enterprise_files=all_files,
        enterprise_quota_bytes=quota,
    )


@action(GetPolicy, needs=FILES_MANAGE, audited=False, limit=_READ)
async def policy(ctx: Context, command: GetPolicy) -> Policy:
    """How this enterprise keeps files."""
    row = await store.policy(ctx.tx, ctx.enterprise_id)
    if row is None:
        return Policy()
    return Policy(
        own_key=bool(row["own_key"]),
        quota_bytes=row["quota_bytes"],
        person_quota_bytes=row["person_quota_bytes"],
    )


@action(SetPolicy, needs=FILES_MANAGE, idempotent=True, limit=_CHANGE)
async def set_policy(ctx: Context, command: SetPolicy) -> Policy:
    """Change how this enterprise keeps files, for what is uploaded from now on."""
    await store.set_policy(
        ctx.tx, ctx.enterprise_id, own_key=command.own_key, quota_bytes=command.quota_bytes,
        person_quota_bytes=command.person_quota_bytes, by=ctx.caller.person_id, now=ctx.clock.now(),
    )  # fmt: skip
    ctx.audit(object=ctx.enterprise_id)
    return Policy(**command.model_dump())


@action(PlaceHold, needs=FILES_MANAGE, idempotent=True, limit=_CHANGE)
async def place(ctx: Context, command: PlaceHold) -> Hold:
    """Keep files whatever is deleted, until the hold is lifted."""
    if (command.kind == "enterprise") != (command.object_id == 0):
        raise Invalid("a hold is of the enterprise, or of one object of it")
    if command.kind == "file" and not await library.files(ctx.tx, ctx.enterprise_id, [command.object_id]):
        raise NotFound("no such file")
    hold_id, now = ctx.ids.next(), ctx.clock.now()
    await store.place(
        ctx.tx,
        hold_id,
        ctx.enterprise_id,
        command.kind,
        command.object_id,
        command.reason,
        ctx.caller.person_id,
        now,
    )
    ctx.audit(object=hold_id)
    return Hold(
        hold_id=hold_id, kind=command.kind, object_id=command.object_id, reason=command.reason,
        placed_by=ctx.caller.person_id, placed_ms=to_ms(now),
    )  # fmt: skip


@action(LiftHold, needs=FILES_MANAGE, limit=_CHANGE)
async def lift(ctx: Context, command: LiftHold) -> None:
    """End a hold: what it kept and nothing refers to goes with the next clean-up."""
    if not await store.lift(
        ctx.tx, ctx.enterprise_id, command.hold_id, ctx.caller.person_id, ctx.clock.now()
    ):
        raise NotFound("no such hold in force")
    for stream_id in await library.held_streams(ctx.tx, ctx.enterprise_id):
        if not await retention.stream_held(ctx.tx, ctx.enterprise_id, stream_id):
            await library.release(ctx.tx, ctx.enterprise_id, library.HELD, stream_id, None)
    ctx.audit(object=command.hold_id)


@action(ListHolds, needs=FILES_MANAGE, audited=False, limit=_READ)
async def holds(ctx: Context, command: ListHolds) -> list[Hold]:
    """Holds in force, the oldest first."""
    return [
        Hold(
            hold_id=row["hold_id"], kind=row["kind"], object_id=row["object_id"], reason=row["reason"],
            placed_by=row["placed_by"], placed_ms=to_ms(row["placed_at"]),
        )
        for row in await store.holds(ctx.tx, ctx.enterprise_id)
    ]  # fmt: skip
