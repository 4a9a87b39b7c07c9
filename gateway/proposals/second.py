"""Two persons decide: the first proposes, another one who decides the same carries it out."""

from __future__ import annotations

from core.context import Context
from core.errors import Forbidden
from gateway.proposals import rules, store


async def seconded(ctx: Context, kind: str, object_id: int, decision: str) -> bool:
    """Whether this decision is the second of its kind and to be carried out now; else it has been noted.

    Lock the object first. Raises `Forbidden` for who proposed it.
    """
    by, now = ctx.caller.person_id, ctx.clock.now()
    step = rules.step(await store.lock(ctx.tx, kind, object_id), decision, by, ctx.clock.now_ms())
    if step is rules.Step.SAME_PERSON:
        raise Forbidden("somebody else has to decide the same")
    if step is rules.Step.PROPOSE:
        await store.put(ctx.tx, kind, object_id, decision, by, now)
        return False
    await store.clear(ctx.tx, kind, object_id)
    return True
