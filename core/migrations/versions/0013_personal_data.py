"""Personal data"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gateway_privacy_tasks",
        sa.Column("task_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result_sealed", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_gateway_privacy_tasks")),
    )
    op.create_index("ix_gateway_privacy_tasks_expires", "gateway_privacy_tasks", ["expires_at"], unique=False)
    op.create_index("ix_gateway_privacy_tasks_person", "gateway_privacy_tasks", ["person_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_gateway_privacy_tasks_person", table_name="gateway_privacy_tasks")
    op.drop_index("ix_gateway_privacy_tasks_expires", table_name="gateway_privacy_tasks")
    op.drop_table("gateway_privacy_tasks")
