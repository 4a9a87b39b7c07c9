"""Unmasking with a reason, a copy of one's own data, being forgotten."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import orjson

from core.access import Resource
from core.actions import PERSON, Context, Rate, action
from core.clock import to_ms
from core.db import Record
from core.errors import Conflict, Forbidden, NotFound, TooManyRequests
from core.jobs import later
from gateway.api import (
    CONTACTS_REVEAL,
    PRIVACY_AUDIT,
    PRIVACY_UNMASK,
    EraseMe,
    FetchExport,
    ListPrivacyTasks,
    ListReasons,
    PersonalData,
    PrivacyTask,
    ReasonGiven,
    RequestExport,
    RevealMember,
    Unmasked,
    UnmaskPerson,
)
from gateway.departments import store as departments
from gateway.identity import store as people
from gateway.members.joining import release
from gateway.parts import parts
from gateway.people.phones import phone_of
from gateway.privacy import jobs, rules, store
from gateway.sessions.ending import end_all
from gateway.stepup import describe
from gateway.support import store as reasons
from gateway.support.reasons import because

_A_DAY: Final = timedelta(days=1)
_EXPORTS_A_DAY: Final = 3
_LOOKS: Final = (
    False  # no stored answers: each look is one of its own in the audit, what was seen is kept nowhere
)
_LOOKED_AT: Final = (
    "gateway.privacy.unmask",
    "gateway.privacy.reveal_member",
    "gateway.people.disable",
    "gateway.people.enable",
    "gateway.people.end_sessions",
    "gateway.people.forget_factors",
)


# --- unmasking --------------------------------------------------------------------------------------------------------


@action(
    UnmaskPerson,
    needs=PRIVACY_UNMASK,
    idempotent=_LOOKS,
    limit=Rate(burst=10, per_s=0.02),
    step_up="sign",
    describe=describe.revealing,
)
async def unmask(ctx: Context, command: UnmaskPerson) -> Unmasked:
    """A person's name and number in clear, for the bank's support. The reason is kept with who asked."""
    await because(ctx, command.person_id, command.reason)
    return await _clear(ctx, command.person_id)


@action(
    RevealMember,
    needs=CONTACTS_REVEAL,
    idempotent=_LOOKS,
    limit=Rate(burst=30, per_s=0.1),
    step_up="sign",
    describe=describe.revealing,
)
async def reveal_member(ctx: Context, command: RevealMember) -> Unmasked:
    """The number of a member of one's own enterprise in clear. The reason is kept with who asked."""
    person_id = command.person_id
    if await people.membership_state(ctx.tx, ctx.enterprise_id, person_id) != people.ACTIVE:
        raise NotFound
    placed = (await departments.of_many(ctx.tx, ctx.enterprise_id, [person_id])).get(person_id, [])
    try:
        ctx.allow(Resource(person_id, frozenset(one.department_id for one in placed)))
    except Forbidden as error:
        raise NotFound from error
    await because(ctx, person_id, command.reason)
    return await _clear(ctx, person_id)


@action(ListReasons, needs=PRIVACY_AUDIT, idempotent=_LOOKS)
async def list_reasons(ctx: Context, command: ListReasons) -> list[ReasonGiven]:
    """Who looked at or did something about a person, and why; the newest 200. Itself audited."""
    ctx.audit(object=command.person_id)
    return [
        ReasonGiven(
            by_id=row["person_id"],
            action=row["kind"],
            reason=row["reason"],
            given_ms=to_ms(row["given_at"]),
        )
        for row in await reasons.about(ctx.tx, command.person_id, _LOOKED_AT)
    ]


async def _clear(ctx: Context, person_id: int) -> Unmasked:
    row = await people.person(ctx.tx, person_id)
    if row is None or row["state"] == "erased":
        raise NotFound
    return Unmasked(person_id=person_id, name=row["full_name"], phone=phone_of(ctx.columns, row))


