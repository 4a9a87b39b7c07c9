"""Devices with keys"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gateway_devices",
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("jkt", sa.String(length=43), nullable=False),
        sa.Column("algorithm", sa.String(length=8), nullable=False),
        sa.Column("point", sa.LargeBinary(), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=True),
        sa.Column("bound_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("person_id", "jkt", name="pk_gateway_devices"),
    )
    op.create_index("ix_gateway_devices_key", "gateway_devices", ["jkt"], unique=False)
    op.add_column("gateway_sessions", sa.Column("jkt", sa.String(length=43), nullable=True))
    op.add_column("gateway_sessions", sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_gateway_sessions_renewed", "gateway_sessions", ["renewed_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_gateway_sessions_renewed", table_name="gateway_sessions")
    op.drop_column("gateway_sessions", "renewed_at")
    op.drop_column("gateway_sessions", "jkt")
    op.drop_index("ix_gateway_devices_key", table_name="gateway_devices")
    op.drop_table("gateway_devices")
