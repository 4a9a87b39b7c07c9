"""Tables of what people ask about their own data."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Index, LargeBinary, String, Table

from core.db.metadata import metadata

privacy_tasks = Table(
    "gateway_privacy_tasks",
    metadata,
    Column("task_id", BigInteger, primary_key=True, autoincrement=False),
    Column("person_id", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # export | erase
    Column("state", String(16), nullable=False),  # waiting | done
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("done_at", DateTime(timezone=True), nullable=True),
    Column("expires_at", DateTime(timezone=True), nullable=True),  # of the result
    Column("result_sealed", LargeBinary, nullable=True),  # SM4-GCM, for this row alone
    Index("ix_gateway_privacy_tasks_person", "person_id"),
    Index("ix_gateway_privacy_tasks_expires", "expires_at"),
)
