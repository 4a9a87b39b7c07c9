"""Issuing and redeeming codes, for the features that ask for one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from core.addresses import source_of
from core.clock import to_ms
from core.context import Context
from core.errors import TooManyRequests
from gateway.api.codes import CodeSent
from gateway.codes import rules, store
from gateway.parts import parts
from gateway.sessions.rules import token_digest


def about_ticket(ticket: str) -> str:
    """What a code is bound to that belongs to a ticket."""
    return token_digest(ticket).hex()


async def issue(
    ctx: Context,
    phone: str,
    purpose: str,
    *,
    about: str = "",
    template: str | None = None,
    params: Mapping[str, str] | None = None,
    counted_as: str = "",
    really: bool = True,
) -> CodeSent:
    """Send a code to `phone` for one purpose and one object (`about`: ids, digests; what the text must name stands in
    `params`). `really=False` does all of it but the sending, so that the answer tells nothing.

    Raises `TooManyRequests` where the phone or the source has had too many. Messages that somebody asks for while
    logged in, from a known device, or having shown the password (`counted_as`: the person's id) are counted apart:
    strangers cannot use them up. Of what strangers ask for, one source cannot use up what another one may.
    """
    settings, secret, now = ctx.runtime.settings, parts(ctx).code_secret, ctx.clock.now()
    own = str(ctx.principal.person_id) if ctx.principal is not None else counted_as
    gap_ms, source = int(settings.code_gap_s * 1000), source_of(ctx.source.address)
    if own:
        limits = {
            (f"phone {own}", phone): rules.Limit(gap_ms, settings.code_phone_per_day),
            # to whatever numbers: nobody floods strangers by saying that the numbers were to be theirs
            ("person", own): rules.Limit(0, settings.code_person_per_day),
        }
    else:
        limits = {
            (f"phone from {source}", phone): rules.Limit(gap_ms, settings.code_phone_source_per_day),
            ("phone ", phone): rules.Limit(0, settings.code_phone_per_day),
            ("source", source): rules.Limit(0, settings.code_source_per_day),
        }
    for (kind, who), limit in limits.items():
        await _count(ctx, rules.count_key(secret, kind, who), limit)
    code = f"{ctx.rng.randint(0, 10**rules.DIGITS - 1):0{rules.DIGITS}d}"
    where = rules.slot(secret, purpose, phone, about)
    expires_at = now + timedelta(seconds=settings.code_life_s)
    await store.put(ctx.tx, where, rules.digest(secret, where, code), now, expires_at)
    if really:
        minutes = f"{settings.code_life_s / 60:g}"
        said = {**(params or {}), "code": code, "minutes": minutes}
        ctx.after_commit(lambda: parts(ctx).sms.post(phone, template or purpose, said))
    return CodeSent(expires_ms=to_ms(expires_at), next_ms=to_ms(now) + gap_ms)


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


async def _count(ctx: Context, key: bytes, limit: rules.Limit) -> None:
    now_ms = ctx.clock.now_ms()
    sent = await store.lock_count(ctx.tx, key)
    wait_ms = rules.wait_ms(sent, limit, now_ms)
    if wait_ms:
        raise TooManyRequests("too many codes were asked for", retry_ms=wait_ms)
    await store.put_count(ctx.tx, key, rules.after_sending(sent, now_ms), new=sent is None)
