"""Consents, and whether a session began with two factors"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gateway_consents",
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.String(length=32), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("person_id", "document", "version", name="pk_gateway_consents"),
    )
    op.add_column("gateway_sessions", sa.Column("acr", sa.SmallInteger(), nullable=True))
    op.execute("UPDATE gateway_sessions SET acr = 1")
    op.alter_column("gateway_sessions", "acr", existing_type=sa.SmallInteger(), nullable=False)


def downgrade() -> None:
    op.drop_column("gateway_sessions", "acr")
    op.drop_table("gateway_consents")
