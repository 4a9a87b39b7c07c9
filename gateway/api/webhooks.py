"""Webhooks: an enterprise has events sent to a machine of its own (https://www.standardwebhooks.com)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from core.actions import Command, Event, Id, Permission, Value

WEBHOOKS_MANAGE = Permission("webhooks:manage", "管理事件推送", roles={"administrator"}, risk=2, scope=True)

Url = Annotated[str, StringConstraints(max_length=500, pattern=r"^https?://[!-~]+$")]
EventName = Annotated[str, StringConstraints(max_length=100, pattern=r"^[a-z][a-z0-9_.]*$")]
EventNames = Annotated[list[EventName], Field(min_length=1, max_length=50)]


class EventKind(Value):
    """An event that can be sent out."""

    name: str
    summary: str


class Webhook(Value):
    """Where events go. `why` says what disabled it; `failing_since_ms` is since when nothing gets through."""

    webhook_id: Id
    url: str
    events: list[str]
    state: Literal["active", "disabled"]
    why: str | None
    failing_since_ms: int | None
    created_ms: int


class WebhookSecret(Value):
    """What deliveries are signed with: ``whsec_`` and base64. Shown once; the one before is good a while longer."""

    webhook_id: Id
    secret: str


class NewWebhook(Webhook):
    """A webhook just made, with its secret."""

    secret: str


class WebhookDelivery(Value):
    """One event for one webhook; `delivery_id` is in the header webhook-id."""

    delivery_id: Id
    webhook_id: Id
    event: str
    state: Literal["waiting", "delivered", "failed"]
    attempts: int
    due_ms: int | None  # of the next attempt
    status: int | None  # that the receiver answered last
    error: str | None
    created_ms: int


class ListEventKinds(Command[list[EventKind]], action="gateway.webhooks.events"):
    """The events that can be sent out."""


class AddWebhook(Command[NewWebhook], action="gateway.webhooks.add"):
    """Have events sent to `url` from now on."""

    url: Url
    events: EventNames


class ListWebhooks(Command[list[Webhook]], action="gateway.webhooks.list"):
    """The enterprise's webhooks."""


class ChangeWebhook(Command[Webhook], action="gateway.webhooks.change"):
    """Change what is given. `enabled` true begins again with what has waited, false lets events wait no more."""

    webhook_id: Id
    url: Url | None = None
    events: EventNames | None = None
    enabled: bool | None = None


class RenewWebhookSecret(Command[WebhookSecret], action="gateway.webhooks.renew_secret"):
    """A new secret; for a day deliveries are signed with the old one as well."""

    webhook_id: Id


class RemoveWebhook(Command[None], action="gateway.webhooks.remove"):
    """Send nothing there any more."""

    webhook_id: Id


class ListWebhookDeliveries(Command[list[WebhookDelivery]], action="gateway.webhooks.deliveries"):
    """What was sent to a webhook, newest first; `before` is the last id of the page before."""

    webhook_id: Id
    before: Id | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class ResendWebhookDelivery(Command[None], action="gateway.webhooks.resend"):
    """Send a delivery again, whatever became of it."""

    delivery_id: Id


class WebhookDisabled(Event, event="gateway.webhook_disabled"):
    """A webhook was switched off because its receiver has not taken anything for days, or said that it is gone."""

    webhook_id: Id
    why: str
