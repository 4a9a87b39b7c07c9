"""The index of audit places has them in the order in which they are read"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_core_audit_place", "core_audit", ["enterprise_id", "seq", "audit_id"], unique=False)
    op.drop_index("ix_core_audit_chain", table_name="core_audit")


def downgrade() -> None:
    op.create_index("ix_core_audit_chain", "core_audit", ["enterprise_id", "seq"], unique=False)
    op.drop_index("ix_core_audit_place", table_name="core_audit")
