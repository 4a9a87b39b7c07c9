"""Logins that wait although nobody says whether the password was right"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gateway_login_tickets", sa.Column("guarded", sa.SmallInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("gateway_login_tickets", "guarded")