# --- a copy -----------------------------------------------------------------------------------------------------------


@action(RequestExport, needs=PERSON)
async def request_export(ctx: Context, command: RequestExport) -> PrivacyTask:
    """Ask for a copy of one's own data. It is made in the background and waits for a day, encrypted."""
    person_id, now = ctx.caller.person_id, ctx.clock.now()
    if await store.recent(ctx.tx, person_id, "export", now - _A_DAY) >= _EXPORTS_A_DAY:
        raise TooManyRequests("enough copies for today")
    return await _ask(ctx, person_id, "export", jobs.EXPORT, timedelta())


@action(ListPrivacyTasks, needs=PERSON, audited=False)
async def tasks(ctx: Context, command: ListPrivacyTasks) -> list[PrivacyTask]:
    """What one has asked for, newest first."""
    return [_shown(row) for row in await store.tasks(ctx.tx, ctx.caller.person_id)]


@action(FetchExport, needs=PERSON, idempotent=_LOOKS, step_up="sign", describe=describe.exporting)
async def fetch_export(ctx: Context, command: FetchExport) -> PersonalData:
    """The copy of one's own data that was made, until its time is over."""
    row = await store.task(ctx.tx, command.task_id)
    if row is None or row["person_id"] != ctx.caller.person_id or row["result_sealed"] is None:
        raise NotFound
    if row["expires_at"] <= ctx.clock.now():
        raise NotFound
    ctx.audit(object=command.task_id)
    text = ctx.columns.open(jobs.RESULT, command.task_id, bytes(row["result_sealed"]))
    return PersonalData(data=orjson.loads(text))


# --- being forgotten --------------------------------------------------------------------------------------------------


@action(
    EraseMe,
    needs=PERSON,
    limit=Rate(burst=5, per_s=0.02),
    step_up="sign",
    describe=describe.erasing,
)
async def erase(ctx: Context, command: EraseMe) -> PrivacyTask:
    """Leave every enterprise, end every session, and be forgotten; what the law keeps is kept under the id alone.

    Refused for an enterprise's last administrator, who hands over first, and for the bank's staff.
    """
    person_id = ctx.caller.person_id
    await people.lock_person(ctx.tx, person_id)
    kinds = await people.kinds_of(ctx.tx, person_id)
    if "bank" in kinds.values():
        raise Conflict("the bank's staff leave the staff first")
    for enterprise_id in sorted(kinds):
        await release(ctx, enterprise_id, person_id)
    await end_all(ctx, person_id, "disabled")
    await store.anonymise(ctx.tx, person_id, rules.FORGOTTEN)
    parts(ctx).regrant(ctx, [(person_id, enterprise_id) for enterprise_id in (0, *kinds)])
    ctx.audit(object=person_id)
    # sessions are remembered until their last token has expired: edges that start meanwhile refuse them by that
    late = timedelta(seconds=ctx.runtime.settings.access_token_s + 60)
    return await _ask(ctx, person_id, "erase", jobs.ERASE, late)


async def _ask(ctx: Context, person_id: int, kind: str, job: str, after: timedelta) -> PrivacyTask:
    task_id, now = ctx.ids.next(), ctx.clock.now()
    await store.insert(ctx.tx, task_id, person_id, kind, now)
    await later(ctx.tx, job, {"task_id": str(task_id)}, now + after, ids=ctx.ids, clock=ctx.clock)
    ctx.audit(object=task_id)
    row = await store.task(ctx.tx, task_id)
    assert row is not None
    return _shown(row)


def _shown(row: Record) -> PrivacyTask:
    return PrivacyTask(
        task_id=row["task_id"],
        kind=row["kind"],
        state=row["state"],
        created_ms=to_ms(row["created_at"]),
        done_ms=None if row["done_at"] is None else to_ms(row["done_at"]),
        expires_ms=None if row["expires_at"] is None else to_ms(row["expires_at"]),
    )
