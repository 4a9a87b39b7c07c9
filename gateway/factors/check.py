"""Checking a code of one of a person's own factors, in the caller's transaction."""

from __future__ import annotations

from core.actions import Context
from gateway.devices import store as devices
from gateway.factors import rules, store
from gateway.identity import store as people
from gateway.parts import parts
from gateway.people.phones import phone_of
from gateway.sessions.store import began_by_code


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


async def may_reset(ctx: Context, person_id: int, code: str | None) -> bool:
    """Whether who has shown a code to the phone may set a new password; `code`: by time, or a recovery code."""
    if await trusts_this_key(ctx, person_id):
        return True
    if code is not None:
        return await totp_is_right(ctx, person_id, code) or await recovery_is_right(ctx, person_id, code)
    if await store.has_totp(ctx.tx, person_id) or await devices.of_person(ctx.tx, person_id):
        return False
    return "bank" not in (await people.kinds_of(ctx.tx, person_id)).values()


async def trusts_this_key(ctx: Context, person_id: int) -> bool:
    """Whether the call was made with the key of a device that this person trusts."""
    key = ctx.source.key
    own = [] if key is None else await devices.of_person(ctx.tx, person_id)
    return key is not None and key.thumbprint in [row["jkt"] for row in own]


async def phone_as_factor(ctx: Context) -> str | None:
    """The caller's number, where a code to it shows more than this session has shown already.

    A session that began with such a code and nothing else has: a stolen number must not count twice. Guests, who have
    nothing but their phone, may.
    """
    who = ctx.caller
    person = await people.person(ctx.tx, who.person_id)
    if person is None:
        return None
    if person["registered_at"] is not None and await began_by_code(ctx.tx, who.session_id):
        return None
    return phone_of(ctx.columns, person)
