"""Whom or what a call is about, by name: an id tells nobody what they are confirming."""

from __future__ import annotations

from core.actions import Command
from core.context import Context
from gateway.identity import store as people
from gateway.identity.rules import masked_name
from gateway.oauth.apps import store as apps
from gateway.people.phones import shown_phone

_BANK = "bank"


async def target_of(ctx: Context, command: Command[object]) -> str | None:
    """As the caller may know it anyway: a colleague by name, for the bank's staff anybody masked; None: not by name."""
    here = await people.enterprise(ctx.tx, ctx.enterprise_id) if ctx.enterprise_id else None
    bank = here is not None and here["kind"] == _BANK
    if isinstance(person_id := getattr(command, "person_id", None), int):
        return await _person(ctx, person_id, bank=bank)
    if isinstance(app_id := getattr(command, "app_id", None), int):
        return await _app(ctx, app_id, bank=bank)
    if bank and isinstance(enterprise_id := getattr(command, "enterprise_id", None), int):
        found = await people.enterprise(ctx.tx, enterprise_id)
        return None if found is None else str(found["full_name"])
    return None


async def _app(ctx: Context, app_id: int, *, bank: bool) -> str | None:
    client = await apps.client(ctx.tx, app_id)
    if client is None:
        return None
    owner = await people.enterprise(ctx.tx, client.enterprise_id)
    offered = owner is not None and owner["kind"] == _BANK  # to everybody
    return f"应用“{client.title}”" if bank or offered or client.enterprise_id == ctx.enterprise_id else None


async def _person(ctx: Context, person_id: int, *, bank: bool) -> str | None:
    colleague = (
        bool(ctx.enterprise_id)
        and await people.membership_state(ctx.tx, ctx.enterprise_id, person_id) is not None
    )
    row = await people.person(ctx.tx, person_id) if colleague or bank else None
    if row is None:
        return None
    name, phone = row["full_name"] or "", shown_phone(ctx.columns, row)
    shown = name if colleague else masked_name(name)
    return f"{shown}（{phone}）" if phone else shown
