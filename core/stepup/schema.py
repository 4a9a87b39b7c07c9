"""Tables of step-ups: challenges, and the evidence of what was proved."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, LargeBinary, String, Table

from core.db.metadata import metadata

challenges = Table(
    "core_stepups",
    metadata,
    Column("challenge_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("session_id", BigInteger, nullable=False),
    Column("action", String(100), nullable=False),
    Column("ways", String(32), nullable=False),  # sign, totp, sms: those it may be proved by
    Column("nonce", LargeBinary(16), nullable=False),
    Column("command_digest", LargeBinary(32), nullable=False),
    Column("key_version", Integer, nullable=False),  # of the key the message is sealed with
    Column("message_sealed", LargeBinary, nullable=False),
    Column("issued_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("proven_at", DateTime(timezone=True), nullable=True),
    Column("spent_at", DateTime(timezone=True), nullable=True),
    Index("ix_core_stepups_expires", "expires_at"),
)

evidence = Table(
    "core_evidence",
    metadata,
    Column("challenge_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("action", String(100), nullable=False),
    Column("algorithm", String(8), nullable=False),  # ES256 | SM2 | TOTP | SMS
    Column("point", LargeBinary, nullable=True),  # of the public key; NULL: a code
    Column("signature", LargeBinary, nullable=True),
    Column("digest", LargeBinary(32), nullable=False),  # SM3 of the message
    Column("key_version", Integer, nullable=False),
    Column("message_sealed", LargeBinary, nullable=False),  # with everything above as associated data
    Column("proven_at", DateTime(timezone=True), nullable=False),
    Index("ix_core_evidence_person", "enterprise_id", "person_id"),
)
