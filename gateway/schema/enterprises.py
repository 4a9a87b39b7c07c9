"""Tables of how enterprises and people come: applications, contracts, requests to join, invitations, second persons."""

from __future__ import annotations

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
    Text,
    UniqueConstraint,
)

from core.db.metadata import metadata

applications = Table(
    "gateway_applications",
    metadata,
    Column("application_id", BigInteger, primary_key=True, autoincrement=False),
    Column("person_id", BigInteger, nullable=False),
    Column("full_name", String(128), nullable=False),  # of the enterprise
    Column("credit_code", String(18), nullable=False),
    Column("state", String(16), nullable=False),  # applied | verified | returned | rejected
    Column("reason", String(200), nullable=True),
    Column("made_id", BigInteger, nullable=True),  # the enterprise it became
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Index("ix_gateway_applications_state", "state", "application_id"),
    Index("ix_gateway_applications_person", "person_id"),
)

contracts = Table(
    "gateway_contracts",
    metadata,
    Column("enterprise_id", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),  # gateway.contracts.rules.State
    Column("account_tail", String(4), nullable=True),  # of the settlement account: enough to recognise it
    Column("reason", String(200), nullable=True),
    Column("agreement", String(32), nullable=True),  # the version that was signed
    Column("applied_by", BigInteger, nullable=False),
    Column("signed_by", BigInteger, nullable=True),
    Column("signed_at", DateTime(timezone=True), nullable=True),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Index("ix_gateway_contracts_state", "state"),
)

join_requests = Table(
    "gateway_join_requests",
    metadata,
    Column("request_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("message", String(200), nullable=True),
    Column("state", String(16), nullable=False),  # open | accepted | refused
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("decided_by", BigInteger, nullable=True),
    Column("decided_at", DateTime(timezone=True), nullable=True),
    Index("ix_gateway_join_requests_enterprise", "enterprise_id", "state"),
    Index("ix_gateway_join_requests_person", "person_id"),
)

invitations = Table(
    "gateway_invitations",
    metadata,
    Column("invitation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("code_digest", LargeBinary(32), nullable=False),  # keyed
    Column("roles", Text, nullable=False),  # JSON
    Column("departments", Text, nullable=False),  # JSON
    Column("title", String(64), nullable=True),
    Column("uses_max", Integer, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("created_by", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True), nullable=True),
    UniqueConstraint("code_digest", name="uq_gateway_invitations_code"),
    Index("ix_gateway_invitations_enterprise", "enterprise_id"),
)

proposals = Table(
    "gateway_proposals",
    metadata,
    Column("kind", String(32), nullable=False),  # of the object
    Column("object_id", BigInteger, nullable=False),
    Column("decision", String(32), nullable=False),
    Column("proposed_by", BigInteger, nullable=False),
    Column("proposed_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("kind", "object_id", name="pk_gateway_proposals"),
)

reasons = Table(
    "gateway_reasons",
    metadata,
    Column("reason_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),  # of who gave it: the bank's tenant
    Column("person_id", BigInteger, nullable=False),  # who gave it
    Column("kind", String(64), nullable=False),  # the action
    Column("object_id", BigInteger, nullable=False),
    Column("reason", String(200), nullable=False),
    Column("given_at", DateTime(timezone=True), nullable=False),
    Index("ix_gateway_reasons_object", "object_id"),
)
