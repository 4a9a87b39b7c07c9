"""Tables of files: what people uploaded, the contents behind it, who refers to it, and what is under way.

A file is what people see: a name, an owner, a state. Its content is what the store has; the same content is stored
once in an enterprise, whatever it is called and whoever sent it. Contents, their variants and open uploads are the only
things that objects in the bucket belong to.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from core.db.metadata import metadata

contents = Table(
    "files_contents",
    metadata,
    Column("content_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column(
        "identity", String(100), nullable=False
    ),  # sha256:size:kind[:key] when kept; until then, and after, its own
    Column("state", String(16), nullable=False),  # raw: not checked | kept | dropping
    Column("object_id", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),  # of what people get, not of what is stored encrypted
    Column("sha256_digest", LargeBinary(32), nullable=True),  # NULL: not read yet
    Column("facts", Text, nullable=True),  # JSON
    Column(
        "wrapped_key", LargeBinary(128), nullable=True
    ),  # wrapped by the enterprise's key; NULL: not encrypted
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("scanned", String(100), nullable=True),  # by which scanner with which signatures; NULL: by none
    Column("scanned_at", DateTime(timezone=True), nullable=True),
    UniqueConstraint("enterprise_id", "identity", name="uq_files_contents_identity"),
    UniqueConstraint("object_id", name="uq_files_contents_object"),
    Index("ix_files_contents_state", "state", "content_id"),
)

variants = Table(
    "files_variants",
    metadata,
    Column("content_id", BigInteger, nullable=False),
    Column("variant", String(16), nullable=False),  # thumbnail | preview | entries
    Column("enterprise_id", BigInteger, nullable=False),
    Column("object_id", BigInteger, nullable=False),
    Column("media_type", String(128), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("wrapped_key", LargeBinary(128), nullable=True),
    PrimaryKeyConstraint("content_id", "variant", name="pk_files_variants"),
    UniqueConstraint("object_id", name="uq_files_variants_object"),
)

files = Table(
    "files_files",
    metadata,
    Column("file_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),  # who uploaded it
    Column("upload_key", String(64), nullable=False),  # of who uploaded it: the same key is the same file
    Column("content_id", BigInteger, nullable=False),
    Column("name", String(255), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),  # as uploaded: what counts against quotas
    Column("declared_type", String(128), nullable=True),
    Column("kind", String(16), nullable=True),  # of files.inspection.kinds; NULL: not decided yet
    Column("state", String(16), nullable=False),  # checking | ready | quarantined | removed
    Column("reason", String(64), nullable=True),
    Column("cleaned", SmallInteger, nullable=False),
    Column("sha256_digest", LargeBinary(32), nullable=True),  # as declared or as uploaded
    Column("sm3_digest", LargeBinary(32), nullable=True),  # as declared
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("settled_at", DateTime(timezone=True), nullable=True),
    UniqueConstraint("enterprise_id", "person_id", "upload_key", name="uq_files_files_key"),
    Index("ix_files_files_person", "enterprise_id", "person_id", "file_id"),
    Index("ix_files_files_content", "content_id"),
    Index("ix_files_files_state", "state", "file_id"),
)

attachments = Table(
    "files_attachments",
    metadata,
    Column("file_id", BigInteger, nullable=False),
    Column("holder", String(16), nullable=False),  # stream | approval | receipt
    Column("holder_id", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),  # of a stream the seq
    Column("enterprise_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("file_id", "holder", "holder_id", "position", name="pk_files_attachments"),
    Index("ix_files_attachments_holder", "holder", "holder_id", "position"),
)

uploads = Table(
    "files_uploads",
    metadata,
    Column("upload_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("way", String(16), nullable=False),  # tus | direct
    Column("state", String(16), nullable=False),  # open | finishing | done | aborted
    Column("name", String(255), nullable=False),
    Column("declared_type", String(128), nullable=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("part_bytes", BigInteger, nullable=False),
    Column("sha256_digest", LargeBinary(32), nullable=True),  # as declared
    Column("sm3_digest", LargeBinary(32), nullable=True),
    Column("object_id", BigInteger, nullable=False),
    Column("multipart", String(512), nullable=False),  # the store's name of the upload in parts
    Column("wrapped_key", LargeBinary(128), nullable=True),
    Column("tail_bytes", BigInteger, nullable=False),
    Column("tail_epoch", Integer, nullable=False),  # of the writer whose tail counts
    Column("epoch", Integer, nullable=False),  # counts writers: only the newest goes on
    Column("file_id", BigInteger, nullable=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("touched_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("object_id", name="uq_files_uploads_object"),
    Index("ix_files_uploads_state", "state", "touched_at"),
    Index("ix_files_uploads_person", "enterprise_id", "person_id", "upload_id"),
)

parts = Table(
    "files_parts",
    metadata,
    Column("upload_id", BigInteger, nullable=False),
    Column("part_no", Integer, nullable=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("etag", String(128), nullable=False),
    PrimaryKeyConstraint("upload_id", "part_no", name="pk_files_parts"),
)

usage = Table(
    "files_usage",
    metadata,
    Column("enterprise_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),  # 0: everybody's together
    Column("bytes", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
    PrimaryKeyConstraint("enterprise_id", "person_id", name="pk_files_usage"),
)

policies = Table(
    "files_policies",
    metadata,
    Column("enterprise_id", BigInteger, primary_key=True, autoincrement=False),
    Column("own_key", SmallInteger, nullable=False),
    Column("quota_bytes", BigInteger, nullable=True),
    Column("person_quota_bytes", BigInteger, nullable=True),
    Column("changed_by", BigInteger, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)

holds = Table(
    "files_holds",
    metadata,
    Column("hold_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # enterprise | person | stream | file
    Column("object_id", BigInteger, nullable=False),  # 0: the enterprise
    Column("reason", String(200), nullable=False),
    Column("placed_by", BigInteger, nullable=False),
    Column("placed_at", DateTime(timezone=True), nullable=False),
    Column("lifted_by", BigInteger, nullable=True),
    Column("lifted_at", DateTime(timezone=True), nullable=True),
    Index("ix_files_holds_enterprise", "enterprise_id", "kind", "object_id"),
)
