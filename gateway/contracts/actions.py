"""Applying for a contract, signing it, and what the bank decides."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from core.actions import MEMBER, Context, Rate, action
from core.clock import to_ms
from core.config_center import live
from core.db import Record
from core.errors import Conflict, Invalid, NotFound
from gateway.api import (
    CONTRACTS_REVIEW,
    CONTRACTS_SIGN,
    ApplyForContract,
    Contract,
    DecideContract,
    ListContracts,
    ShowContract,
    SignContract,
)
from gateway.contracts import rules, store
from gateway.contracts.rules import State, Step
from gateway.identity import store as people
from gateway.parts import parts
from gateway.ports import CoreAnswer
from gateway.proposals import store as proposals
from gateway.proposals.second import seconded
from gateway.stepup import describe
from gateway.support.reasons import because

AGREEMENT = live("gateway.contracts.agreement", "2026-11", "Version of the contract that enterprises sign")
_KIND: Final = "contract"


@action(ApplyForContract, needs=CONTRACTS_SIGN, transaction=False, limit=Rate(burst=5, per_s=0.02))
async def apply(ctx: Context, command: ApplyForContract) -> Contract:
    """Ask for a contract. The core banking system is asked about the account; of its number we keep the last four."""
    account = command.account_no.get_secret_value()
    began = ctx.clock.now()
    row = await ctx.transact(_begin, account[-4:], began)
    answer = await parts(ctx).core.check(
        enterprise=row["full_name"],
        credit_code=row["credit_code"],
        account_no=account,
        legal_person=command.legal_person,
    )
    return await ctx.transact(_checked, answer, account[-4:], began)


async def _begin(ctx: Context, account_tail: str, now: datetime) -> Record:
    enterprise_id = ctx.enterprise_id
    await people.lock_enterprise(ctx.tx, enterprise_id)
    found = await people.enterprise(ctx.tx, enterprise_id)
    if found is None or found["kind"] == "bank":
        raise NotFound
    state = _next(await store.lock(ctx.tx, enterprise_id), Step.APPLY)
    await store.begin(
        ctx.tx,
        enterprise_id,
        state,
        account_tail=account_tail,
        by=ctx.caller.person_id,
        now=now,
    )
    ctx.audit(object=enterprise_id)
    return found


async def _checked(ctx: Context, answer: CoreAnswer, account_tail: str, began: datetime) -> Contract:
    row = await store.lock(ctx.tx, ctx.enterprise_id)
    if row is None or (row["account_tail"], row["changed_at"]) != (account_tail, began):
        raise Conflict("it was applied for with another account meanwhile")  # which this answer is not about
    step = Step.CHECK_PASSED if answer.passed else Step.CHECK_FAILED
    await store.move(ctx.tx, ctx.enterprise_id, _next(row, step), answer.reason, ctx.clock.now())
    return await _one(ctx, ctx.enterprise_id)


@action(SignContract, needs=CONTRACTS_SIGN, step_up="sign", describe=describe.signing_contract)
async def sign(ctx: Context, command: SignContract) -> Contract:
    """Sign the agreement in force; the bank reviews next. What was confirmed is kept as evidence."""
    current = ctx.runtime.config.get(AGREEMENT)
    if command.agreement != current:
        raise Conflict("this is not the agreement in force", detail={"version": current})
    enterprise_id, now = ctx.enterprise_id, ctx.clock.now()
    row = await store.lock(ctx.tx, enterprise_id)
    state = _next(row, Step.SIGN)
    await store.move(ctx.tx, enterprise_id, state, None, now)
    await store.sign(ctx.tx, enterprise_id, command.agreement, ctx.caller.person_id, now)
    ctx.audit(object=enterprise_id, before=row and row["state"], after=[state, command.agreement])
    return await _one(ctx, enterprise_id)


@action(ShowContract, needs=MEMBER, audited=False)
async def mine(ctx: Context, command: ShowContract) -> Contract | None:
    """Where one's own enterprise stands; nothing where it has not applied."""
    row = await store.one(ctx.tx, ctx.enterprise_id)
    return None if row is None else _shown(row, None)


@action(ListContracts, needs=CONTRACTS_REVIEW, audited=False)
async def list_contracts(ctx: Context, command: ListContracts) -> list[Contract]:
    """Contracts in a state, those that wait longest first."""
    rows = await store.in_state(ctx.tx, command.state)
    waiting = await proposals.some(ctx.tx, _KIND, [row["enterprise_id"] for row in rows])
    return [
        _shown(row, waiting[row["enterprise_id"]].decision if row["enterprise_id"] in waiting else None)
        for row in rows
    ]


@action(DecideContract, needs=CONTRACTS_REVIEW, step_up="sign", describe=describe.deciding_contract)
async def decide(ctx: Context, command: DecideContract) -> Contract:
    """Pass, suspend, resume and end by two persons; return and reject by one. Rights follow at once."""
    enterprise_id, step = command.enterprise_id, Step(command.decision)
    if step in rules.NEEDS_REASON and command.reason is None:
        raise Invalid("say why")
    await people.lock_enterprise(ctx.tx, enterprise_id)
    row = await store.lock(ctx.tx, enterprise_id)
    if row is None:
        raise NotFound
    state = _next(row, step)
    ctx.audit(before=row["state"], after=[step, state])
    await because(ctx, enterprise_id, command.reason)
    if step in rules.TWO_PERSONS and not await seconded(ctx, _KIND, enterprise_id, step):
        return await _one(ctx, enterprise_id)
    await proposals.clear(ctx.tx, _KIND, enterprise_id)
    await store.move(ctx.tx, enterprise_id, state, command.reason, ctx.clock.now())
    await people.set_stage(ctx.tx, enterprise_id, rules.stage(state))
    parts(ctx).regrant(ctx, [(0, enterprise_id)])
    return await _one(ctx, enterprise_id)


def _next(row: Record | None, step: Step) -> State:
    """Raises `Conflict` where the contract is not in a state for this step."""
    state = rules.after(None if row is None else State(row["state"]), step)
    if state is None:
        raise Conflict("the contract is not in a state for this")
    return state


async def _one(ctx: Context, enterprise_id: int) -> Contract:
    row = await store.one(ctx.tx, enterprise_id)
    assert row is not None
    waiting = await proposals.lock(ctx.tx, _KIND, enterprise_id)
    return _shown(row, None if waiting is None else waiting.decision)


def _shown(row: Record, proposed: str | None) -> Contract:
    return Contract(
        enterprise_id=row["enterprise_id"],
        name=row["full_name"],
        state=row["state"],
        account_tail=row["account_tail"],
        reason=row["reason"],
        agreement=row["agreement"],
        proposed=proposed,
        changed_ms=to_ms(row["changed_at"]),
    )
