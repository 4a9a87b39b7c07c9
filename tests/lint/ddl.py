"""The gate for tables: names, types and constraints that both engines create, and make the same thing of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
)

from tests.lint.portable import NAME, RESERVED

TYPES: Final = (BigInteger, Integer, SmallInteger, String, Text, Numeric, Date, DateTime, LargeBinary)
CHARACTERS: Final = 2_000  # of a VARCHAR: a row of DM8 is at most half a page


def refusals(table: Table, package: str) -> Iterator[str]:
    """Why this table, declared by `package`, cannot stay."""
    if not table.name.startswith(f"{package}_"):
        yield f"{table.name} is not named after its package {package}"
    names = [
        table.name,
        *(c.name for c in table.columns),
        *(str(c.name) for c in table.constraints if c.name),
    ]
    for name in [*names, *(str(index.name) for index in table.indexes)]:
        if name in RESERVED or not NAME.fullmatch(name):
            yield f"{table.name}: {name} is reserved, not in lower case, or longer than 60 characters"
    if not table.primary_key.columns:
        yield f"{table.name} has no primary key"
    if table.autoincrement_column is not None:
        yield f"{table.name}.{table.autoincrement_column.name} counts by itself: autoincrement=False"
    for column in table.columns:
        yield from _column(table, column)
    for index in table.indexes:
        if any(options.get("where") is not None for options in index.dialect_options.values()):
            yield f"{table.name}: {index.name} is a partial index"
        if len(index.columns) != len(index.expressions):
            yield f"{table.name}: {index.name} indexes an expression"
    for constraint in table.constraints:
        if isinstance(constraint, CheckConstraint) and not str(constraint.sqltext).isascii():
            yield f"{table.name}: a check is written in ASCII"
        if getattr(constraint, "deferrable", None) or getattr(constraint, "initially", None):
            yield f"{table.name}: constraints are not deferred"


def _column(table: Table, column: Column[Any]) -> Iterator[str]:
    where, kind = f"{table.name}.{column.name}", column.type
    if type(kind) not in TYPES:
        yield f"{where}: type {kind!r} is not in the common part"
    if type(kind) is String and (kind.length is None or kind.length > CHARACTERS):
        yield f"{where}: a String has a length up to {CHARACTERS}; use Text"
    if isinstance(kind, DateTime) and not kind.timezone:
        yield f"{where}: a moment has its zone: DateTime(timezone=True)"
    if isinstance(kind, Numeric) and (kind.precision is None or kind.precision > 38 or kind.scale is None):
        yield f"{where}: Numeric has a precision up to 38 and a scale"
    if column.server_default is not None or column.computed is not None or column.identity is not None:
        yield f"{where}: values come from the program, not from the database"
    if column.name == "enterprise_id" and (column.nullable or type(kind) is not BigInteger):
        yield f"{where} is BIGINT NOT NULL"
