"""Having second factors, and logging in with one."""

from __future__ import annotations

from core.actions import PUBLIC, REGISTERED, Context, Rate, action
from core.clock import to_ms
from core.db import Record
from core.errors import Conflict, Forbidden, NotFound, Unauthenticated
from gateway.api import (
    CodeSent,
    CompleteLogin,
    ConfirmTotp,
    EnrolTotp,
    Factors,
    LoggedIn,
    NewTotp,
    RecoveryCodes,
    RemoveTotp,
    RenewRecoveryCodes,
    SendLoginCode,
    ShowFactors,
)
from gateway.codes.issue import about_ticket, issue, redeem
from gateway.factors import rules, store
from gateway.factors.check import recovery_is_right, totp_is_right
from gateway.factors.login import PURPOSE, holder
from gateway.identity import store as people
from gateway.parts import parts
from gateway.people.phones import phone_of, shown_phone
from gateway.sessions import tries
from gateway.sessions.issue import begin
from gateway.sessions.rules import token_digest
from gateway.stepup import describe

_SLOW = Rate(burst=10, per_s=0.1)
_WRONG = "the code is not right, or not any more"


@action(ShowFactors, needs=REGISTERED, audited=False)
async def show(ctx: Context, command: ShowFactors) -> Factors:
    """Which second factors one has, and how many recovery codes are left."""
    person_id = ctx.caller.person_id
    return Factors(
        totp=await store.has_totp(ctx.tx, person_id), recovery_left=await store.codes_left(ctx.tx, person_id)
    )


@action(EnrolTotp, needs=REGISTERED, limit=_SLOW, step_up="factor", describe=describe.enrolling)
async def enrol(ctx: Context, command: EnrolTotp) -> NewTotp:
    """A secret for an authenticator. Asking again before it is confirmed gives another."""
    person_id = ctx.caller.person_id
    there = await store.lock(ctx.tx, ctx.columns, person_id)
    if there is not None and there.confirmed:
        raise Conflict("codes by time are a factor already: remove them first")
    person = await people.person(ctx.tx, person_id)
    if person is None:
        raise Unauthenticated
    secret = ctx.rng.randbytes(rules.SECRET_BYTES)
    await store.replace(ctx.tx, ctx.columns, person_id, secret, ctx.clock.now())
    account = person["login_name"] or shown_phone(ctx.columns, person) or str(person_id)
    ctx.audit(object=person_id)
    return NewTotp(
        secret=rules.shown_secret(secret), uri=rules.uri(secret, account, ctx.runtime.settings.totp_issuer)
    )


@action(ConfirmTotp, needs=REGISTERED, transaction=False, limit=_SLOW)
async def confirm(ctx: Context, command: ConfirmTotp) -> RecoveryCodes:
    """The first code of the new secret makes it a factor; recovery codes come with it."""
    who = ctx.caller
    one = await tries.again(ctx, tries.count, f"totp of {who.person_id}", who.person_id)
    codes = await ctx.transact(_confirm, command, one)
    if codes is None:
        raise Forbidden(_WRONG)
    return codes


async def _confirm(ctx: Context, command: ConfirmTotp, one: tries.Try) -> RecoveryCodes | None:
    person_id = ctx.caller.person_id
    if not await totp_is_right(ctx, person_id, command.code.get_secret_value(), confirmed=False):
        return None
    await store.confirm(ctx.tx, person_id, ctx.clock.now())
    await tries.succeeded(ctx, one)
    ctx.audit(object=person_id)
    return await _codes(ctx, person_id)


@action(RemoveTotp, needs=REGISTERED, step_up="factor", describe=describe.removing_totp)
async def remove(ctx: Context, command: RemoveTotp) -> None:
    """No codes by time any more."""
    if not await store.remove(ctx.tx, ctx.caller.person_id):
        raise NotFound
    ctx.audit(object=ctx.caller.person_id)


@action(RenewRecoveryCodes, needs=REGISTERED, limit=_SLOW, step_up="factor", describe=describe.renewing_codes)
async def renew_recovery_codes(ctx: Context, command: RenewRecoveryCodes) -> RecoveryCodes:
    """Ten new recovery codes; those before are worth nothing."""
    if not await store.has_totp(ctx.tx, ctx.caller.person_id):
        raise Conflict("recovery codes go with codes by time")
    ctx.audit(object=ctx.caller.person_id)
    return await _codes(ctx, ctx.caller.person_id)


