"""Checking a code of one of a person's own factors, in the caller's transaction."""

from __future__ import annotations

from core.actions import Context
from gateway.factors import rules, store
from gateway.parts import parts


async def totp_is_right(ctx: Context, person_id: int, code: str, *, confirmed: bool = True) -> bool:
    """Whether it is a code of this moment that was not accepted before; it is used up then."""
    totp = await store.lock(ctx.tx, ctx.columns, person_id)
    if totp is None or totp.confirmed != confirmed:
        return False
    step = rules.accepted_step(totp.secret, code, ctx.clock.now_ms(), totp.last_step)
    return step is not None and await store.advance(ctx.tx, person_id, step)


async def recovery_is_right(ctx: Context, person_id: int, code: str) -> bool:
    """Whether it is a recovery code that was not used; it is then."""
    digest = rules.recovery_digest(parts(ctx).code_secret, person_id, code)
    return await store.use_code(ctx.tx, person_id, digest, ctx.clock.now())
