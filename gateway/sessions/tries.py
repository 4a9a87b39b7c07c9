"""Tries of somebody who has to prove something, counted so that guessing is slow and nobody can lock out another.

Failures delay further tries on this account from this place. A place is what nobody else can be in: a session, a key
that this person has logged in with, a browser with a cookie of ours; else the source. What a client calls itself is no
place. Over all accounts of a source, and over all sources of an account, nobody is made to wait, since that would be
the owner too: the password alone is not enough then, and its answer says nothing (`gateway.factors.login.ask_guarded`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

from core.actions import Context, Rate
from core.addresses import source_of
from core.db import UniqueViolation
from core.errors import TooManyRequests
from gateway.parts import parts
from gateway.sessions import rules, store

R = TypeVar("R")

OFFICE: Final = Rate(burst=300, per_s=20.0)
"""Of one address, which a whole office may share: it keeps machines from being busy with one, and guards no account."""

PAGE: Final = "page"
"""The edge (`core.context.Source`) of our own pages: there the device is made of a cookie of ours."""


@dataclass(frozen=True, slots=True)
class Try:
    """One try that was counted, by its key; the key of the source; and whether the place is known."""

    own: bytes
    source: bytes
    known: bool


async def again(ctx: Context, step: Callable[..., Awaitable[R]], *args: Any) -> R:
    """`step` in a transaction of its own, again where two first failures met."""
    for _ in range(3):
        try:
            return await ctx.transact(step, *args)
        except UniqueViolation:
            continue
    raise TooManyRequests(retry_ms=500)


async def known_place(ctx: Context, person_id: int, device: str = "") -> str | None:
    """Where the caller provably is, if this person has been there before; None: nowhere that we know."""
    if ctx.principal is not None:
        who = ctx.principal
        return f"key {who.jkt}" if who.jkt else f"session {who.session_id}"
    since, key = ctx.clock.now() - timedelta(seconds=ctx.runtime.settings.device_known_s), ctx.source.key
    if key is not None and await store.knows_key(ctx.tx, person_id, key.thumbprint, since):
        return f"key {key.thumbprint}"
    if ctx.source.edge == PAGE and await store.knows_device(ctx.tx, person_id, device, since):
        return f"browser {device}"
    return None


async def count(ctx: Context, whom: str, person_id: int, device: str = "") -> Try:
    """Refuse who has to wait; count this try as failed until it succeeds, so that parallel ones add up.

    `whom`: the account and what is to be proved, whether there is one or not. Raises `TooManyRequests`,
    `UniqueViolation`.
    """
    have, now_ms, source = parts(ctx), ctx.clock.now_ms(), source_of(ctx.source.address)
    place = await known_place(ctx, person_id, device)
    secret = have.attempt_secret
    one = Try(
        own=rules.attempt_key(secret, whom, place or source),
        source=rules.attempt_key(secret, "", source),
        known=place is not None,
    )
    so_far = await store.failures(ctx.tx, one.own, lock=True)
    wait_ms = rules.remaining_ms(so_far, now_ms)
    if wait_ms:
        raise TooManyRequests("too many failed logins", retry_ms=wait_ms)
    counted = rules.after_failure(so_far, have.account_throttle, now_ms)
    await store.put_failures(ctx.tx, one.own, counted, before=so_far)
    return one


async def everywhere(ctx: Context, whom: str) -> None:
    """Count a try over all places that the account does not know. Raises `TooManyRequests`."""
    settings = ctx.runtime.settings
    await ctx.runtime.limits.take(
        "login", whom, Rate(settings.login_account_burst, settings.login_account_per_s)
    )


async def guarded(ctx: Context, whom: str, one: Try) -> bool:
    """Whether there have been too many tries, of this source on whichever accounts or on this account from wherever,
    for the password alone to be enough. Not where the place is known."""
    if one.known:
        return False
    if rules.remaining_ms(await store.failures(ctx.tx, one.source), ctx.clock.now_ms()):
        return True
    try:
        await everywhere(ctx, whom)
    except TooManyRequests:
        return True
    return False


async def failed(ctx: Context, one: Try) -> None:
    """It was wrong: the source comes nearer to being guarded. Raises `UniqueViolation`."""
    so_far = await store.failures(ctx.tx, one.source, lock=True)
    counted = rules.after_failure(so_far, parts(ctx).source_throttle, ctx.clock.now_ms())
    await store.put_failures(ctx.tx, one.source, counted, before=so_far)


async def succeeded(ctx: Context, one: Try) -> None:
    """It was right: this account and this place start again."""
    await store.clear_failures(ctx.tx, one.own)
