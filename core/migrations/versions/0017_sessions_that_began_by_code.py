"""Sessions that began with nothing but a code to the phone"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gateway_sessions", sa.Column("by_code", sa.SmallInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("gateway_sessions", "by_code")
