"""Tables of second factors: TOTP secrets, recovery codes, logins that wait for a factor."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
)

from core.db.metadata import metadata

totp = Table(
    "gateway_totp",
    metadata,
    Column("person_id", BigInteger, primary_key=True, autoincrement=False),
    Column("secret_sealed", LargeBinary(96), nullable=False),  # SM4-GCM, for this row alone
    Column("secret_key", Integer, nullable=False),  # version of the key it was sealed with
    Column("last_step", BigInteger, nullable=False),  # of the newest code that was accepted: none is twice
    Column("enrolled_at", DateTime(timezone=True), nullable=False),
    Column("confirmed_at", DateTime(timezone=True), nullable=True),  # NULL: not a factor yet
)

recovery_codes = Table(
    "gateway_recovery_codes",
    metadata,
    Column("person_id", BigInteger, nullable=False),
    Column("code_digest", LargeBinary(32), nullable=False),  # keyed
    Column("used_at", DateTime(timezone=True), nullable=True),
    PrimaryKeyConstraint("person_id", "code_digest", name="pk_gateway_recovery_codes"),
)

login_tickets = Table(
    "gateway_login_tickets",
    metadata,
    Column("ticket_digest", LargeBinary(32), primary_key=True),
    Column("person_id", BigInteger, nullable=False),
    Column("bound_digest", LargeBinary(32), nullable=False),  # keyed: of device, source and key
    Column("sms", SmallInteger, nullable=False),  # whether a short message will do
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column(
        "guarded", SmallInteger, nullable=True
    ),  # gateway.factors.store.Guard; NULL: the password was right
    Index("ix_gateway_login_tickets_expires", "expires_at"),
    Index("ix_gateway_login_tickets_person", "person_id"),
)
