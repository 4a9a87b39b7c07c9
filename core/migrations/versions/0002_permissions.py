"""Permissions: departments, own roles, stages of enterprises and people"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gateway_department_members",
        sa.Column("enterprise_id", sa.BigInteger(), nullable=False),
        sa.Column("department_id", sa.BigInteger(), nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("is_head", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "enterprise_id", "department_id", "person_id", name="pk_gateway_department_members"
        ),
    )
    op.create_index(
        "ix_gateway_department_members_person",
        "gateway_department_members",
        ["enterprise_id", "person_id"],
        unique=False,
    )
    op.create_table(
        "gateway_departments",
        sa.Column("department_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("enterprise_id", sa.BigInteger(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("department_id", name=op.f("pk_gateway_departments")),
    )
    op.create_index(
        "ix_gateway_departments_enterprise",
        "gateway_departments",
        ["enterprise_id", "parent_id"],
        unique=False,
    )
    op.create_table(
        "gateway_role_grants",
        sa.Column("enterprise_id", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("permission", sa.String(length=64), nullable=False),
        sa.Column("reach", sa.SmallInteger(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("enterprise_id", "role", "permission", name="pk_gateway_role_grants"),
    )
    op.create_table(
        "gateway_roles",
        sa.Column("enterprise_id", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("enterprise_id", "role", name="pk_gateway_roles"),
        sa.UniqueConstraint("enterprise_id", "name", name="uq_gateway_roles_name"),
    )
    for column, value in (("kind", "enterprise"), ("stage", "verified")):
        op.add_column("gateway_enterprises", sa.Column(column, sa.String(length=16), nullable=True))
        op.execute(f"UPDATE gateway_enterprises SET {column} = '{value}'")
        op.alter_column("gateway_enterprises", column, existing_type=sa.String(length=16), nullable=False)
    op.add_column("gateway_people", sa.Column("registered_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE gateway_people SET registered_at = created_at WHERE password_hash IS NOT NULL")


def downgrade() -> None:
    op.drop_column("gateway_people", "registered_at")
    op.drop_column("gateway_enterprises", "stage")
    op.drop_column("gateway_enterprises", "kind")
    op.drop_table("gateway_roles")
    op.drop_table("gateway_role_grants")
    op.drop_index("ix_gateway_departments_enterprise", table_name="gateway_departments")
    op.drop_table("gateway_departments")
    op.drop_index("ix_gateway_department_members_person", table_name="gateway_department_members")
    op.drop_table("gateway_department_members")