async def _codes(ctx: Context, person_id: int) -> RecoveryCodes:
    secret = parts(ctx).code_secret
    codes = [rules.recovery_code(ctx.rng.randint) for _ in range(ctx.runtime.settings.recovery_codes)]
    digests = [rules.recovery_digest(secret, person_id, code) for code in codes]
    await store.put_codes(ctx.tx, person_id, digests)
    return RecoveryCodes(recovery_codes=codes)


# --- logging in -------------------------------------------------------------------------------------------------------


@action(SendLoginCode, needs=PUBLIC, limit=tries.OFFICE)
async def send_login_code(ctx: Context, command: SendLoginCode) -> CodeSent:
    """Send a code to the phone of who has shown the password. Raises the same for whatever is wrong. While too many
    guess, the code has been sent with the ticket (if the password was right), and there is no other."""
    ticket, settings = command.ticket.get_secret_value(), ctx.runtime.settings
    found = await holder(ctx, ticket, command.device)
    if found is not None and found["guarded"]:
        next_ms = to_ms(found["expires_at"])
        life_s = min(settings.code_life_s, settings.login_ticket_s) - settings.login_ticket_s
        return CodeSent(expires_ms=next_ms + int(life_s * 1000), next_ms=next_ms)
    person = None if found is None else await people.person(ctx.tx, found["person_id"])
    phone = None if person is None else phone_of(ctx.columns, person)
    if found is None or phone is None or not found["sms"]:
        raise Unauthenticated("log in again", detail={"code": "login_again"})
    ctx.audit(person_id=found["person_id"], device=command.device)
    about = about_ticket(ticket)
    return await issue(ctx, phone, PURPOSE, about=about, template="login", counted_as=str(found["person_id"]))


@action(CompleteLogin, needs=PUBLIC, transaction=False, limit=tries.OFFICE)
async def complete_login(ctx: Context, command: CompleteLogin) -> LoggedIn:
    """Begin the session that waited for its second factor. One refusal for whatever is wrong; the ticket stays good
    for its time after a wrong code, and further tries are delayed as at login."""
    ctx.audit(device=command.device)
    found, one = await tries.again(ctx, _count, command)
    if found is None:
        raise Unauthenticated("log in again", detail={"code": "login_again"})
    begun = await ctx.transact(_complete, command, one)
    if begun is None:
        if one is not None:
            await tries.again(ctx, tries.failed, one)
        raise Unauthenticated(_WRONG)
    return begun


async def _count(ctx: Context, command: CompleteLogin) -> tuple[Record | None, tries.Try | None]:
    found = await holder(ctx, command.ticket.get_secret_value(), command.device)
    if found is None or found["guarded"]:
        return found, None  # the code's own three tries are all there are
    whom = f"second factor of {found['person_id']}"
    one = await tries.count(ctx, whom, found["person_id"], command.device)
    if not one.known:
        await tries.everywhere(ctx, whom)
    return found, one


async def _complete(ctx: Context, command: CompleteLogin, one: tries.Try | None) -> LoggedIn | None:
    ticket, code = command.ticket.get_secret_value(), command.code.get_secret_value()
    found = await holder(ctx, ticket, command.device)
    if found is None or (found["guarded"] and command.way != "sms"):
        return None
    person_id = found["person_id"]
    if command.way == "totp":
        right = await totp_is_right(ctx, person_id, code)
    elif command.way == "recovery":
        right = await recovery_is_right(ctx, person_id, code)
    else:
        person = await people.person(ctx.tx, person_id)
        phone = None if person is None or not found["sms"] else phone_of(ctx.columns, person)
        right = await redeem(ctx, phone or "", PURPOSE, code, about_ticket(ticket))
    if not right or found["guarded"] == store.Guard.WRONG:
        return None
    await store.use_ticket(ctx.tx, token_digest(ticket))
    if one is not None:
        await tries.succeeded(ctx, one)
    return await begin(ctx, person_id, command.device, command.platform, command.enterprise_id, acr=2)
