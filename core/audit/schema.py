"""Tables of the audit."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
)

from core.db.metadata import metadata

_TIME: Final = DateTime(timezone=True)

audit = Table(
    "core_audit",
    metadata,
    Column("audit_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),  # 0: nobody's, such as a failed login
    Column("person_id", BigInteger, nullable=False),  # 0: nobody or a service
    Column("session_id", BigInteger, nullable=False),
    Column("client_id", String(64), nullable=True),  # the app, where it is not ours
    Column("device", String(128), nullable=True),
    Column("address", String(64), nullable=True),
    Column("edge", String(16), nullable=False),
    Column("action", String(100), nullable=False),
    Column("outcome", String(32), nullable=False),  # ok, or the code of the refusal
    Column("object_id", String(64), nullable=True),
    Column(
        "request_digest", LargeBinary, nullable=True
    ),  # HMAC-SM3: without the key nobody tries out contents
    Column("before_digest", LargeBinary, nullable=True),
    Column("after_digest", LargeBinary, nullable=True),
    Column("trace_id", String(32), nullable=False),
    Column("happened_at", _TIME, nullable=False),
    Column("key_version", Integer, nullable=False),  # of the key of digests and MAC
    Column("mac", LargeBinary, nullable=False),  # of everything above
    Column("seq", BigInteger, nullable=False),  # 0: not in the chain yet
    Column("digest", LargeBinary, nullable=True),  # of this row and all before
    Index("ix_core_audit_place", "enterprise_id", "seq", "audit_id"),
    Index("ix_core_audit_waiting", "seq", "enterprise_id"),
)

seals = Table(
    "core_audit_seals",
    metadata,
    Column("enterprise_id", BigInteger, nullable=False),
    Column("seal_no", BigInteger, nullable=False),  # dense, from 1
    Column("last_seq", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # of the row last_seq
    Column("previous", LargeBinary, nullable=False),  # digest of the seal before
    Column("sealed_at", _TIME, nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("signature", LargeBinary, nullable=False),  # SM2, r || s
    PrimaryKeyConstraint("enterprise_id", "seal_no", name="pk_core_audit_seals"),
)

heads = Table(
    "core_audit_heads",
    metadata,
    Column("enterprise_id", BigInteger, primary_key=True, autoincrement=False),
    Column("seal_no", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("seal_digest", LargeBinary, nullable=False),
    Column("exported_no", BigInteger, nullable=False),  # seals up to here have left the database
)
"""Where each chain goes on; locked by whoever makes it longer. Nothing believes it: seals are the evidence."""
