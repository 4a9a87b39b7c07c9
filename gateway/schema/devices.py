"""Tables of devices that have a key."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Index, LargeBinary, PrimaryKeyConstraint, String, Table

from core.db.metadata import metadata

devices = Table(
    "gateway_devices",
    metadata,
    Column("person_id", BigInteger, nullable=False),
    Column("jkt", String(43), nullable=False),  # thumbprint of the key (RFC 7638)
    Column("algorithm", String(8), nullable=False),  # ES256 | SM2
    Column("point", LargeBinary, nullable=False),  # of the public key, uncompressed
    Column("device", String(64), nullable=False),  # what the client calls its installation
    Column("name", String(64), nullable=False),
    Column("platform", String(32), nullable=True),
    Column("bound_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True), nullable=False),  # of the last login
    Column("revoked_at", DateTime(timezone=True), nullable=True),
    PrimaryKeyConstraint("person_id", "jkt", name="pk_gateway_devices"),
    Index("ix_gateway_devices_key", "jkt"),
)
