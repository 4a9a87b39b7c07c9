"""DM8's DDL, for scripts: the program talks to DM8 through its driver, so only DDL is ever rendered by SQLAlchemy.

Compared once with the vendor's own dialect (dmSQLAlchemy 2.0.17 gave the same text for all tables of the first
revision, except that its DateTime has no zone) and with the manual's grammar of CREATE and ALTER TABLE. It never ran
on a DM8.
"""

from __future__ import annotations

from typing import Any

from alembic.ddl.base import ColumnName, ColumnType, alter_table, format_column_name, format_type
from alembic.ddl.impl import DefaultImpl
from sqlalchemy import Table
from sqlalchemy.dialects import registry
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import GenericTypeCompiler


class DMTypes(GenericTypeCompiler):
    """How DM8 names the types that tests/lint/ddl.py lets through."""

    def visit_string(self, type_: Any, **kwargs: Any) -> str:
        return f"VARCHAR2({type_.length} CHAR)"  # without CHAR it would count bytes

    def visit_large_binary(self, type_: Any, **kwargs: Any) -> str:
        return "BLOB"

    def visit_datetime(self, type_: Any, **kwargs: Any) -> str:
        return "TIMESTAMP WITH TIME ZONE" if type_.timezone else "TIMESTAMP"

    def visit_boolean(self, type_: Any, **kwargs: Any) -> str:
        raise NotImplementedError("a flag is a SMALLINT")


class DMDialect(DefaultDialect):
    """Renders DDL; has no driver and cannot connect."""

    name = "dm"
    type_compiler_cls = DMTypes
    supports_statement_cache = False
    max_identifier_length = 128


registry.register("dm", __name__, DMDialect.__name__)


class DMImpl(DefaultImpl):
    """DM8: DDL commits by itself, scripts end statements with a slash on a line of its own."""

    __dialect__ = "dm"
    transactional_ddl = False
    batch_separator = "/"

    def version_table_impl(self, **kwargs: Any) -> Table:
        """Without ``RETURNING … INTO``, which a script cannot bind."""
        table = super().version_table_impl(**kwargs)
        table.implicit_returning = False
        return table


@compiles(ColumnType, "dm")
def _modify(element: ColumnType, compiler: Any, **kwargs: Any) -> str:
    table = alter_table(compiler, element.table_name, element.schema)
    column = format_column_name(compiler, element.column_name)
    return f"{table} MODIFY {column} {format_type(compiler, element.type_)}"


@compiles(ColumnName, "dm")
def _rename(element: ColumnName, compiler: Any, **kwargs: Any) -> str:
    table = alter_table(compiler, element.table_name, element.schema)
    old = format_column_name(compiler, element.column_name)
    return f"{table} RENAME COLUMN {old} TO {format_column_name(compiler, element.newname)}"
