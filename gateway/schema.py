"""Tables of the gateway: people, enterprises, memberships, sessions and their refresh tokens."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

from core.db.metadata import metadata

people = Table(
    "gateway_people",
    metadata,
    Column("person_id", BigInteger, primary_key=True, autoincrement=False),
    Column("phone", String(20), nullable=True),
    Column("login_name", String(64), nullable=True),  # lower case
    Column("full_name", String(64), nullable=False),
    Column(
        "password_hash", String(255), nullable=True
    ),  # argon2id, PHC string; NULL: cannot log in by password
    Column("state", String(16), nullable=False),  # active | disabled
    Column("created_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("phone", name="uq_gateway_people_phone"),
    UniqueConstraint("login_name", name="uq_gateway_people_login_name"),
)

enterprises = Table(
    "gateway_enterprises",
    metadata,
    Column("enterprise_id", BigInteger, primary_key=True, autoincrement=False),
    Column("full_name", String(128), nullable=False),
    Column("credit_code", String(18), nullable=False),  # 统一社会信用代码, GB 32100
    Column("state", String(16), nullable=False),  # active | closed
    Column("created_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("credit_code", name="uq_gateway_enterprises_credit_code"),
)

memberships = Table(
    "gateway_memberships",
    metadata,
    Column("enterprise_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("title", String(64), nullable=True),
    Column("state", String(16), nullable=False),  # active | left
    Column("joined_at", DateTime(timezone=True), nullable=False),
    Column("left_at", DateTime(timezone=True), nullable=True),
    PrimaryKeyConstraint("enterprise_id", "person_id", name="pk_gateway_memberships"),
    Index("ix_gateway_memberships_person", "person_id"),
    Index("ix_gateway_memberships_left", "left_at"),
)

member_roles = Table(
    "gateway_member_roles",
    metadata,
    Column("enterprise_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("role", String(32), nullable=False),
    PrimaryKeyConstraint("enterprise_id", "person_id", "role", name="pk_gateway_member_roles"),
)

sessions = Table(
    "gateway_sessions",
    metadata,
    Column("session_id", BigInteger, primary_key=True, autoincrement=False),
    Column("person_id", BigInteger, nullable=False),
    Column("enterprise_id", BigInteger, nullable=False),  # the active one
    Column("device", String(64), nullable=False),
    Column("platform", String(32), nullable=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True), nullable=False),  # of the last refresh
    Column("expires_at", DateTime(timezone=True), nullable=False),  # the absolute end
    Column("ended_at", DateTime(timezone=True), nullable=True),
    Column("ended_why", String(16), nullable=True),  # logout | revoked | theft | left
    Index("ix_gateway_sessions_person", "person_id", "device"),
    Index("ix_gateway_sessions_ended", "ended_at"),
)

refresh_tokens = Table(
    "gateway_refresh_tokens",
    metadata,
    Column("token_digest", LargeBinary(32), primary_key=True),  # SHA-256; the token itself is nowhere
    Column("session_id", BigInteger, nullable=False),
    Column("issued_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),  # the idle end
    Column("rotated_at", DateTime(timezone=True), nullable=True),
    Column("successor_digest", LargeBinary(32), nullable=True),
    Index("ix_gateway_refresh_tokens_session", "session_id"),
)

login_failures = Table(
    "gateway_login_failures",
    metadata,
    Column("key_digest", LargeBinary(32), primary_key=True),  # of account and source, or of the source alone
    Column("failures", Integer, nullable=False),
    Column("last_at", DateTime(timezone=True), nullable=False),
    Column("blocked_until", DateTime(timezone=True), nullable=True),
    Index("ix_gateway_login_failures_last", "last_at"),
)
