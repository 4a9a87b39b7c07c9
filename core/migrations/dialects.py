"""How DM8 spells what Alembic would say in another dialect's words. Source: the manual's grammar of ALTER TABLE."""

from __future__ import annotations

from typing import Any

from alembic.ddl.base import ColumnName, ColumnType, alter_table, format_column_name, format_type
from alembic.ddl.impl import DefaultImpl
from sqlalchemy import DateTime, Table
from sqlalchemy.ext.compiler import compiles


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


@compiles(DateTime, "dm")
def _moment(type_: DateTime, compiler: Any, **kwargs: Any) -> str:
    """The dialect's own DATETIME has no zone."""
    return "TIMESTAMP WITH TIME ZONE" if type_.timezone else "TIMESTAMP"
