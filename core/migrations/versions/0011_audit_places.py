"""Every audit row has a MAC and a place, or waits for one"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("core_audit", "key_version", existing_type=sa.Integer(), nullable=False)
    op.alter_column("core_audit", "mac", existing_type=sa.LargeBinary(), nullable=False)
    op.alter_column("core_audit", "seq", existing_type=sa.BigInteger(), nullable=False)
    op.drop_index("ix_core_audit_enterprise", table_name="core_audit")
    op.create_index("ix_core_audit_chain", "core_audit", ["enterprise_id", "seq"], unique=False)
    op.create_index("ix_core_audit_waiting", "core_audit", ["seq", "enterprise_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_core_audit_waiting", table_name="core_audit")
    op.drop_index("ix_core_audit_chain", table_name="core_audit")
    op.create_index("ix_core_audit_enterprise", "core_audit", ["enterprise_id", "audit_id"], unique=False)
    for name in ("seq", "mac", "key_version"):
        op.alter_column("core_audit", name, nullable=True)
