"""Tables of core: outbox and inbox, jobs, sequences, worker leases, live settings."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from core import idempotency
from core.audit import schema as audit
from core.db.metadata import metadata
from core.stepup import schema as stepup

__all__ = ["audit", "idempotency", "metadata", "stepup"]

_TIME: Final = DateTime(timezone=True)

worker_leases = Table(
    "core_worker_leases",
    metadata,
    Column("worker", SmallInteger, primary_key=True, autoincrement=False),  # 0..1023, the number in ids
    Column("holder", String(64), nullable=False),  # a secret of the process that holds it
    Column("expires_at", _TIME, nullable=False),  # from then on another process may take it
    Column("horizon_ms", BigInteger, nullable=False),  # ids of this number carry times below this
)

sequences = Table(
    "core_sequences",
    metadata,
    Column("name", String(100), nullable=False),
    Column("business_date", Date, nullable=False),
    Column("last_number", BigInteger, nullable=False),
    PrimaryKeyConstraint("name", "business_date", name="pk_core_sequences"),
)

outbox = Table(
    "core_outbox",
    metadata,
    Column("event_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("event_name", String(100), nullable=False),
    Column("body", Text, nullable=False),  # JSON of the event
    Column("order_key", String(200), nullable=True),  # events of one key are handled in order_no's order
    Column("order_no", BigInteger, nullable=True),
    Column("traceparent", String(64), nullable=True),
    Column("state", SmallInteger, nullable=False),  # 0 new, 1 given out to its consumers
    Column("created_at", _TIME, nullable=False),
    Index("ix_core_outbox_state", "state", "event_id"),
    Index("ix_core_outbox_order", "order_key", "order_no"),
    Index("ix_core_outbox_created", "created_at"),
)

outbox_orders = Table(
    "core_outbox_orders",
    metadata,
    Column("order_key", String(200), primary_key=True),
    Column("last_no", BigInteger, nullable=False),
    Column("changed_at", _TIME, nullable=False),
    Index("ix_core_outbox_orders_changed", "changed_at"),
)

consumers = Table(
    "core_consumers",
    metadata,
    Column("consumer", String(200), nullable=False),
    Column("event_name", String(100), nullable=False),
    Column("seen_at", _TIME, nullable=False),  # when a process that has this consumer said so last
    PrimaryKeyConstraint("event_name", "consumer", name="pk_core_consumers"),
)

deliveries = Table(
    "core_deliveries",
    metadata,
    Column("consumer", String(200), nullable=False),
    Column("event_id", BigInteger, nullable=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("order_key", String(200), nullable=True),
    Column("order_no", BigInteger, nullable=True),
    Column("state", SmallInteger, nullable=False),  # 0 to be done, 1 done, 2 parked
    Column("attempts", Integer, nullable=False),
    Column("due_at", _TIME, nullable=False),  # not before; a relay that works on it moves this forward
    Column("reason", String(200), nullable=True),  # of the last failure: names of errors, never contents
    Column("changed_at", _TIME, nullable=False),
    PrimaryKeyConstraint("consumer", "event_id", name="pk_core_deliveries"),
    Index("ix_core_deliveries_due", "state", "due_at"),
    Index("ix_core_deliveries_event", "event_id"),
    Index("ix_core_deliveries_order", "consumer", "order_key", "order_no"),
)

inbox = Table(
    "core_inbox",
    metadata,
    Column("consumer", String(200), nullable=False),
    Column("event_id", BigInteger, nullable=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("handled_at", _TIME, nullable=False),
    PrimaryKeyConstraint("consumer", "event_id", name="pk_core_inbox"),
    Index("ix_core_inbox_handled", "handled_at"),
)

jobs = Table(
    "core_jobs",
    metadata,
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(100), nullable=False),
    Column(
        "dedupe_key", String(200), nullable=True
    ),  # a scheduled job: "schedule"; NULL: as many as asked for
    Column("params", Text, nullable=False),  # JSON
    Column("traceparent", String(64), nullable=True),
    Column("state", SmallInteger, nullable=False),  # 0 to be done, 1 done, 2 parked
    Column("due_at", _TIME, nullable=False),
    Column("attempts", Integer, nullable=False),  # of this run
    Column("runs", BigInteger, nullable=False),  # finished ones, of a scheduled job
    Column("lease_holder", String(64), nullable=True),
    Column("leased_until", _TIME, nullable=True),
    Column("reason", String(200), nullable=True),  # of the last failure: names of errors, never contents
    Column("changed_at", _TIME, nullable=False),
    UniqueConstraint("name", "dedupe_key", name="uq_core_jobs_dedupe"),
    Index("ix_core_jobs_due", "state", "due_at"),
)

config_values = Table(
    "core_config",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("current_value", Text, nullable=False),  # JSON
    Column("version", BigInteger, nullable=False),
    Column("changed_by", BigInteger, nullable=False),  # a person; 0: the command line
    Column("changed_at", _TIME, nullable=False),
)

config_history = Table(
    "core_config_history",
    metadata,
    Column("name", String(100), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("old_value", Text, nullable=True),  # JSON; NULL: the default
    Column("new_value", Text, nullable=True),  # JSON; NULL: back to the default
    Column("changed_by", BigInteger, nullable=False),
    Column("changed_at", _TIME, nullable=False),
    PrimaryKeyConstraint("name", "version", name="pk_core_config_history"),
)
