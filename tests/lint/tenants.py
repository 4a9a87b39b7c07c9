"""The lint for tenants: a statement says which enterprise's rows it touches, or why it need not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import sqlglot
from sqlglot import exp

TENANT: Final = "enterprise_id"


def unfiltered(text: str, tenant_tables: Collection[str]) -> list[str]:
    """The tables with an `enterprise_id` that this statement touches without inserting or comparing it.

    A comparison counts when it is one of the ANDed conditions of the table's own WHERE or ON. At least one of a
    statement's comparisons must be with a parameter: two tables that only agree with each other agree on everybody.
    """
    tree = sqlglot.parse_one(text.replace("$*", "$900, $901"), read="postgres")
    loose: list[str] = []
    bound = False
    for statement in tree.find_all(exp.Select, exp.Insert, exp.Update, exp.Delete):
        tables = dict(_tables(statement))
        wanted = {alias for alias, name in tables.items() if name in tenant_tables}
        if isinstance(statement, exp.Insert):
            columns = statement.this.expressions if isinstance(statement.this, exp.Schema) else []
            if TENANT in {column.name for column in columns}:
                bound = True
                continue
        for condition in _conditions(statement):
            for alias, with_parameter in _comparisons(condition, tables):
                wanted.discard(alias)
                bound = bound or with_parameter
        loose += [tables[alias] for alias in sorted(wanted)]
    touched = any(table.name in tenant_tables for table in tree.find_all(exp.Table))
    if touched and not loose and not bound:
        return ["no parameter says which enterprise"]
    return loose


def touches_tenant(text: str, tenant_tables: Collection[str]) -> bool:
    """Whether the statement reads or writes a table that has tenants."""
    tree = sqlglot.parse_one(text.replace("$*", "$900, $901"), read="postgres")
    return any(table.name in tenant_tables for table in tree.find_all(exp.Table))


def _tables(statement: exp.Expr) -> Iterator[tuple[str, str]]:
    """Aliases and names of the tables of this statement itself, not of its subqueries."""
    sources: list[exp.Expr | None] = []
    if isinstance(statement, exp.Select):
        clause = statement.args.get("from_") or statement.args.get("from")
        sources = [clause and clause.this, *(join.this for join in statement.args.get("joins") or ())]
    elif isinstance(statement, exp.Insert):
        sources = [statement.this.this if isinstance(statement.this, exp.Schema) else statement.this]
    else:
        sources = [statement.this]
    for source in sources:
        if isinstance(source, exp.Table):
            yield source.alias_or_name, source.name


def _conditions(statement: exp.Expr) -> Iterator[exp.Expr]:
    """What must all hold: WHERE and the ONs of inner joins (and of outer ones, for the joined table)."""
    where = statement.args.get("where")
    pending = [where.this] if where is not None else []
    pending += [
        join.args["on"] for join in statement.args.get("joins") or () if join.args.get("on") is not None
    ]
    while pending:
        condition = pending.pop()
        if isinstance(condition, exp.And):
            pending += [condition.left, condition.right]
        elif isinstance(condition, exp.Paren):
            pending.append(condition.this)
        else:
            yield condition


def _comparisons(condition: exp.Expr, tables: dict[str, str]) -> Iterator[tuple[str, bool]]:
    """(alias, compared with a parameter?) for each side that is some table's `enterprise_id`."""
    if isinstance(condition, exp.EQ):
        sides = [condition.left, condition.right]
    elif isinstance(condition, exp.In) and condition.expressions:
        sides = [condition.this, condition.expressions[0]]
    else:
        return
    with_parameter = any(_is_parameter(side) for side in sides)
    for side in sides:
        if isinstance(side, exp.Column) and side.name == TENANT:
            if side.table:
                yield side.table, with_parameter
            elif len(tables) == 1:
                yield next(iter(tables)), with_parameter


def _is_parameter(side: exp.Expr) -> bool:
    return isinstance(side.this if isinstance(side, exp.Cast) else side, exp.Parameter)
