"""Applying, verifying, asking to join."""

from __future__ import annotations

from typing import Final

from core.actions import REGISTERED, Context, Rate, action
from core.clock import to_ms
from core.db import Record, UniqueViolation
from core.errors import Conflict, Forbidden, Invalid, NotFound
from gateway.api import (
    ENTERPRISES_READ,
    ENTERPRISES_VERIFY,
    MEMBERS_MANAGE,
    Application,
    ApplyForEnterprise,
    AskToJoin,
    DecideApplication,
    DecideJoinRequest,
    EnterpriseInfo,
    FindEnterprise,
    FoundEnterprise,
    JoinRequest,
    ListApplications,
    ListEnterprises,
    ListJoinRequests,
    ListMyApplications,
    Member,
)
from gateway.enterprises import store
from gateway.identity import store as people
from gateway.identity.actions import members_of
from gateway.identity.rules import masked_code
from gateway.members.actions import check_gift
from gateway.members.joining import admit
from gateway.people.phones import shown_phone
from gateway.proposals import store as proposals
from gateway.proposals.second import seconded
from gateway.stepup import describe
from gateway.support.reasons import because

_KIND: Final = "application"
_OPEN_MAX: Final = 5  # of one person, so that nobody buries the reviewers
_ASKING: Final = Rate(burst=10, per_s=0.1)


@action(ApplyForEnterprise, needs=REGISTERED, limit=_ASKING)
async def apply(ctx: Context, command: ApplyForEnterprise) -> Application:
    """Ask the bank to take an enterprise in, by its name and unified social credit code."""
    person_id = ctx.caller.person_id
    await people.lock_person(ctx.tx, person_id)
    if await people.enterprise_by_code(ctx.tx, command.credit_code) is not None:
        raise Conflict("the enterprise is here: ask to join it")
    if "bank" in (await people.kinds_of(ctx.tx, person_id)).values():
        raise Forbidden("the bank's staff have no enterprises")
    waiting = await store.open_of(ctx.tx, person_id)
    if command.credit_code in waiting:
        raise Conflict("your application for this enterprise is waiting")
    if len(waiting) >= _OPEN_MAX:
        raise Conflict("other applications of yours are waiting")
    application_id = ctx.ids.next()
    await store.insert(
        ctx.tx,
        application_id,
        person_id=person_id,
        name=command.name,
        credit_code=command.credit_code,
        now=ctx.clock.now(),
    )
    ctx.audit(object=application_id)
    return (await _shown(ctx, [await _found(ctx, application_id)]))[0]


@action(ListMyApplications, needs=REGISTERED, audited=False)
async def my_applications(ctx: Context, command: ListMyApplications) -> list[Application]:
    """What became of one's own applications, newest first."""
    shown = await _shown(ctx, await store.of_person(ctx.tx, ctx.caller.person_id))
    return [one.model_copy(update={"proposed": None}) for one in shown]


@action(ListApplications, needs=ENTERPRISES_VERIFY, audited=False)
async def applications(ctx: Context, command: ListApplications) -> list[Application]:
    """Applications in a state, oldest first, with what a first person has decided."""
    return await _shown(ctx, await store.page(ctx.tx, command.state, command.after, command.limit))


@action(DecideApplication, needs=ENTERPRISES_VERIFY)
async def decide(ctx: Context, command: DecideApplication) -> Application:
    """Verify (by two persons), return or reject an application.

    When it is verified the enterprise is there, with who applied as its administrator.
    """
    row = await _found(ctx, command.application_id)
    if row["state"] != "applied":
        raise Conflict("it has been decided")
    if command.decision != "verify" and command.reason is None:
        raise Invalid("say why")
    ctx.audit(before=row["state"], after=command.decision)
    await because(ctx, command.application_id, command.reason)
    now = ctx.clock.now()
    if command.decision == "verify":
        if await seconded(ctx, _KIND, command.application_id, "verify"):
            await _take_in(ctx, row)
    else:
        await proposals.clear(ctx.tx, _KIND, command.application_id)
        state = {"return": "returned", "reject": "rejected"}[command.decision]
        await store.decide(ctx.tx, command.application_id, state, command.reason, None, now)
    return (await _shown(ctx, [await _found(ctx, command.application_id)]))[0]


async def _take_in(ctx: Context, row: Record) -> None:
    enterprise_id, now = ctx.ids.next(), ctx.clock.now()
    try:
        await people.insert_enterprise(
            ctx.tx,
            enterprise_id,
            name=row["full_name"],
            credit_code=row["credit_code"],
            now=now,
            stage="verified",
        )
    except UniqueViolation as error:
        raise Conflict("an enterprise of this code is here already") from error
    await admit(ctx, enterprise_id, row["person_id"], title=None, roles=("employee", "administrator"))
    await store.decide(ctx.tx, row["application_id"], "verified", None, enterprise_id, now)


