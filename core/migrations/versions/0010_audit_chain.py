"""The audit becomes a chain: places, MACs, seals; what is there gets its MAC (`data`) and waits for the chainer"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from core.audit.rows import Row, written
from core.crypto.columns import Columns
from core.crypto.ring import AUDIT
from core.db.errors import DatabaseError

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "core_audit_heads",
        sa.Column("enterprise_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seal_no", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("seal_digest", sa.LargeBinary(), nullable=False),
        sa.Column("exported_no", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("enterprise_id", name=op.f("pk_core_audit_heads")),
    )
    op.create_table(
        "core_audit_seals",
        sa.Column("enterprise_id", sa.BigInteger(), nullable=False),
        sa.Column("seal_no", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("enterprise_id", "seal_no", name="pk_core_audit_seals"),
    )
    op.add_column("core_audit", sa.Column("client_id", sa.String(length=64), nullable=True))
    op.add_column("core_audit", sa.Column("key_version", sa.Integer(), nullable=True))
    op.add_column("core_audit", sa.Column("mac", sa.LargeBinary(), nullable=True))
    op.add_column("core_audit", sa.Column("seq", sa.BigInteger(), nullable=True))
    op.add_column("core_audit", sa.Column("digest", sa.LargeBinary(), nullable=True))


async def data(connection: Any, columns: Columns | None) -> None:
    """Give the rows that are there a MAC, so that they become the beginning of their chains."""
    rows = await connection.fetch(
        "SELECT audit_id, enterprise_id, person_id, session_id, client_id, device, address, edge, action, outcome, "
        "object_id, request_digest, before_digest, after_digest, trace_id, happened_at FROM core_audit"
    )
    if rows and columns is None:
        raise DatabaseError("audit rows are to be authenticated: migrate with the keys (`bankhub migrate`)")
    for record in rows:
        assert columns is not None
        key = columns.keys.current(AUDIT)
        row = written(Row(**record, key_version=key.version), key)
        await connection.execute(
            "UPDATE core_audit SET key_version = $2, mac = $3, seq = 0 WHERE audit_id = $1",
            row.audit_id,
            row.key_version,
            row.mac,
        )


def downgrade() -> None:
    for name in ("digest", "seq", "mac", "key_version", "client_id"):
        op.drop_column("core_audit", name)
    op.drop_table("core_audit_seals")
    op.drop_table("core_audit_heads")
