"""Registering webhooks, looking at what was sent, sending it again; and the fan-out of events to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from core.actions import EVENTS, Context, Event, EventHandler, action
from core.clock import to_ms
from core.db import Record
from core.errors import Conflict, Invalid, NotFound
from core.values import ID_MAX
from gateway.api import (
    WEBHOOKS_MANAGE,
    AddWebhook,
    ChangeWebhook,
    EventKind,
    ListEventKinds,
    ListWebhookDeliveries,
    ListWebhooks,
    NewWebhook,
    RemoveWebhook,
    RenewWebhookSecret,
    ResendWebhookDelivery,
    Webhook,
    WebhookDelivery,
    WebhookSecret,
)
from gateway.parts import parts
from gateway.stepup import describe
from gateway.webhooks import rules, store

_STATES = ("waiting", "delivered", "failed")


@action(ListEventKinds, needs=WEBHOOKS_MANAGE, audited=False)
async def events(ctx: Context, command: ListEventKinds) -> list[EventKind]:
    """The events that can be sent out, by name."""
    return [
        EventKind(name=name, summary=(kind.__doc__ or "").partition("\n")[0])
        for name, kind in sorted(EVENTS.items())
        if kind.leaves
    ]


@action(AddWebhook, needs=WEBHOOKS_MANAGE, step_up="sign", describe=describe.sending_out)
async def add(ctx: Context, command: AddWebhook) -> NewWebhook:
    """Have events sent to a URL from now on. The answer is the only place where its secret is shown."""
    have = parts(ctx)
    _check(ctx, command.url, command.events)
    there = await store.of_enterprise(ctx.tx, ctx.enterprise_id)
    if len(there) >= ctx.runtime.settings.webhook_max:
        raise Conflict("there are as many webhooks as there may be")
    webhook_id = ctx.ids.next()
    await store.insert(
        ctx.tx, webhook_id, ctx.enterprise_id, command.url, sorted(set(command.events)), ctx.clock.now()
    )
    ctx.audit(object=webhook_id, after=[command.url, sorted(set(command.events))])
    secret = rules.shown_secret(have.webhooks.secret(webhook_id, 1))
    return NewWebhook(**_plain(await _locked(ctx, webhook_id)), secret=secret)


@action(ListWebhooks, needs=WEBHOOKS_MANAGE, audited=False)
async def list_webhooks(ctx: Context, command: ListWebhooks) -> list[Webhook]:
    """The enterprise's webhooks, oldest first."""
    return [Webhook(**_plain(row)) for row in await store.of_enterprise(ctx.tx, ctx.enterprise_id)]


@action(ChangeWebhook, needs=WEBHOOKS_MANAGE, step_up="sign", describe=describe.sending_out)
async def change(ctx: Context, command: ChangeWebhook) -> Webhook:
    """Change URL, events or state. Enabling begins with what has waited meanwhile."""
    row = await _locked(ctx, command.webhook_id)
    url = command.url or row["url"]
    names = row["events"] if command.events is None else " ".join(sorted(set(command.events)))
    _check(ctx, url, command.events or ())
    state, why, failing = row["state"], row["why"], row["failing_since"]
    if command.enabled is not None:
        state, why = (store.ACTIVE, None) if command.enabled else (store.DISABLED, "by hand")
        failing = None if command.enabled else failing
    await store.change(
        ctx.tx, ctx.enterprise_id, command.webhook_id, url=url, events=names, state=state, why=why,
        failing_since=failing,
    )  # fmt: skip
    if command.enabled:
        await store.begin_again(ctx.tx, ctx.enterprise_id, command.webhook_id, ctx.clock.now())
    ctx.audit(
        object=command.webhook_id, before=[row["url"], row["events"], row["state"]], after=[url, names, state]
    )
    return Webhook(**_plain(await _locked(ctx, command.webhook_id)))


@action(RenewWebhookSecret, needs=WEBHOOKS_MANAGE, step_up="sign", describe=describe.renewing_webhook)
async def renew_secret(ctx: Context, command: RenewWebhookSecret) -> WebhookSecret:
    """A new secret. Deliveries are signed with both until the old one ends."""
    row = await _locked(ctx, command.webhook_id)
    until = ctx.clock.now() + timedelta(seconds=ctx.runtime.settings.webhook_secret_overlap_s)
    await store.renew(ctx.tx, ctx.enterprise_id, command.webhook_id, until)
    ctx.audit(object=command.webhook_id, before=row["secret_no"], after=row["secret_no"] + 1)
    secret = parts(ctx).webhooks.secret(command.webhook_id, row["secret_no"] + 1)
    return WebhookSecret(webhook_id=command.webhook_id, secret=rules.shown_secret(secret))


