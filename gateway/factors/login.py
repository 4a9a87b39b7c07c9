"""The login between its two factors."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from core.actions import Context
from core.addresses import source_of
from core.clock import to_ms
from core.db import Record
from core.errors import TooManyRequests, Unauthenticated
from gateway.api import LoggedIn
from gateway.codes.issue import about_ticket, issue
from gateway.factors import rules, store
from gateway.factors.check import trusts_this_key
from gateway.identity import store as people
from gateway.parts import parts
from gateway.people.phones import phone_of
from gateway.sessions import tries
from gateway.sessions.issue import begin
from gateway.sessions.rules import token_digest

PURPOSE = "login_factor"
_BANK = "bank"


async def begin_or_ask(
    ctx: Context,
    person_id: int,
    device: str,
    platform: str,
    wanted: int | None,
    acr: int = 1,
    *,
    by_code: bool = False,
    wants_two: bool = False,
) -> LoggedIn | Unauthenticated:
    """Begin a session of who has shown one thing, or two (`acr`); or the refusal to raise once this is committed:
    its details hold a ticket for `gateway.factors.complete_login`."""
    totp, trusted = await store.has_totp(ctx.tx, person_id), await trusts_this_key(ctx, person_id)
    staff = _BANK in (await people.kinds_of(ctx.tx, person_id)).values()
    person = await people.person(ctx.tx, person_id)
    sms = not by_code and person is not None and phone_of(ctx.columns, person) is not None
    standing = rules.Standing(acr, trusted, totp, staff, by_code, wants_two and sms)
    if not rules.asks_more(standing):
        return await begin(ctx, person_id, device, platform, wanted, acr, by_code=by_code and acr == 1)
    ticket = ctx.rng.token()
    expires_at = ctx.clock.now() + timedelta(seconds=ctx.runtime.settings.login_ticket_s)
    await store.put_ticket(
        ctx.tx, token_digest(ticket), person_id, bound_to(ctx, device), sms=sms, expires_at=expires_at
    )
    return _asks(ticket, [*(["totp", "recovery"] if totp else []), *(["sms"] if sms else [])], expires_at)


async def ask_guarded(
    ctx: Context, person: Record | None, device: str, one: tries.Try, right: bool
) -> Unauthenticated:
    """The refusal of a login while too many guess: the same whoever it was and whatever they knew. Whose password was
    right gets a code on the phone, so the owner comes in, and nobody else learns anything.

    Raise it once this is committed. Raises `UniqueViolation`.
    """
    person_id = 0 if person is None else person["person_id"]
    stored = None if person is None else person["password_hash"]
    known = await people.lock_knowing(ctx.tx, person_id, stored)  # nobody has replaced it meanwhile
    found = await people.person(ctx.tx, person_id)
    phone = None if found is None else phone_of(ctx.columns, found)
    right = right and known and phone is not None
    ticket = ctx.rng.token()
    about = about_ticket(ticket)
    with suppress(TooManyRequests):  # said aloud, it would tell that the password was right
        await issue(
            ctx,
            phone or "",
            PURPOSE,
            about=about,
            template="login",
            counted_as=str(person_id) if right else about,
            really=right,
        )
    await tries.failed(ctx, one)
    expires_at = ctx.clock.now() + timedelta(seconds=ctx.runtime.settings.login_ticket_s)
    await store.put_ticket(
        ctx.tx,
        token_digest(ticket),
        person_id,
        bound_to(ctx, device),
        sms=True,
        expires_at=expires_at,
        guarded=store.Guard.RIGHT if right else store.Guard.WRONG,
    )
    return _asks(ticket, ["sms"], expires_at)


def _asks(ticket: str, ways: list[str], expires_at: datetime) -> Unauthenticated:
    return Unauthenticated(
        "a second factor, please",
        detail={
            "code": "second_factor_required",
            "ticket": ticket,
            "ways": ways,
            "expires_ms": to_ms(expires_at),
        },
    )


def bound_to(ctx: Context, device: str) -> bytes:
    """What a ticket that is given to this request is tied to."""
    key = ctx.source.key
    jkt = "" if key is None else key.thumbprint
    return rules.bound(parts(ctx).attempt_secret, device, source_of(ctx.source.address), jkt)


async def holder(ctx: Context, ticket: str, device: str) -> Record | None:
    """The ticket, if it is good here and now; nobody else uses it before this transaction ends."""
    row = await store.lock_ticket(ctx.tx, token_digest(ticket))
    if row is None or ctx.clock.now() >= row["expires_at"]:
        return None
    return row if bytes(row["bound_digest"]) == bound_to(ctx, device) else None
