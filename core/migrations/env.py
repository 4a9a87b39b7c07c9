"""Alembic's entry: renders scripts for `core.db.migrate` and compares for `core.migrations.make`."""

from __future__ import annotations

from alembic import context

from core.db.metadata import metadata
from core.migrations import dialects  # noqa: F401 - how DM8 spells ALTER

attributes = context.config.attributes
connection = attributes.get("connection")
if connection is None:
    context.configure(
        dialect_name=attributes["dialect"],
        target_metadata=metadata,
        output_buffer=attributes["script"],
        as_sql=True,
        literal_binds=True,
    )
else:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        compare_server_default=True,
        include_object=lambda thing, name, kind, reflected, compare_to: name != attributes["lock_table"],
    )
context.run_migrations()
