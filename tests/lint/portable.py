"""The gate for SQL: what PostgreSQL and DM8 both understand, by an allow-list, and no statement without its tenant.

sqlglot's readers accept nearly anything, so that a statement parses proves nothing; every node of the parsed tree must
be of a kind listed here. The rules and where they come from are in docs/portable-sql.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

# --- words ----------------------------------------------------------------------------------------------------------

RESERVED: Final = frozenset(
    # DM8's, as far as a schema may meet them
    "comment user order group index row rows values domain object list context versions desc public private abstract "
    "final check top end begin first next exchange verify percent section static schema ref reference record relative "
    "repeat replicate return reverse left right set sets switch trigger view virtual void with xml enable disable keep "
    "large less login member new optimize over overlay pipe print privileges procedure byte char array assign audit "
    "break call catch class collation const contains continue convert corresponding cluster rowid trxid rownum sysdate "
    "level type date time timestamp session value key data size mode password result link label log text number "
    "option count limit offset last path account task job locked expire hash image file copy "
    # SQL's own, which no engine gives away
    "select insert update delete merge into from where having union all distinct as on join inner outer cross natural "
    "using case when then else null not and or in is like between exists cast primary foreign unique constraint "
    "default table column create alter drop grant revoke commit rollback savepoint current_date current_timestamp "
    "fetch for only to asc any some both leading trailing analyse analyze current_user session_user".split()
)
"""Names that are refused; `role` and `action` are keywords of DM8 that its manual lets through as columns."""

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,59}")

# --- the tree -------------------------------------------------------------------------------------------------------

STATEMENTS: Final = (exp.Select, exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Union)

ALLOWED: Final = frozenset(
    {
        # statements and their clauses
        exp.Select, exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.When, exp.Whens, exp.Union, exp.From, exp.Join,
        exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.Offset, exp.Lock, exp.Distinct,
        exp.With, exp.CTE, exp.Subquery, exp.Values, exp.Schema, exp.Tuple,
        # names and values
        exp.Table, exp.TableAlias, exp.Column, exp.Identifier, exp.Alias, exp.Star, exp.Literal, exp.Null,
        exp.Parameter, exp.Var, exp.Paren, exp.DataType, exp.DataTypeParam,
        # conditions
        exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.In, exp.Between, exp.Is,
        exp.Like, exp.Escape, exp.Exists,
        # arithmetic and standard functions
        exp.Add, exp.Sub, exp.Mul, exp.Neg, exp.Mod, exp.DPipe, exp.Case, exp.If, exp.Cast, exp.Coalesce, exp.Nullif,
        exp.Count, exp.Sum, exp.Min, exp.Max, exp.Avg, exp.Greatest, exp.Least, exp.Upper, exp.Lower, exp.Length,
        exp.Abs, exp.Round, exp.Extract,
        # windows
        exp.Window, exp.WindowSpec, exp.RowNumber, exp.Rank,
    }
)  # fmt: skip

TYPES: Final = frozenset(
    {
        exp.DataType.Type.BIGINT, exp.DataType.Type.INT, exp.DataType.Type.SMALLINT, exp.DataType.Type.DECIMAL,
        exp.DataType.Type.VARCHAR, exp.DataType.Type.DATE, exp.DataType.Type.TIMESTAMPTZ,
    }
)  # fmt: skip

_TEXTUAL: Final = (
    (re.compile(r"::"), "a cast is written CAST(x AS type)"),
    (re.compile(r'"'), "names are never quoted"),
    (re.compile(r"--|/\*"), "a statement carries no comments or hints"),
    (re.compile(r";"), "one statement at a time"),
    (re.compile(r"''"), "an empty string is NULL on DM8: store and compare NULL"),
    (
        re.compile(r"\bNOW\s*\(|\bCURRENT_(DATE|TIME|TIMESTAMP)\b", re.IGNORECASE),
        "time is bound, from the Clock",
    ),
    (re.compile(r"\bTIMESTAMPTZ\b", re.IGNORECASE), "the type is written TIMESTAMP WITH TIME ZONE"),
    (re.compile(r"\bFROM\s+dual\b", re.IGNORECASE), "PostgreSQL has no dual; both select without FROM"),
)


def refusals(text: str) -> list[str]:
    """Why this statement cannot stay, one sentence each; empty when it can. `$*` stands for a list."""
    found = [why for pattern, why in _TEXTUAL if pattern.search(text)]
    try:
        trees = sqlglot.parse(text.replace("$*", "$900, $901"), read="postgres")
    except SqlglotError:
        return [*found, "it cannot be parsed"]
    if len(trees) != 1 or not isinstance(trees[0], STATEMENTS):
        return [*found, "it is not one SELECT, INSERT, UPDATE, DELETE or MERGE"]
    for node in trees[0].walk():
        found += _node(node)
    return list(dict.fromkeys(found))


def _node(node: exp.Expr) -> Iterator[str]:
    if type(node) not in ALLOWED:
        yield f"{type(node).__name__} is not in the common part of PostgreSQL and DM8"
        return
    check = _CHECKS.get(type(node))
    if check is not None:
        yield from check(node)


def _identifier(node: exp.Expr) -> Iterator[str]:
    name = node.name
    if name.lower() in RESERVED:
        yield f"{name} is a reserved word"
    elif not NAME.fullmatch(name):
        yield f"{name} is not a lower-case name of at most 60 characters"


def _update(node: exp.Expr) -> Iterator[str]:
    if node.args.get("from") or node.args.get("from_"):
        yield "UPDATE … FROM is PostgreSQL's own: use a subquery"
    if node.args.get("limit") or node.args.get("order"):
        yield "LIMIT or ORDER BY in UPDATE is not portable: select the keys first"
    for assignment in node.expressions:
        if (
            isinstance(assignment, exp.EQ)
            and isinstance(assignment.this, exp.Column)
            and assignment.this.table
        ):
            yield "columns are set unqualified"
    if node.args.get("where") is None and not isinstance(node.parent, exp.When):
        yield "UPDATE without WHERE"


def _delete(node: exp.Expr) -> Iterator[str]:
    if node.args.get("using"):
        yield "DELETE … USING is PostgreSQL's own: use a subquery"
    if node.args.get("limit") or node.args.get("order"):
        yield "LIMIT or ORDER BY in DELETE is not portable: select the keys first"
    if node.args.get("where") is None:
        yield "DELETE without WHERE"


def _insert(node: exp.Expr) -> Iterator[str]:
    if not isinstance(node.this, exp.Tuple if isinstance(node.parent, exp.When) else exp.Schema):
        yield "INSERT names its columns"
    for clause in ("conflict", "returning", "overwrite", "alternative", "ignore"):
        if node.args.get(clause):
            yield f"INSERT with {clause} is not portable"


def _select(node: exp.Expr) -> Iterator[str]:
    for projection in node.expressions:
        if isinstance(projection.unalias(), exp.Parameter):
            yield "a bound value that is selected needs its type: CAST($1 AS BIGINT)"
        if isinstance(projection, exp.Star) and not isinstance(node.parent, exp.Exists):
            yield "SELECT * depends on the order of columns"
    for clause in ("into", "qualify", "sample", "laterals"):
        if node.args.get(clause):
            yield f"SELECT with {clause} is not portable"
    if node.args.get("locks"):
        if (
            node.args.get("joins")
            or node.args.get("group")
            or node.args.get("distinct")
            or node.args.get("with_")
        ):
            yield "FOR UPDATE goes with plain selects of one table only"
        if node.args.get("limit") and not node.args.get("order"):
            yield "FOR UPDATE with LIMIT orders by a key"
    if node.args.get("limit") and not node.args.get("order"):
        yield "LIMIT without ORDER BY gives any rows"


def _lock(node: exp.Expr) -> Iterator[str]:
    if not node.args.get("update") or node.args.get("key"):
        yield "only FOR UPDATE is known to both: no FOR SHARE, no KEY"
    if node.expressions:
        yield "FOR UPDATE OF is not portable"


def _join(node: exp.Expr) -> Iterator[str]:
    if node.args.get("using"):
        yield "JOIN … USING: write ON"
    side = str(node.args.get("side") or "").upper()
    if side not in {"", "LEFT", "RIGHT"}:
        yield f"{side} JOIN is not in the common part"
    if node.args.get("method"):
        yield "NATURAL JOIN depends on the names of columns"


def _distinct(node: exp.Expr) -> Iterator[str]:
    if node.args.get("on"):
        yield "DISTINCT ON is PostgreSQL's own: use ROW_NUMBER"


def _ordered(node: exp.Expr) -> Iterator[str]:
    if node.args.get("nulls_first") and not node.args.get("desc"):
        yield "where NULLs sort differs: order by a CASE"


def _data_type(node: exp.Expr) -> Iterator[str]:
    if node.this not in TYPES or node.args.get("nested"):
        yield f"type {node.this} is not in the common part"


def _parameter(node: exp.Expr) -> Iterator[str]:
    if not (isinstance(node.this, exp.Literal) and node.this.name.isdigit()):
        yield "parameters are $1, $2, …"


def _in(node: exp.Expr) -> Iterator[str]:
    if node.args.get("unnest") or node.args.get("field"):
        yield "IN takes a list or a subquery"


def _with(node: exp.Expr) -> Iterator[str]:
    if node.args.get("recursive"):
        yield "WITH RECURSIVE is written otherwise on DM8"


_CHECKS: Final[dict[type[exp.Expr], Callable[[exp.Expr], Iterator[str]]]] = {
    exp.Identifier: _identifier, exp.Update: _update, exp.Delete: _delete, exp.Insert: _insert, exp.Select: _select,
    exp.Lock: _lock, exp.Join: _join, exp.Distinct: _distinct, exp.Ordered: _ordered, exp.DataType: _data_type,
    exp.Parameter: _parameter, exp.In: _in, exp.With: _with,
}  # fmt: skip
