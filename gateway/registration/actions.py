"""Logging in with a code, and becoming somebody with a name."""

from __future__ import annotations

from core.access import SECOND_FACTOR
from core.actions import PERSON, PUBLIC, Context, Rate, action
from core.config_center import live
from core.db import Record, UniqueViolation
from core.errors import Conflict, Invalid, Unauthenticated
from gateway.api import Agreement, CompleteRegistration, LoggedIn, LoginByCode, Person, ShowAgreement
from gateway.codes.issue import about_ticket, redeem
from gateway.factors.login import begin_or_ask
from gateway.identity import store as people
from gateway.identity.rules import weak_password
from gateway.parts import parts
from gateway.people.phones import phone_of
from gateway.registration import store
from gateway.sessions import store as sessions
from gateway.sessions.issue import own_person
from gateway.sessions.tries import OFFICE

WRONG_CODE = "the code is not right, or not any more"
GUEST = "游客"
AGREEMENT = live("gateway.registration.agreement", "2026-11", "Version of the user agreement in force")


@action(LoginByCode, needs=PUBLIC, transaction=False, limit=OFFICE)
async def login_by_code(ctx: Context, command: LoginByCode) -> LoggedIn:
    """Log in with the code that was sent to the phone, with the password too for two factors.

    A number that nobody has becomes a guest: a person with nothing but a phone, in no enterprise. One refusal for
    whatever is wrong.
    """
    ctx.audit(device=command.device)
    code, about = command.code.get_secret_value(), about_ticket(command.ticket.get_secret_value())
    if not await ctx.transact(redeem, command.phone, "login", code, about):
        raise Unauthenticated(WRONG_CODE)
    person = await ctx.transact(_person, command.phone)
    if person["state"] != people.ACTIVE:
        raise Unauthenticated(WRONG_CODE)
    acr = 1
    if command.password is not None:
        word = command.password.get_secret_value()
        if not await parts(ctx).passwords.verify(person["password_hash"], word):
            raise Unauthenticated(WRONG_CODE)
        acr = SECOND_FACTOR
    begun = await ctx.transact(_begin, command, person, acr)
    if isinstance(begun, Unauthenticated):
        raise begun
    return begun


async def _person(ctx: Context, phone: str) -> Record:
    person = await people.person_by_login(ctx.tx, ctx.columns, phone)
    if person is None:
        await people.insert_person(
            ctx.tx,
            ctx.columns,
            ctx.ids.next(),
            phone=phone,
            login_name=None,
            name=GUEST,
            password_hash=None,
            now=ctx.clock.now(),
        )
        person = await people.person_by_login(ctx.tx, ctx.columns, phone)
    assert person is not None
    return person


async def _begin(ctx: Context, command: LoginByCode, person: Record, acr: int) -> LoggedIn | Unauthenticated:
    known = acr < SECOND_FACTOR or await people.lock_knowing(
        ctx.tx, person["person_id"], person["password_hash"]
    )
    if not known:
        raise Unauthenticated(WRONG_CODE)
    return await begin_or_ask(
        ctx, person["person_id"], command.device, command.platform, command.enterprise_id, acr, by_code=True
    )


@action(ShowAgreement, needs=PUBLIC, audited=False)
async def agreement(ctx: Context, command: ShowAgreement) -> Agreement:
    """The version of the user agreement in force."""
    return Agreement(version=ctx.runtime.config.get(AGREEMENT))


@action(CompleteRegistration, needs=PERSON, transaction=False, limit=Rate(burst=10, per_s=0.1))
async def complete(ctx: Context, command: CompleteRegistration) -> Person:
    """A guest becomes a registered person: a name, a password, the agreement of today. The id stays."""
    person = await ctx.transact(_guest, command)
    word = command.password.get_secret_value()
    refused = weak_password(
        word, (phone_of(ctx.columns, person) or "", command.name, command.login_name or "")
    )
    if refused is not None:
        raise Invalid(f"choose another password: {refused}")
    return await ctx.transact(_register, command, await parts(ctx).passwords.hash(word))


async def _guest(ctx: Context, command: CompleteRegistration) -> Record:
    current = ctx.runtime.config.get(AGREEMENT)
    if command.agreement != current:
        raise Conflict("this is not the agreement in force", detail={"version": current})
    person = await people.person(ctx.tx, ctx.caller.person_id)
    if person is None or person["registered_at"] is not None:
        raise Conflict("already registered")
    return person


async def _register(ctx: Context, command: CompleteRegistration, hashed: str) -> Person:
    person_id, now = ctx.caller.person_id, ctx.clock.now()
    try:
        done = await people.register(
            ctx.tx,
            person_id,
            name=command.name,
            login_name=command.login_name,
            password_hash=hashed,
            now=now,
        )
    except UniqueViolation as error:
        raise Conflict("the login name is taken") from error
    if not done:
        raise Conflict("already registered")
    await store.consent(ctx.tx, person_id, "agreement", command.agreement, now)
    await sessions.knows_password(ctx.tx, ctx.caller.session_id)
    ctx.audit(object=person_id)
    parts(ctx).regrant(ctx, [(person_id, ctx.enterprise_id)])
    return await own_person(ctx, person_id)
