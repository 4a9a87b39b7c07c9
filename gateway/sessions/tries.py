"""Tries of somebody who has to prove something, counted so that guessing is slow and nobody can lock out another.

Three counts: of the account together with where the try comes from (the device, if the account knows it, else the
source); of the source over all accounts; and of the account over all sources that it does not know. Who comes from a
known device waits for that device's own failures only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from core.actions import Context, Rate
from core.addresses import source_of
from core.db import UniqueViolation
from core.errors import TooManyRequests
from gateway.parts import parts
from gateway.sessions import rules, store

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Try:
    """One try that was counted, by its key; and the key of the source."""

    own: bytes
    source: bytes


async def again(ctx: Context, step: Callable[..., Awaitable[R]], *args: Any) -> R:
    """`step` in a transaction of its own, again where two first failures met."""
    for _ in range(3):
        try:
            return await ctx.transact(step, *args)
        except UniqueViolation:
            continue
    raise TooManyRequests(retry_ms=500)


async def count(ctx: Context, whom: str, person_id: int, device: str) -> Try:
    """Refuse who has to wait; count this try as failed until it succeeds, so that parallel ones add up.

    `whom`: the account as it was typed, whether there is one or not. Raises `TooManyRequests`, `UniqueViolation`.
    """
    have, now_ms, source = parts(ctx), ctx.clock.now_ms(), source_of(ctx.source.address)
    since = ctx.clock.now() - timedelta(seconds=ctx.runtime.settings.device_known_s)
    known = await store.knows_device(ctx.tx, person_id, device, since)
    secret = have.attempt_secret
    one = Try(
        own=rules.attempt_key(secret, whom, f"device {device}" if known else source),
        source=rules.attempt_key(secret, "", source),
    )
    so_far = await store.failures(ctx.tx, one.own, lock=True)
    wait_ms = rules.remaining_ms(so_far, now_ms)
    if not known:
        wait_ms = max(wait_ms, rules.remaining_ms(await store.failures(ctx.tx, one.source), now_ms))
    if wait_ms:
        raise TooManyRequests("too many failed logins", retry_ms=wait_ms)
    if not known:  # many sources against one account; who has a known device, or the phone, is not concerned
        settings = ctx.runtime.settings
        rate = Rate(settings.login_account_burst, settings.login_account_per_s)
        await ctx.runtime.limits.take("login", person_id or whom, rate)
    counted = rules.after_failure(so_far, have.account_throttle, now_ms)
    await store.put_failures(ctx.tx, one.own, counted, before=so_far)
    return one


async def failed(ctx: Context, one: Try) -> None:
    """It was wrong: the source comes nearer to waiting. Raises `UniqueViolation`."""
    so_far = await store.failures(ctx.tx, one.source, lock=True)
    counted = rules.after_failure(so_far, parts(ctx).source_throttle, ctx.clock.now_ms())
    await store.put_failures(ctx.tx, one.source, counted, before=so_far)


async def succeeded(ctx: Context, one: Try) -> None:
    """It was right: this account and this place start again."""
    await store.clear_failures(ctx.tx, one.own)
