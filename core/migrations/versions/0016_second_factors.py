"""Second factors"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gateway_login_tickets",
        sa.Column("ticket_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("bound_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sms", sa.SmallInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ticket_digest", name=op.f("pk_gateway_login_tickets")),
    )
    op.create_index("ix_gateway_login_tickets_expires", "gateway_login_tickets", ["expires_at"], unique=False)
    op.create_index("ix_gateway_login_tickets_person", "gateway_login_tickets", ["person_id"], unique=False)
    op.create_table(
        "gateway_recovery_codes",
        sa.Column("person_id", sa.BigInteger(), nullable=False),
        sa.Column("code_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("person_id", "code_digest", name="pk_gateway_recovery_codes"),
    )
    op.create_table(
        "gateway_totp",
        sa.Column("person_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("secret_sealed", sa.LargeBinary(length=96), nullable=False),
        sa.Column("secret_key", sa.Integer(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("enrolled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_gateway_totp")),
    )


def downgrade() -> None:
    op.drop_table("gateway_totp")
    op.drop_table("gateway_recovery_codes")
    op.drop_index("ix_gateway_login_tickets_person", table_name="gateway_login_tickets")
    op.drop_index("ix_gateway_login_tickets_expires", table_name="gateway_login_tickets")
    op.drop_table("gateway_login_tickets")
