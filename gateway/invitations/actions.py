"""Making invitations, and joining by one."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from core.access import scope_of
from core.actions import PERSON, REGISTERED, Context, Rate, action
from core.clock import to_ms
from core.db import Record
from core.errors import BankhubError, NotFound
from gateway.access.grantor import grants_of
from gateway.api import (
    MEMBERS_MANAGE,
    AcceptInvitation,
    CreateInvitation,
    Invitation,
    InvitedTo,
    ListInvitations,
    LookAtInvitation,
    NewInvitation,
    RevokeInvitation,
)
from gateway.identity import store as people
from gateway.identity.rules import may_give, may_place
from gateway.invitations import rules, store
from gateway.members.actions import check_gift
from gateway.members.joining import TOP, admit, check_placements, checked_roles
from gateway.parts import parts
from gateway.stepup import describe

_GUESSING: Final = Rate(burst=10, per_s=0.05)


class NotInvited(NotFound):
    """The invitation is not valid, or not any more."""


@action(
    CreateInvitation,
    needs=MEMBERS_MANAGE,
    step_up="sign",
    step_up_when=describe.opens_doors,
    describe=describe.giving_roles,
)
async def create(ctx: Context, command: CreateInvitation) -> NewInvitation:
    """Make an invitation. Who accepts it gets these roles and departments, as long as its maker may give them."""
    check_gift(ctx, command.roles, command.departments)
    await checked_roles(ctx, ctx.enterprise_id, command.roles)
    await check_placements(ctx, ctx.enterprise_id, command.departments)
    code = "".join(rules.ALPHABET[ctx.rng.randint(0, len(rules.ALPHABET) - 1)] for _ in range(rules.LENGTH))
    invitation_id, now = ctx.ids.next(), ctx.clock.now()
    await store.insert(
        ctx.tx,
        ctx.enterprise_id,
        invitation_id,
        code_digest=rules.digest(parts(ctx).code_secret, code),
        roles=command.roles,
        departments=command.departments,
        title=command.title,
        uses_max=command.uses_max,
        by=ctx.caller.person_id,
        now=now,
        expires_at=now + timedelta(seconds=command.life_s),
    )
    ctx.audit(object=invitation_id, after=command.model_dump())
    row = await store.one(ctx.tx, ctx.enterprise_id, invitation_id)
    assert row is not None
    link = f"{ctx.runtime.settings.public_url or ''}/join#{code}"
    return NewInvitation(**_shown(ctx, row).model_dump(), code=rules.shown(code), link=link)


@action(ListInvitations, needs=MEMBERS_MANAGE, audited=False)
async def list_invitations(ctx: Context, command: ListInvitations) -> list[Invitation]:
    """The newest hundred, whatever has become of them; one's own, where one's right reaches some departments only."""
    rows = await store.latest(ctx.tx, ctx.enterprise_id)
    return [_shown(ctx, row) for row in rows if _is_mine(ctx, row)]


@action(RevokeInvitation, needs=MEMBERS_MANAGE)
async def revoke(ctx: Context, command: RevokeInvitation) -> None:
    """Nobody comes in by it any more; who has come stays."""
    row = await store.lock(ctx.tx, ctx.enterprise_id, command.invitation_id)
    if row is None or not _is_mine(ctx, row):
        raise NotFound
    if not await store.revoke(ctx.tx, ctx.enterprise_id, command.invitation_id, ctx.clock.now()):
        raise NotFound
    state = rules.state(store.standing(row), ctx.clock.now_ms())
    ctx.audit(object=command.invitation_id, before=[state, store.roles_of(row)])


@action(LookAtInvitation, needs=PERSON, audited=False, limit=_GUESSING)
async def look(ctx: Context, command: LookAtInvitation) -> InvitedTo:
    """Which enterprise a code leads into. One refusal for codes that never were and those that are over."""
    row = await _open(ctx, command.code.get_secret_value())
    found = await people.enterprise(ctx.tx, row["enterprise_id"])
    if found is None or found["state"] != people.ACTIVE:
        raise NotInvited
    return InvitedTo(enterprise=found["full_name"], title=row["title"], expires_ms=to_ms(row["expires_at"]))


@action(AcceptInvitation, needs=REGISTERED, limit=_GUESSING)
async def accept(ctx: Context, command: AcceptInvitation) -> int:
    """Join by a code. What it gives is checked against what its maker may give now, not when it was made. One that is
    older than one's own leaving lets nobody back in."""
    found = await _open(ctx, command.code.get_secret_value())
    enterprise_id, invitation_id = found["enterprise_id"], found["invitation_id"]
    await people.lock_enterprise(ctx.tx, enterprise_id)
    row = await store.lock(ctx.tx, enterprise_id, invitation_id)
    if row is None or rules.state(store.standing(row), ctx.clock.now_ms()) != "open":
        raise NotInvited
    person_id, roles, placements = ctx.caller.person_id, store.roles_of(row), store.departments_of(row)
    left_at = await people.left_at(ctx.tx, enterprise_id, person_id)
    if left_at is not None and left_at >= row["created_at"]:
        raise NotInvited  # whoever was put out does not come back by a link from before
    maker = await grants_of(ctx.tx, enterprise_id, row["created_by"])
    grant = maker.of(MEMBERS_MANAGE)
    if grant is None or not may_give(maker.roles, roles, TOP[maker.realm or "enterprise"]):
        raise NotInvited
    reach = scope_of(grant, maker, row["created_by"])
    if not may_place(reach, {one.department_id for one in placements}, new=True):
        raise NotInvited
    try:
        await checked_roles(ctx, enterprise_id, roles)
        await check_placements(ctx, enterprise_id, placements)
    except BankhubError as error:
        raise NotInvited from error  # a role or a department of it has been removed
    await admit(ctx, enterprise_id, person_id, title=row["title"], roles=roles, placements=placements)
    await store.use(ctx.tx, enterprise_id, invitation_id)
    ctx.audit(object=invitation_id, enterprise_id=enterprise_id, after=roles)
    return int(enterprise_id)


def _is_mine(ctx: Context, row: Record) -> bool:
    """Whether the caller may see it and take it back: who manages some departments only, what they made."""
    return ctx.reach.everything or row["created_by"] == ctx.caller.person_id


async def _open(ctx: Context, code: str) -> Record:
    row = await store.by_code(ctx.tx, rules.digest(parts(ctx).code_secret, code))
    if row is None or rules.state(store.standing(row), ctx.clock.now_ms()) != "open":
        raise NotInvited
    return row


def _shown(ctx: Context, row: Record) -> Invitation:
    return Invitation(
        invitation_id=row["invitation_id"],
        roles=store.roles_of(row),
        departments=store.departments_of(row),
        title=row["title"],
        uses=row["uses"],
        uses_max=row["uses_max"],
        state=rules.state(store.standing(row), ctx.clock.now_ms()),
        expires_ms=to_ms(row["expires_at"]),
        created_ms=to_ms(row["created_at"]),
    )
