"""How enterprises and people come"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gateway_applications",
        sa.Column("application_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("full_name", sa.String(length=128), nullable=False),
        sa.Column("credit_code", sa.String(length=18), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=True),
        sa.Column("made_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("application_id", name=op.f("pk_gateway_applications")),
    )
    op.create_index("ix_gateway_applications_person", "gateway_applications", ["person_id"], unique=False)
    op.create_index(
        "ix_gateway_applications_state", "gateway_applications", ["state", "application_id"], unique=False
    )
    op.create_table(
        "gateway_contracts",
        sa.Column("enterprise_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("account_tail", sa.String(length=4), nullable=True),
        sa.Column("reason", sa.String(length=200), nullable=True),
        sa.Column("agreement", sa.String(length=32), nullable=True),
        sa.Column("applied_by", sa.BigInteger(), nullable=False),
        sa.Column("signed_by", sa.BigInteger(), nullable=True),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("enterprise_id", name=op.f("pk_gateway_contracts")),
    )
    op.create_index("ix_gateway_contracts_state", "gateway_contracts", ["state"], unique=False)
    op.create_table(
        "gateway_invitations",
        sa.Column("invitation_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("enterprise_id", sa.BigInteger(), nullable=False),
        sa.Column("code_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("departments", sa.Text(), nullable=False),
        sa.Column("title", sa.String(length=64), nullable=True),
        sa.Column("uses_max", sa.Integer(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("invitation_id", name=op.f("pk_gateway_invitations")),
        sa.UniqueConstraint("code_digest", name="uq_gateway_invitations_code"),
    )
    op.create_index(
        "ix_gateway_invitations_enterprise", "gateway_invitations", ["enterprise_id"], unique=False
    )
    op.create_table(
        "gateway_join_requests",
        sa.Column("request_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("enterprise_id", sa.BigInteger(), nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.String(length=200), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.BigInteger(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_gateway_join_requests")),
    )
    op.create_index(
        "ix_gateway_join_requests_enterprise",
        "gateway_join_requests",
        ["enterprise_id", "state"],
        unique=False,
    )
    op.create_index("ix_gateway_join_requests_person", "gateway_join_requests", ["person_id"], unique=False)
    op.create_table(
        "gateway_proposals",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("decision", sa.String(length=32), nullable=False),
        sa.Column("proposed_by", sa.BigInteger(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", "object_id", name="pk_gateway_proposals"),
    )
    op.create_table(
        "gateway_reasons",
        sa.Column("reason_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("enterprise_id", sa.BigInteger(), nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("reason_id", name=op.f("pk_gateway_reasons")),
    )
    op.create_index("ix_gateway_reasons_object", "gateway_reasons", ["object_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_gateway_reasons_object", table_name="gateway_reasons")
    op.drop_table("gateway_reasons")
    op.drop_table("gateway_proposals")
    op.drop_index("ix_gateway_join_requests_person", table_name="gateway_join_requests")
    op.drop_index("ix_gateway_join_requests_enterprise", table_name="gateway_join_requests")
    op.drop_table("gateway_join_requests")
    op.drop_index("ix_gateway_invitations_enterprise", table_name="gateway_invitations")
    op.drop_table("gateway_invitations")
    op.drop_index("ix_gateway_contracts_state", table_name="gateway_contracts")
    op.drop_table("gateway_contracts")
    op.drop_index("ix_gateway_applications_state", table_name="gateway_applications")
    op.drop_index("ix_gateway_applications_person", table_name="gateway_applications")
    op.drop_table("gateway_applications")
