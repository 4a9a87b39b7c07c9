"""Ending sessions before their time, and making room for another one."""

from __future__ import annotations

from datetime import timedelta

from core.actions import Context
from core.clock import to_ms
from core.db import Record
from core.errors import Conflict
from gateway.api import SessionRevoked
from gateway.factors import store as factors
from gateway.parts import parts
from gateway.sessions import rules, store


async def end_session(
    ctx: Context, session_id: int, person_id: int, enterprise_id: int, device: str, why: str
) -> None:
    """End a session: its tokens are refused, the hub closes its connections. Nothing where it had ended."""
    if not await store.end(ctx.tx, session_id, why, ctx.clock.now()):
        return
    parts(ctx).end(ctx, [session_id])
    ctx.emit(
        SessionRevoked.model_validate(
            {
                "enterprise_id": enterprise_id,
                "session_id": session_id,
                "person_id": person_id,
                "device": device,
                "why": why,
            }
        )
    )


async def end_all(ctx: Context, person_id: int, why: str) -> None:
    """End every session of a person, wherever, and every login that waits for its second factor: what they know or
    hold has changed, or they may not be here."""
    await factors.drop_tickets(ctx.tx, person_id)
    for row in await store.lock_all(ctx.tx, person_id, ctx.clock.now()):
        await end_session(ctx, row["session_id"], person_id, row["enterprise_id"], row["device"], why)


def idle(ctx: Context, session: Record) -> bool:
    """Whether it (jkt, used_at) has not been used for so long that nobody can go on with it."""
    idle_s = parts(ctx).life(session["jkt"] or "").idle_s
    over: bool = session["used_at"] + timedelta(seconds=idle_s) <= ctx.clock.now()
    return over


async def make_room(ctx: Context, person_id: int, acr: int) -> None:
    """Let a person begin one more session of strength `acr`; the caller holds the lock of the person.

    Others end where there would be more than `sessions_max`. Raises `Conflict` where these are all stronger.
    """
    now = ctx.clock.now()
    live = {row["session_id"]: row for row in await store.held(ctx.tx, person_id, now)}
    held = []
    for one, row in live.items():
        held.append(rules.Held(one, 0 if idle(ctx, row) else row["acr"], to_ms(row["used_at"])))
    going = rules.crowded_out(held, ctx.runtime.settings.sessions_max, acr)
    if going is None:
        raise Conflict("too many sessions: end one first")
    for one in going:
        row = live[one]
        await end_session(ctx, one, person_id, row["enterprise_id"], row["device"], "too_many")
