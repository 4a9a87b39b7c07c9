"""Phones are encrypted: new columns, and what is there is sealed into them (`data`); 0007 drops the clear one"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from core.crypto.columns import Column, Columns
from core.db.errors import DatabaseError

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_PHONE = Column("gateway_people", "phone")


def upgrade() -> None:
    op.add_column("gateway_people", sa.Column("phone_sealed", sa.LargeBinary(length=96), nullable=True))
    op.add_column("gateway_people", sa.Column("phone_index", sa.LargeBinary(length=32), nullable=True))
    op.add_column("gateway_people", sa.Column("phone_key", sa.Integer(), nullable=True))
    op.add_column("gateway_people", sa.Column("phone_index_key", sa.Integer(), nullable=True))
    op.create_unique_constraint("uq_gateway_people_phone_index", "gateway_people", ["phone_index"])


async def data(connection: Any, columns: Columns | None) -> None:
    """Seal the numbers that are there. Raises `DatabaseError` where there are some and no keys."""
    rows = await connection.fetch("SELECT person_id, phone FROM gateway_people WHERE phone IS NOT NULL")
    if rows and columns is None:
        raise DatabaseError("numbers are to be encrypted: migrate with the keys (`bankhub migrate`)")
    for person_id, phone in rows:
        assert columns is not None
        await connection.execute(
            "UPDATE gateway_people SET phone_sealed = $2, phone_index = $3, phone_key = $4, phone_index_key = $5, "
            "phone = NULL WHERE person_id = $1",
            person_id,
            *columns.seal(_PHONE, person_id, phone),
        )


def downgrade() -> None:
    op.drop_constraint("uq_gateway_people_phone_index", "gateway_people", type_="unique")
    for name in ("phone_index_key", "phone_key", "phone_index", "phone_sealed"):
        op.drop_column("gateway_people", name)
