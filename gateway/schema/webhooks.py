"""Tables of webhooks and their deliveries. Secrets are derived from the installation's, so none is stored."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
)

from core.db.metadata import metadata

webhooks = Table(
    "gateway_webhooks",
    metadata,
    Column("webhook_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("url", String(500), nullable=False),
    Column("events", Text, nullable=False),  # names, a space between them
    Column("state", String(16), nullable=False),  # active | disabled
    Column("why", String(64), nullable=True),  # it was disabled
    Column("failing_since", DateTime(timezone=True), nullable=True),
    Column("secret_no", Integer, nullable=False),  # counts renewals
    Column("previous_until", DateTime(timezone=True), nullable=True),  # the secret before is used as well
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_gateway_webhooks_enterprise", "enterprise_id"),
)

deliveries = Table(
    "gateway_webhook_deliveries",
    metadata,
    Column("delivery_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("webhook_id", BigInteger, nullable=False),
    Column("event_name", String(100), nullable=False),
    Column("body", Text, nullable=False),  # the JSON that is signed and sent
    Column("state", SmallInteger, nullable=False),  # 0 waiting, 1 delivered, 2 failed
    Column("attempts", Integer, nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("status", Integer, nullable=True),
    Column("error", String(64), nullable=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_gateway_webhook_deliveries_due", "state", "due_at"),
    Index("ix_gateway_webhook_deliveries_webhook", "webhook_id", "delivery_id"),
)
