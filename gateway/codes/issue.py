"""Issuing and redeeming codes, for the features that ask for one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from core.addresses import source_of
from core.clock import to_ms
from core.context import Context
from core.db import UniqueViolation
from core.errors import TooManyRequests
from gateway.api.codes import CodeSent
from gateway.codes import rules, store
from gateway.parts import parts
from gateway.sessions import rules as attempts
from gateway.sessions import store as failed


async def issue(
    ctx: Context,
    phone: str,
    purpose: str,
    *,
    about: str = "",
    template: str | None = None,
    params: Mapping[str, str] | None = None,
    person_id: int | None = None,
    really: bool = True,
) -> CodeSent:
    """Send a code to `phone` for one purpose and one object (`about`: ids, digests; what the text must name stands in
    `params`). `really=False` does all of it but the sending, so that the answer tells nothing.

    Raises `TooManyRequests` where the phone or the source has had too many. Messages that somebody asks for while
    logged in, or who has shown the password (`person_id`), are counted apart: strangers cannot use them up.
    """
    settings, secret, now = ctx.runtime.settings, parts(ctx).code_secret, ctx.clock.now()
    person_id = ctx.principal.person_id if ctx.principal is not None else person_id
    own = "" if person_id is None else str(person_id)
    phone_limit = rules.Limit(int(settings.code_gap_s * 1000), settings.code_phone_per_day)
    source_limit = rules.Limit(int(settings.code_source_gap_s * 1000), settings.code_source_per_day)
    await _count(ctx, rules.count_key(secret, f"phone {own}", phone), phone_limit)
    if own:  # to whatever numbers: nobody floods strangers by saying that the numbers were to be theirs
        await _count(
            ctx, rules.count_key(secret, "person", own), rules.Limit(0, settings.code_person_per_day)
        )
    else:
        await _count(ctx, rules.count_key(secret, "source", source_of(ctx.source.address)), source_limit)
    code = f"{ctx.rng.randint(0, 10**rules.DIGITS - 1):0{rules.DIGITS}d}"
    where = rules.slot(secret, purpose, phone, about)
    expires_at = now + timedelta(seconds=settings.code_life_s)
    await store.put(ctx.tx, where, rules.digest(secret, where, code), now, expires_at)
    if really:
        minutes = f"{settings.code_life_s / 60:g}"
        said = {**(params or {}), "code": code, "minutes": minutes}
        ctx.after_commit(lambda: parts(ctx).sms.post(phone, template or purpose, said))
    return CodeSent(expires_ms=to_ms(expires_at), next_ms=to_ms(now) + phone_limit.gap_ms)


async def redeem(ctx: Context, phone: str, purpose: str, code: str, about: str = "") -> bool:
    """Whether `code` is the one that was sent; it is used up then. A wrong one is counted in this transaction, so
    raise only after it has been committed."""
    secret = parts(ctx).code_secret
    where = rules.slot(secret, purpose, phone, about)
    stored = await store.lock(ctx.tx, where)
    typed = rules.digest(secret, where, code)
    verdict = rules.judge(stored, typed, ctx.clock.now_ms(), ctx.runtime.settings.code_tries)
    if verdict is rules.Verdict.WRONG:
        await store.tried(ctx.tx, where)
    elif verdict is rules.Verdict.RIGHT:
        await store.use(ctx.tx, where)
    return verdict is rules.Verdict.RIGHT


async def spend(ctx: Context, phone: str, purpose: str, code: str, about: str = "") -> bool:
    """`redeem` in a transaction of its own, for callers whom nobody knows yet: wrong codes of one source are counted
    over all phones and delay its further ones. Raises `TooManyRequests`."""
    for _ in range(3):
        try:
            return await ctx.transact(_spend, phone, purpose, code, about)
        except UniqueViolation:
            continue  # two first failures of one source met
    raise TooManyRequests(retry_ms=500)


async def _spend(ctx: Context, phone: str, purpose: str, code: str, about: str) -> bool:
    have, now_ms = parts(ctx), ctx.clock.now_ms()
    key = attempts.attempt_key(have.attempt_secret, "codes", source_of(ctx.source.address))
    so_far = await failed.failures(ctx.tx, key, lock=True)
    wait_ms = attempts.remaining_ms(so_far, now_ms)
    if wait_ms:
        raise TooManyRequests("too many wrong codes", retry_ms=wait_ms)
    right = await redeem(ctx, phone, purpose, code, about)
    if not right:
        counted = attempts.after_failure(so_far, have.source_throttle, now_ms)
        await failed.put_failures(ctx.tx, key, counted, before=so_far)
    return right


async def _count(ctx: Context, key: bytes, limit: rules.Limit) -> None:
    now_ms = ctx.clock.now_ms()
    sent = await store.lock_count(ctx.tx, key)
    wait_ms = rules.wait_ms(sent, limit, now_ms)
    if wait_ms:
        raise TooManyRequests("too many codes were asked for", retry_ms=wait_ms)
    await store.put_count(ctx.tx, key, rules.after_sending(sent, now_ms), new=sent is None)
