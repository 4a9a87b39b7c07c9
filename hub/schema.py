"""Tables of the hub: streams, their entries, and who is subscribed to them with which watermarks."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
)

from core.db.metadata import metadata

streams = Table(
    "hub_streams",
    metadata,
    Column("stream_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # conversation | inbox
    Column("epoch", BigInteger, nullable=False),  # changes only if the stream is rebuilt
    Column("head", BigInteger, nullable=False),  # seq of the newest entry, 0 when empty
    Column("digest", LargeBinary, nullable=False),  # of the newest entry; 32 zero bytes when empty
    Column("members_version", BigInteger, nullable=False),  # grows with every change of membership
    Column("member_count", Integer, nullable=False),
)

entries = Table(
    "hub_entries",
    metadata,
    Column("stream_id", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),  # dense from 1
    Column("enterprise_id", BigInteger, nullable=False),
    Column("entry_id", BigInteger, nullable=False),
    Column("sender_id", BigInteger, nullable=False),  # 0: the system
    Column("dedupe_key", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=True),  # canonical msgpack; NULL after a recall or retention
    Column("options", LargeBinary, nullable=True),
    Column("content_digest", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    PrimaryKeyConstraint("stream_id", "seq", name="pk_hub_entries"),
    UniqueConstraint("sender_id", "dedupe_key", name="uq_hub_entries_sender_key"),
)

subscriptions = Table(
    "hub_subscriptions",
    metadata,
    Column("stream_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("active", SmallInteger, nullable=False),
    Column("floor_seq", BigInteger, nullable=False),  # entries up to here are not for this person
    Column("changed_ms", BigInteger, nullable=False),  # when membership changed last
    Column("delivered_seq", BigInteger, nullable=False),
    Column("delivered_ms", BigInteger, nullable=True),
    Column("read_seq", BigInteger, nullable=False),
    Column("read_ms", BigInteger, nullable=True),
    Column(
        "sent_seq", BigInteger, nullable=False
    ),  # the person's own newest entry: one has read what one wrote
    PrimaryKeyConstraint("stream_id", "person_id", name="pk_hub_subscriptions"),
    Index("ix_hub_subscriptions_person", "person_id", "enterprise_id"),
    Index("ix_hub_subscriptions_changed", "changed_ms"),
)

inboxes = Table(
    "hub_inboxes",
    metadata,
    Column("enterprise_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("stream_id", BigInteger, nullable=False),
    PrimaryKeyConstraint(
        "enterprise_id", "person_id", name="pk_hub_inboxes"
    ),  # one each, whoever comes first
    UniqueConstraint("stream_id", name="uq_hub_inboxes_stream"),
)
