"""Tables of people, enterprises and memberships."""

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
    Column(
        "phone_sealed", LargeBinary(96), nullable=True
    ),  # SM4-GCM, for this row alone (core.crypto.columns)
    Column("phone_index", LargeBinary(32), nullable=True),  # HMAC-SM3 of the number
    Column("phone_key", Integer, nullable=True),  # version of the key it was sealed with
    Column("phone_index_key", Integer, nullable=True),
    Column("login_name", String(64), nullable=True),  # lower case
    Column("full_name", String(64), nullable=False),
    Column(
        "password_hash", String(255), nullable=True
    ),  # argon2id, PHC string; NULL: cannot log in by password
    Column("state", String(16), nullable=False),  # active | disabled | erased
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("registered_at", DateTime(timezone=True), nullable=True),  # NULL: a guest, nothing but a phone
    UniqueConstraint("phone_index", name="uq_gateway_people_phone_index"),
    UniqueConstraint("login_name", name="uq_gateway_people_login_name"),
)

enterprises = Table(
    "gateway_enterprises",
    metadata,
    Column("enterprise_id", BigInteger, primary_key=True, autoincrement=False),
    Column("full_name", String(128), nullable=False),
    Column("credit_code", String(18), nullable=False),  # 统一社会信用代码, GB 32100
    Column("state", String(16), nullable=False),  # active | closed
    Column("kind", String(16), nullable=False),  # or bank: its operations staff
    Column("stage", String(16), nullable=False),  # applied | verified | contracted
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
    Column("role", String(32), nullable=False),  # a built-in one, or the id of one of the enterprise's own
    PrimaryKeyConstraint("enterprise_id", "person_id", "role", name="pk_gateway_member_roles"),
)

consents = Table(
    "gateway_consents",
    metadata,
    Column("person_id", BigInteger, nullable=False),
    Column("document", String(32), nullable=False),  # agreement
    Column("version", String(32), nullable=False),
    Column("accepted_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("person_id", "document", "version", name="pk_gateway_consents"),
)
