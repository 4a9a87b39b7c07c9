"""Whether an enterprise's own key is used is part of what a content of files is; what has scanned it is known"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("files_contents", sa.Column("scanned", sa.String(length=100), nullable=True))
    op.add_column("files_contents", sa.Column("scanned_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "UPDATE files_contents SET identity = identity || ':key' WHERE state = 'kept' AND wrapped_key IS NOT NULL"
    )


def downgrade() -> None:
    op.execute(
        "UPDATE files_contents SET identity = SUBSTR(identity, 1, LENGTH(identity) - 4) "
        "WHERE state = 'kept' AND wrapped_key IS NOT NULL"
    )
    op.drop_column("files_contents", "scanned_at")
    op.drop_column("files_contents", "scanned")
