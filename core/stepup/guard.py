"""What the dispatcher asks before it runs an action that needs a step-up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.errors import StepUpRequired
from core.keys import cluster_secret, derive
from core.stepup import rules, store

if TYPE_CHECKING:
    from core.actions import Action, Command
    from core.context import Context
    from core.db import Transaction
    from core.settings import Settings


def demanded(action: Action[Any, Any], command: Command[Any], ctx: Context) -> bool:
    """Whether this call has to bring a proven challenge. Our own services vouch for what they call."""
    who = ctx.principal
    if action.step_up is None or ctx.inside or who is None or who.is_service:
        return False
    return action.step_up_when is None or action.step_up_when(command, who)


async def spend(tx: Transaction, action: Action[Any, Any], command: Command[Any], ctx: Context) -> None:
    """Spend the challenge that the call names, in the transaction that does what it is for.

    Raises `StepUpRequired`, always the same whatever is wrong with it.
    """
    who, kept = ctx.caller, None
    if ctx.step_up is not None:
        kept = await store.lock(tx, ctx.step_up, who.enterprise_id)
    if ctx.step_up is not None and kept is not None:
        fields = rules.fields_of(command, secret_of(ctx.runtime.settings), kept.nonce)
        if rules.may_spend(
            kept,
            enterprise_id=who.enterprise_id,
            person_id=who.person_id,
            session_id=who.session_id,
            action=action.name,
            asked=rules.command_digest(action.name, fields, kept.nonce),
            now_ms=ctx.clock.now_ms(),
        ):
            await store.spend(tx, ctx.step_up, who.enterprise_id, ctx.clock.now())
            return
    raise StepUpRequired(detail={"code": "step_up_required", "step_up": action.step_up})


def secret_of(settings: Settings) -> bytes:
    """What digests of secrets in messages are keyed with; the same in every process."""
    return derive(cluster_secret(settings), "step-up secrets")