@action(RemoveWebhook, needs=WEBHOOKS_MANAGE)
async def remove(ctx: Context, command: RemoveWebhook) -> None:
    """Send nothing there any more, and forget what was sent."""
    row = await _locked(ctx, command.webhook_id)
    await store.remove(ctx.tx, ctx.enterprise_id, command.webhook_id)
    ctx.audit(object=command.webhook_id, before=[row["url"], row["events"], row["state"]])


@action(ListWebhookDeliveries, needs=WEBHOOKS_MANAGE, audited=False)
async def deliveries(ctx: Context, command: ListWebhookDeliveries) -> list[WebhookDelivery]:
    """What was sent to a webhook, newest first."""
    there = await store.of_enterprise(ctx.tx, ctx.enterprise_id)
    if command.webhook_id not in [row["webhook_id"] for row in there]:
        raise NotFound
    before = ID_MAX if command.before is None else command.before
    rows = await store.deliveries(ctx.tx, ctx.enterprise_id, command.webhook_id, before, command.limit)
    return [
        WebhookDelivery.model_validate(
            {
                "delivery_id": row["delivery_id"],
                "webhook_id": row["webhook_id"],
                "event": row["event_name"],
                "state": _STATES[row["state"]],
                "attempts": row["attempts"],
                "due_ms": to_ms(row["due_at"]) if row["state"] == store.WAITING else None,
                "status": row["status"],
                "error": row["error"],
                "created_ms": to_ms(row["created_at"]),
            }
        )
        for row in rows
    ]


@action(ResendWebhookDelivery, needs=WEBHOOKS_MANAGE)
async def resend(ctx: Context, command: ResendWebhookDelivery) -> None:
    """Send a delivery again, with the same webhook-id: a receiver that has it already knows."""
    if not await store.resend(ctx.tx, ctx.enterprise_id, command.delivery_id, ctx.clock.now()):
        raise NotFound
    ctx.audit(object=command.delivery_id)


def _check(ctx: Context, url: str, names: Sequence[str]) -> None:
    why = parts(ctx).webhooks.egress.refused(url)
    if why is not None:
        raise Invalid(why, detail={"fields": [{"field": "url", "type": "url", "message": why}]})
    unknown = [name for name in names if name not in EVENTS or not EVENTS[name].leaves]
    if unknown:
        raise Invalid("an event that is not sent out", detail={"events": unknown})


async def _locked(ctx: Context, webhook_id: int) -> Record:
    row = await store.lock(ctx.tx, ctx.enterprise_id, webhook_id)
    if row is None:
        raise NotFound
    return row


def _plain(row: Record) -> dict[str, Any]:
    since = row["failing_since"]
    return {
        "webhook_id": row["webhook_id"],
        "url": row["url"],
        "events": row["events"].split(),
        "state": row["state"],
        "why": row["why"],
        "failing_since_ms": None if since is None else to_ms(since),
        "created_ms": to_ms(row["created_at"]),
    }


# --- events -----------------------------------------------------------------------------------------------------------


async def fan_out(ctx: Context, event: Event) -> None:
    """A row for each webhook that wants this event; the sender does the rest."""
    name = event.event_name
    wanting = [
        row
        for row in await store.of_enterprise(ctx.tx, event.enterprise_id)
        if row["state"] == store.ACTIVE and name in row["events"].split()
    ]
    if not wanting:
        return
    now = ctx.clock.now()
    body = json.dumps(
        {"type": name, "timestamp": now.isoformat(), "data": event.model_dump(mode="json")},
        ensure_ascii=False,
        separators=(",", ":"),
    )
    for row in wanting:
        await store.insert_delivery(
            ctx.tx, ctx.ids.next(), event.enterprise_id, row["webhook_id"], name, body, now
        )


def handlers() -> tuple[EventHandler[Any], ...]:
    """A handler of `fan_out` for each event that may leave, of those whose contracts are imported."""
    return tuple(
        EventHandler(kind, f"gateway.webhooks.fan_out:{name}", fan_out)
        for name, kind in sorted(EVENTS.items())
        if kind.leaves
    )
