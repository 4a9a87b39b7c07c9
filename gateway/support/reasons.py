"""Why the bank's staff did something: words for people, kept beside the audit record, which has digests only."""

from __future__ import annotations

from core.context import Context
from gateway.support import store


async def because(ctx: Context, object_id: int, reason: str | None) -> None:
    """Note the reason of this action about this object, and name the object in the audit record."""
    ctx.audit(object=object_id)
    if reason is None or ctx.action is None:
        return
    await store.note(
        ctx.tx,
        ctx.ids.next(),
        enterprise_id=ctx.enterprise_id,
        by=ctx.caller.person_id,
        kind=ctx.action.name,
        object_id=object_id,
        reason=reason,
        now=ctx.clock.now(),
    )
