"""Tables of sessions, their refresh tokens, and the failures that slow guessing down."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, LargeBinary, SmallInteger, String, Table

from core.db.metadata import metadata

sessions = Table(
    "gateway_sessions",
    metadata,
    Column("session_id", BigInteger, primary_key=True, autoincrement=False),
    Column("person_id", BigInteger, nullable=False),
    Column("enterprise_id", BigInteger, nullable=False),  # the active one
    Column("device", String(64), nullable=False),
    Column("platform", String(32), nullable=True),
    Column("acr", SmallInteger, nullable=False),  # core.access.Principal.acr
    Column("by_code", SmallInteger, nullable=True),  # 1: it began with nothing but a code to the phone
    Column(
        "jkt", String(43), nullable=True
    ),  # thumbprint of the key its tokens are bound to; NULL: bearer tokens
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True), nullable=False),  # of the last refresh
    Column("expires_at", DateTime(timezone=True), nullable=False),  # the absolute end
    Column(
        "renewed_at", DateTime(timezone=True), nullable=True
    ),  # access tokens from before then are worth nothing
    Column("ended_at", DateTime(timezone=True), nullable=True),
    Column("ended_why", String(16), nullable=True),  # see gateway.api.SessionRevoked
    Index("ix_gateway_sessions_person", "person_id", "device"),
    Index("ix_gateway_sessions_ended", "ended_at"),
    Index("ix_gateway_sessions_renewed", "renewed_at"),
)

refresh_tokens = Table(
    "gateway_refresh_tokens",
    metadata,
    Column("token_digest", LargeBinary(32), primary_key=True),  # SHA-256; the token itself is nowhere
    Column("session_id", BigInteger, nullable=False),
    Column("issued_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),  # the idle end
    Column("rotated_at", DateTime(timezone=True), nullable=True),
    Column("successor_digest", LargeBinary(32), nullable=True),
    Index("ix_gateway_refresh_tokens_session", "session_id"),
)

login_failures = Table(
    "gateway_login_failures",
    metadata,
    Column("key_digest", LargeBinary(32), primary_key=True),  # of account and source, or of the source alone
    Column("failures", Integer, nullable=False),
    Column("last_at", DateTime(timezone=True), nullable=False),
    Column("blocked_until", DateTime(timezone=True), nullable=True),
    Index("ix_gateway_login_failures_last", "last_at"),
)
