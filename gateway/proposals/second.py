"""Two persons decide: the first proposes, another one who decides the same carries it out."""

from __future__ import annotations

from core.access import Permission
from core.context import Context
from core.errors import Forbidden
from gateway.access.grantor import grants_of
from gateway.proposals import rules, store


async def seconded(ctx: Context, kind: str, object_id: int, decision: str) -> bool:
    """Whether this decision is the second of its kind and to be carried out now; else it has been noted.

    Who proposed it must still be allowed to (T07), or it counts as not proposed. Lock the object first. Raises
    `Forbidden` for who proposed it.
    """
    by, now = ctx.caller.person_id, ctx.clock.now()
    proposed = await store.lock(ctx.tx, kind, object_id)
    if proposed is not None and not await _may_still(ctx, proposed.by):
        proposed = None
    life_ms = int(ctx.runtime.settings.proposal_s * 1000)
    step = rules.step(proposed, decision, by, ctx.clock.now_ms(), life_ms)
    if step is rules.Step.SAME_PERSON:
        raise Forbidden("somebody else has to decide the same")
    if step is rules.Step.PROPOSE:
        await store.put(ctx.tx, kind, object_id, decision, by, now)
        return False
    await store.clear(ctx.tx, kind, object_id)
    return True


async def _may_still(ctx: Context, person_id: int) -> bool:
    """Whether this one of the staff could make the decision at this moment."""
    assert ctx.action is not None
    assert isinstance(ctx.action.needs, Permission)
    return (await grants_of(ctx.tx, ctx.enterprise_id, person_id)).of(ctx.action.needs) is not None
