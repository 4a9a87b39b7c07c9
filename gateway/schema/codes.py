"""Tables of one-time codes and of how many were sent."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Index, Integer, LargeBinary, SmallInteger, Table

from core.db.metadata import metadata

codes = Table(
    "gateway_codes",
    metadata,
    Column("slot_digest", LargeBinary(32), primary_key=True),  # keyed: of purpose, phone and object
    Column("code_digest", LargeBinary(32), nullable=False),  # keyed: of slot and code
    Column("tries", SmallInteger, nullable=False),  # wrong ones so far
    Column("issued_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Index("ix_gateway_codes_expires", "expires_at"),
)

code_counts = Table(
    "gateway_code_counts",
    metadata,
    Column("key_digest", LargeBinary(32), primary_key=True),  # keyed: of a phone or a source
    Column("sent", Integer, nullable=False),  # since window_at
    Column("window_at", DateTime(timezone=True), nullable=False),
    Column("last_at", DateTime(timezone=True), nullable=False),
    Index("ix_gateway_code_counts_last", "last_at"),
)