@action(ListEnterprises, needs=ENTERPRISES_READ, audited=False)
async def list_enterprises(ctx: Context, command: ListEnterprises) -> list[EnterpriseInfo]:
    """Enterprises by id, their codes masked."""
    rows = await store.enterprises(ctx.tx, command.after, command.limit)
    members = await store.member_counts(ctx.tx, [row["enterprise_id"] for row in rows])
    return [
        EnterpriseInfo(
            enterprise_id=row["enterprise_id"],
            name=row["full_name"],
            credit_code=masked_code(row["credit_code"]),
            stage=row["stage"],
            members=members.get(row["enterprise_id"], 0),
            created_ms=to_ms(row["created_at"]),
        )
        for row in rows
    ]


# --- joining ----------------------------------------------------------------------------------------------------------


@action(FindEnterprise, needs=REGISTERED, audited=False, limit=_ASKING)
async def find(ctx: Context, command: FindEnterprise) -> FoundEnterprise:
    """The enterprise of exactly this code: what one may ask to join."""
    enterprise_id, name = await _joinable(ctx, command.credit_code)
    return FoundEnterprise(enterprise_id=enterprise_id, name=name)


@action(AskToJoin, needs=REGISTERED, limit=_ASKING)
async def ask_to_join(ctx: Context, command: AskToJoin) -> JoinRequest:
    """Ask the administrators of an enterprise to be taken in. One open request for each enterprise."""
    person_id = ctx.caller.person_id
    enterprise_id, _ = await _joinable(ctx, command.credit_code)
    person = await people.lock_person(ctx.tx, person_id)
    assert person is not None
    if await people.membership_state(ctx.tx, enterprise_id, person_id) == people.ACTIVE:
        raise Conflict("already a member")
    if await store.has_asked(ctx.tx, enterprise_id, person_id):
        raise Conflict("already asked")
    request_id, now = ctx.ids.next(), ctx.clock.now()
    await store.ask(ctx.tx, enterprise_id, request_id, person_id=person_id, message=command.message, now=now)
    ctx.audit(object=request_id)
    return JoinRequest(
        request_id=request_id,
        name=person["full_name"],
        phone=shown_phone(ctx.columns, person),
        message=command.message,
        state="open",
        created_ms=to_ms(now),
    )


@action(ListJoinRequests, needs=MEMBERS_MANAGE, audited=False)
async def join_requests(ctx: Context, command: ListJoinRequests) -> list[JoinRequest]:
    """Who wants to join, newest first. They are in no department yet: it is for those whose right reaches all."""
    if not ctx.reach.everything:
        return []
    return [
        JoinRequest(
            request_id=row["request_id"],
            name=row["full_name"],
            phone=shown_phone(ctx.columns, row),
            message=row["message"],
            state=row["state"],
            created_ms=to_ms(row["created_at"]),
        )
        for row in await store.requests(ctx.tx, ctx.enterprise_id)
    ]


@action(
    DecideJoinRequest,
    needs=MEMBERS_MANAGE,
    step_up="sign",
    step_up_when=describe.gives_power,
    describe=describe.giving_roles,
)
async def decide_join(ctx: Context, command: DecideJoinRequest) -> Member | None:
    """Take somebody in who asked, with roles and departments, or do not."""
    enterprise_id, request_id = ctx.enterprise_id, command.request_id
    await people.lock_enterprise(ctx.tx, enterprise_id)
    row = await store.lock_request(ctx.tx, enterprise_id, request_id)
    if row is None or not ctx.reach.everything:
        raise NotFound
    if row["state"] != "open":
        raise Conflict("it has been decided")
    state = "accepted" if command.accept else "refused"
    await store.decide_request(
        ctx.tx, enterprise_id, request_id, state, ctx.caller.person_id, ctx.clock.now()
    )
    ctx.audit(object=request_id, before=row["state"], after=[state, sorted(command.roles)])
    if not command.accept:
        return None
    check_gift(ctx, command.roles, command.departments)
    await admit(
        ctx,
        enterprise_id,
        row["person_id"],
        title=None,
        roles=command.roles,
        placements=command.departments,
    )
    return (await members_of(ctx, await people.members(ctx.tx, enterprise_id, [row["person_id"]])))[0]


async def _joinable(ctx: Context, credit_code: str) -> tuple[int, str]:
    enterprise_id = await people.enterprise_by_code(ctx.tx, credit_code)
    found = None if enterprise_id is None else await people.enterprise(ctx.tx, enterprise_id)
    if enterprise_id is None or found is None or found["kind"] == "bank" or found["state"] != people.ACTIVE:
        raise NotFound
    return enterprise_id, found["full_name"]


async def _found(ctx: Context, application_id: int) -> Record:
    row = await store.lock(ctx.tx, application_id)
    if row is None:
        raise NotFound
    return row


async def _shown(ctx: Context, rows: list[Record]) -> list[Application]:
    waiting = await proposals.some(ctx.tx, _KIND, [row["application_id"] for row in rows])
    return [
        Application(
            application_id=row["application_id"],
            name=row["full_name"],
            credit_code=row["credit_code"],
            state=row["state"],
            reason=row["reason"],
            enterprise_id=row["made_id"],
            proposed=waiting[row["application_id"]].decision if row["application_id"] in waiting else None,
            created_ms=to_ms(row["created_at"]),
        )
        for row in rows
    ]
