"""Tables of departments and of an enterprise's own roles."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
)

from core.db.metadata import metadata

departments = Table(
    "gateway_departments",
    metadata,
    Column("department_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("parent_id", BigInteger, nullable=True),  # NULL: at the top
    Column("name", String(64), nullable=False),
    Column("position", Integer, nullable=False),  # among its siblings
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_gateway_departments_enterprise", "enterprise_id", "parent_id"),
)

department_members = Table(
    "gateway_department_members",
    metadata,
    Column("enterprise_id", BigInteger, nullable=False),
    Column("department_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("is_head", SmallInteger, nullable=False),
    PrimaryKeyConstraint("enterprise_id", "department_id", "person_id", name="pk_gateway_department_members"),
    Index("ix_gateway_department_members_person", "enterprise_id", "person_id"),
)

roles = Table(
    "gateway_roles",
    metadata,
    Column("enterprise_id", BigInteger, nullable=False),
    Column("role", String(32), nullable=False),  # its id, decimal: as in gateway_member_roles
    Column("name", String(64), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("enterprise_id", "role", name="pk_gateway_roles"),
    UniqueConstraint("enterprise_id", "name", name="uq_gateway_roles_name"),
)

role_grants = Table(
    "gateway_role_grants",
    metadata,
    Column("enterprise_id", BigInteger, nullable=False),
    Column("role", String(32), nullable=False),
    Column("permission", String(64), nullable=False),
    Column("reach", SmallInteger, nullable=False),  # core.access.Reach
    Column("amount_fen", BigInteger, nullable=True),  # NULL: any amount
    PrimaryKeyConstraint("enterprise_id", "role", "permission", name="pk_gateway_role_grants"),
)
