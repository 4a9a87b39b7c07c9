"""Finding people, disabling and enabling them, ending their sessions."""

from __future__ import annotations

from typing import Final

from core.actions import Context, Rate, action
from core.clock import to_ms
from core.errors import Conflict, Forbidden, Invalid, NotFound
from gateway.api import (
    PEOPLE_SUPPORT,
    DisablePerson,
    EnablePerson,
    EndPersonSessions,
    FindPerson,
    ForgetFactors,
    PersonCard,
)
from gateway.devices import store as devices
from gateway.factors import store as factors
from gateway.identity import store as people
from gateway.identity.rules import masked_name, normal_login
from gateway.parts import parts
from gateway.people.phones import shown_phone
from gateway.proposals import store as proposals
from gateway.proposals.second import seconded
from gateway.sessions.ending import end_all
from gateway.stepup import describe
from gateway.support import store
from gateway.support.reasons import because

_KIND: Final = "person"


# every look is one of its own in the audit, and what was seen is stored nowhere
@action(FindPerson, needs=PEOPLE_SUPPORT, idempotent=False, limit=Rate(burst=30, per_s=0.5))
async def find(ctx: Context, command: FindPerson) -> PersonCard:
    """The person of a phone number, a login name or an id, masked. Audited, because looking people up is power."""
    if (command.login is None) == (command.person_id is None):
        raise Invalid("by login or by person_id")
    person_id = command.person_id
    if command.login is not None:
        found = await people.person_by_login(ctx.tx, ctx.columns, normal_login(command.login))
        person_id = None if found is None else found["person_id"]
    if person_id is None:
        raise NotFound
    ctx.audit(object=person_id)
    return await _card(ctx, person_id)


@action(DisablePerson, needs=PEOPLE_SUPPORT, step_up="sign", describe=describe.disabling)
async def disable(ctx: Context, command: DisablePerson) -> PersonCard:
    """Disable a person at once; every session ends, nobody logs in. Not oneself, and not another of the staff."""
    await _customer(ctx, command.person_id)
    if not await people.set_person_state(ctx.tx, command.person_id, "disabled"):
        raise Conflict("disabled already")
    await proposals.clear(ctx.tx, _KIND, command.person_id)
    ctx.audit(before="active", after="disabled")
    await because(ctx, command.person_id, command.reason)
    await end_all(ctx, command.person_id, "disabled")
    await _regrant(ctx, command.person_id)
    return await _card(ctx, command.person_id)


@action(EnablePerson, needs=PEOPLE_SUPPORT, step_up="sign", describe=describe.enabling)
async def enable(ctx: Context, command: EnablePerson) -> PersonCard:
    """Let a person log in again, when a second one of the staff decides the same."""
    row = await _customer(ctx, command.person_id)
    if row == people.ACTIVE:
        raise Conflict("not disabled")
    ctx.audit(before=row, after="active")
    await because(ctx, command.person_id, command.reason)
    if await seconded(ctx, _KIND, command.person_id, "enable"):
        await people.set_person_state(ctx.tx, command.person_id, people.ACTIVE)
        await _regrant(ctx, command.person_id)
    return await _card(ctx, command.person_id)


@action(ForgetFactors, needs=PEOPLE_SUPPORT, step_up="sign", describe=describe.forgetting_factors)
async def forget_factors(ctx: Context, command: ForgetFactors) -> PersonCard:
    """Take a person's second factors away, when a second one of the staff decides the same; every session ends."""
    await _customer(ctx, command.person_id)
    await because(ctx, command.person_id, command.reason)
    if await seconded(ctx, _KIND, command.person_id, "forget_factors"):
        await factors.remove(ctx.tx, command.person_id)
        await devices.revoke_all(ctx.tx, command.person_id, ctx.clock.now())
        await end_all(ctx, command.person_id, "credentials")
    return await _card(ctx, command.person_id)


@action(EndPersonSessions, needs=PEOPLE_SUPPORT)
async def end_sessions(ctx: Context, command: EndPersonSessions) -> None:
    """End every session of a person: a lost phone, a call that sounds wrong."""
    await _customer(ctx, command.person_id)
    await because(ctx, command.person_id, command.reason)
    await end_all(ctx, command.person_id, "revoked")


async def _customer(ctx: Context, person_id: int) -> str:
    """The state of a person who is not of the staff. Raises `NotFound`, `Forbidden`."""
    row = await store.person(ctx.tx, person_id)
    if row is None or row["state"] == "erased":
        raise NotFound
    if person_id == ctx.caller.person_id or "bank" in (await people.kinds_of(ctx.tx, person_id)).values():
        raise Forbidden("the staff are managed by their administrator")
    state: str = row["state"]
    return state


async def _regrant(ctx: Context, person_id: int) -> None:
    places = [0, *await people.kinds_of(ctx.tx, person_id)]
    parts(ctx).regrant(ctx, [(person_id, enterprise_id) for enterprise_id in places])


async def _card(ctx: Context, person_id: int) -> PersonCard:
    row = await store.person(ctx.tx, person_id)
    if row is None or row["state"] == "erased":
        raise NotFound
    waiting = await proposals.lock(ctx.tx, _KIND, person_id)
    return PersonCard(
        person_id=person_id,
        name=masked_name(row["full_name"]),
        phone=shown_phone(ctx.columns, row),
        level="guest" if row["registered_at"] is None else "registered",
        state=row["state"],
        enterprises=await store.enterprises(ctx.tx, person_id),
        sessions=await store.sessions(ctx.tx, person_id, ctx.clock.now()),
        proposed=None if waiting is None else waiting.decision,
        created_ms=to_ms(row["created_at"]),
    )
