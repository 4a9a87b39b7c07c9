"""How people log in to apps, and who is told when they log out"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gateway_app_browsers", sa.Column("amr", sa.String(length=64), nullable=True))
    op.add_column("gateway_app_families", sa.Column("amr", sa.String(length=64), nullable=True))
    op.create_index("ix_gateway_app_families_session", "gateway_app_families", ["session_id"], unique=False)
    op.add_column("gateway_apps", sa.Column("backchannel_uri", sa.String(length=512), nullable=True))


def downgrade() -> None:
    op.drop_column("gateway_apps", "backchannel_uri")
    op.drop_index("ix_gateway_app_families_session", table_name="gateway_app_families")
    op.drop_column("gateway_app_families", "amr")
    op.drop_column("gateway_app_browsers", "amr")
