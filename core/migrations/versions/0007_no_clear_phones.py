"""No clear phones: the column that 0006 emptied"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint("uq_gateway_people_phone", "gateway_people", type_="unique")
    op.drop_column("gateway_people", "phone")


def downgrade() -> None:
    op.add_column("gateway_people", sa.Column("phone", sa.String(length=20), nullable=True))
    op.create_unique_constraint("uq_gateway_people_phone", "gateway_people", ["phone"])
