"""Another password, another phone. Whoever had a session has none any more."""

from __future__ import annotations

from core.actions import PUBLIC, REGISTERED, Context, Rate, action
from core.db import Record, UniqueViolation
from core.errors import Conflict, Forbidden, Invalid, Unauthenticated
from gateway.api import ChangePassword, ChangePhone, CodeSent, ResetPassword, SendPhoneCode
from gateway.codes.issue import about_ticket, issue, redeem
from gateway.factors.check import may_reset
from gateway.identity import store as people
from gateway.identity.rules import masked_phone, weak_password
from gateway.parts import parts
from gateway.people.phones import phone_of
from gateway.registration.actions import WRONG_CODE
from gateway.sessions import tries
from gateway.sessions.ending import end_all
from gateway.stepup import describe

_SLOW = Rate(burst=10, per_s=0.1)


@action(ResetPassword, needs=PUBLIC, transaction=False, limit=tries.OFFICE)
async def reset_password(ctx: Context, command: ResetPassword) -> None:
    """Set a new password with the code that was sent to the phone; every session of the person ends.

    The phone alone would be the password and the second factor at once: who has a trusted device or codes by time shows
    one of them too (else errors.code second_factor_required, and another code is to be asked for), and so do the bank's
    staff. Guests have no password to reset: they get the same refusal as a wrong code.
    """
    word = command.password.get_secret_value()
    _check(word, command.phone)
    code, about = command.code.get_secret_value(), about_ticket(command.ticket.get_secret_value())
    if not await ctx.transact(redeem, command.phone, "reset_password", code, about):
        raise Unauthenticated(WRONG_CODE)
    factor = None if command.factor is None else command.factor.get_secret_value()
    await ctx.transact(_reset, command.phone, await parts(ctx).passwords.hash(word), factor)


async def _reset(ctx: Context, phone: str, hashed: str, factor: str | None) -> None:
    person = await people.person_by_login(ctx.tx, ctx.columns, phone)
    if person is None or person["password_hash"] is None or person["state"] != people.ACTIVE:
        raise Unauthenticated(WRONG_CODE)
    if not await may_reset(ctx, person["person_id"], factor):
        raise Unauthenticated("a second factor, please", detail={"code": "second_factor_required"})
    if not await _replace(ctx, person["person_id"], phone, hashed, person["password_hash"]):
        raise Unauthenticated(WRONG_CODE)


@action(ChangePassword, needs=REGISTERED, transaction=False, limit=_SLOW)
async def change_password(ctx: Context, command: ChangePassword) -> None:
    """Set a new password with the old one. Every session ends; log in anew."""
    word = command.password.get_secret_value()
    person = await _prove(ctx, command.old_password.get_secret_value())
    _check(word, phone_of(ctx.columns, person) or "", person["full_name"])
    hashed = await parts(ctx).passwords.hash(word)
    phone, before = phone_of(ctx.columns, person), person["password_hash"]
    if not await ctx.transact(_replace, ctx.caller.person_id, phone, hashed, before):
        raise Conflict("another password was set meanwhile")


@action(SendPhoneCode, needs=REGISTERED, limit=_SLOW)
async def send_phone_code(ctx: Context, command: SendPhoneCode) -> CodeSent:
    """Send a code to the number one wants to have. Bound to the number and to who asks."""
    return await issue(ctx, command.phone, "change_phone", about=str(ctx.caller.person_id))


@action(
    ChangePhone,
    needs=REGISTERED,
    transaction=False,
    limit=_SLOW,
    step_up="sign",
    describe=describe.changing_phone,
)
async def change_phone(ctx: Context, command: ChangePhone) -> None:
    """Take another number, with the code that was sent to it and the password. The old number is told."""
    await _prove(ctx, command.password.get_secret_value())
    code, about = command.code.get_secret_value(), str(ctx.caller.person_id)
    if not await ctx.transact(redeem, command.phone, "change_phone", code, about):
        raise Forbidden(WRONG_CODE)
    await ctx.transact(_move, command.phone)


async def _move(ctx: Context, phone: str) -> None:
    person_id = ctx.caller.person_id
    person = await people.lock_person(ctx.tx, person_id)
    if person is None:
        raise Unauthenticated
    # looked for under every index key: while one is being replaced, two rows of one number would not clash
    if await people.person_by_phone(ctx.tx, ctx.columns, phone) not in (None, person_id):
        raise Conflict("somebody has this number")
    try:
        await people.set_phone(ctx.tx, ctx.columns, person_id, phone)
    except UniqueViolation as error:
        raise Conflict("somebody has this number") from error
    ctx.audit(object=person_id)
    await end_all(ctx, person_id, "credentials")
    old = phone_of(ctx.columns, person)
    if old is not None:
        said = {"phone": masked_phone(phone) or ""}
        ctx.after_commit(lambda: parts(ctx).sms.post(old, "phone_changed", said))


async def _replace(ctx: Context, person_id: int, phone: str | None, hashed: str, before: str) -> bool:
    if not await people.set_password(ctx.tx, person_id, hashed, before=before):
        return False
    ctx.audit(object=person_id, person_id=person_id)
    await end_all(ctx, person_id, "credentials")
    if phone is not None:
        ctx.after_commit(lambda: parts(ctx).sms.post(phone, "password_changed", {}))
    return True


async def _prove(ctx: Context, password: str) -> Record:
    """The caller, who knows the password. Failures delay further ones of this session's key, as at login: a thief
    of one session does not keep the owner from changing the password on another. Raises `Forbidden`."""
    who, person = ctx.caller, await ctx.transact(_look)
    whom = f"password of {who.person_id}"
    one = await tries.again(ctx, tries.count, whom, who.person_id)
    if not await parts(ctx).passwords.verify(person["password_hash"], password):
        raise Forbidden("the password is not right")
    await ctx.transact(tries.succeeded, one)
    return person


async def _look(ctx: Context) -> Record:
    person = await people.lock_person(ctx.tx, ctx.caller.person_id)
    if person is None:
        raise Unauthenticated
    return person


def _check(password: str, *about: str) -> None:
    refused = weak_password(password, about)
    if refused is not None:
        raise Invalid(f"choose another password: {refused}")
