"""Tables of im: conversations, who is in them and as what, and the one direct conversation of each two people.

What was said, and how far everybody has read, is the hub's. A conversation has the id of its stream.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

from core.db.metadata import metadata

conversations = Table(
    "im_conversations",
    metadata,
    Column("conversation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # direct | group
    Column("title", String(64), nullable=True),  # NULL: a direct one
    Column("state", String(16), nullable=False),  # active | disbanded
    Column("created_by", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("member_count", Integer, nullable=False),
    Column("preview", String(255), nullable=True),  # ids of who came first, with commas; NULL: nobody
)

members = Table(
    "im_members",
    metadata,
    Column("conversation_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("member_role", String(16), nullable=False),  # owner | member
    Column("joined_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("conversation_id", "person_id", name="pk_im_members"),
    Index("ix_im_members_person", "person_id", "enterprise_id", "conversation_id"),
    Index("ix_im_members_joined", "conversation_id", "joined_at", "person_id"),
)

pairs = Table(
    "im_pairs",
    metadata,
    Column("enterprise_id", BigInteger, nullable=False),
    Column("low_person_id", BigInteger, nullable=False),
    Column("high_person_id", BigInteger, nullable=False),
    Column("conversation_id", BigInteger, nullable=False),
    # one conversation for two people, whoever comes first
    PrimaryKeyConstraint("enterprise_id", "low_person_id", "high_person_id", name="pk_im_pairs"),
    UniqueConstraint("conversation_id", name="uq_im_pairs_conversation"),
)
