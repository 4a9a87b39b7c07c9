"""One-time codes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "gateway_code_counts",
        sa.Column("key_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("window_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key_digest", name=op.f("pk_gateway_code_counts")),
    )
    op.create_index("ix_gateway_code_counts_last", "gateway_code_counts", ["last_at"], unique=False)
    op.create_table(
        "gateway_codes",
        sa.Column("slot_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("code_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("tries", sa.SmallInteger(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("slot_digest", name=op.f("pk_gateway_codes")),
    )
    op.create_index("ix_gateway_codes_expires", "gateway_codes", ["expires_at"], unique=False)


def downgrade() -> None:

    op.drop_index("ix_gateway_codes_expires", table_name="gateway_codes")
    op.drop_table("gateway_codes")
    op.drop_index("ix_gateway_code_counts_last", table_name="gateway_code_counts")
    op.drop_table("gateway_code_counts")
