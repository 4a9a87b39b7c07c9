"""Logging in with a code."""

from __future__ import annotations

from core.access import SECOND_FACTOR
from core.actions import PUBLIC, Context, Rate, action
from core.db import Record
from core.errors import Unauthenticated
from gateway.api import LoggedIn, LoginByCode
from gateway.codes.issue import redeem
from gateway.identity import store as people
from gateway.parts import parts
from gateway.sessions.actions import begin

WRONG_CODE = "the code is not right, or not any more"
GUEST = "游客"


@action(LoginByCode, needs=PUBLIC, transaction=False, limit=Rate(burst=30, per_s=1.0))
async def login_by_code(ctx: Context, command: LoginByCode) -> LoggedIn:
    """Log in with the code that was sent to the phone, with the password too for two factors.

    A number that nobody has becomes a guest: a person with nothing but a phone, in no enterprise. One refusal for
    whatever is wrong.
    """
    ctx.audit(device=command.device)
    code = command.code.get_secret_value()
    if not await ctx.transact(redeem, command.phone, "login", code):
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
    return await ctx.transact(_begin, command, person["person_id"], acr)


async def _person(ctx: Context, phone: str) -> Record:
    person = await people.person_by_login(ctx.tx, phone)
    if person is None:
        await people.insert_person(
            ctx.tx,
            ctx.ids.next(),
            phone=phone,
            login_name=None,
            name=GUEST,
            password_hash=None,
            now=ctx.clock.now(),
        )
        person = await people.person_by_login(ctx.tx, phone)
    assert person is not None
    return person


async def _begin(ctx: Context, command: LoginByCode, person_id: int, acr: int) -> LoggedIn:
    return await begin(ctx, person_id, command.device, command.platform, command.enterprise_id, acr)
