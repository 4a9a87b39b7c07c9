"""Every statement and table of the product goes through the gates, and the gates are shown to refuse."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Enum,
    Index,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    func,
    text,
)

from core.db import STATEMENTS, Sql
from core.db.metadata import metadata
from core.migrations.make import import_schemas
from tests.lint import ddl, portable, tenants

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("core", "hub", "im", "notify", "files", "oa", "finance", "ops", "gateway")

GLOBAL: Final = {
    "core_worker_leases": "numbers of processes",
    "core_sequences": "the name of a sequence says its tenant",
    "core_outbox_orders": "the order key says its tenant",
    "core_consumers": "names of handlers",
    "core_jobs": "jobs of all tenants; their parameters say whose",
    "core_config": "settings of the installation",
    "core_config_history": "settings of the installation",
    "gateway_people": "a person may belong to several enterprises",
    "gateway_applications": "an application becomes an enterprise",
    "gateway_proposals": "the bank's decisions about enterprises and people",
    "gateway_privacy_tasks": "what a person asks about their own data",
    "gateway_consents": "what a person agreed to before belonging anywhere",
    "gateway_totp": "a second factor belongs to a person, in whichever enterprise",
    "gateway_recovery_codes": "a second factor belongs to a person, in whichever enterprise",
    "gateway_login_tickets": "somebody who is logging in is in no enterprise yet",
    "gateway_devices": "a device belongs to a person, in whichever enterprise",
    "gateway_codes": "a phone answers before anybody knows the enterprise",
    "gateway_code_counts": "messages are counted before anybody knows the enterprise",
    "gateway_login_failures": "a login is counted before anybody knows the enterprise",
    "gateway_app_codes": "belongs to a family, which has the enterprise",
    "gateway_app_refresh_tokens": "belongs to a family, which has the enterprise",
    "gateway_app_pushed_requests": "an app asks before anybody knows for which enterprise",
    "gateway_app_browsers": "a person logs in once for all of their enterprises",
    "gateway_app_once": "ids without meaning that were used up",
    "gateway_refresh_tokens": "belongs to a session, which has the enterprise",
}


def _statements() -> list[Sql]:
    """Those of the product, after importing all of it."""
    import_schemas()
    for package in PACKAGES:
        importlib.import_module(package)
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if "migrations" not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return [s for s in STATEMENTS if s.where.split(".")[0].split(":")[0] in PACKAGES]


ALL: Final = _statements()
TENANT_TABLES: Final = {name for name, table in metadata.tables.items() if tenants.TENANT in table.columns}


def test_there_are_statements() -> None:
    assert len(ALL) > 100
    assert {"core", "hub", "im", "gateway"} <= {s.where.split(".")[0] for s in ALL}


@pytest.mark.parametrize("statement", ALL, ids=lambda s: s.where)
def test_a_statement_is_portable(statement: Sql) -> None:
    assert portable.refusals(statement.text) == [], statement.text


@pytest.mark.requirement("A03")
@pytest.mark.parametrize("statement", ALL, ids=lambda s: s.where)
def test_a_statement_names_its_tenant_or_says_why_not(statement: Sql) -> None:
    if statement.exempt is None:
        assert tenants.unfiltered(statement.text, TENANT_TABLES) == [], statement.text
    else:
        assert tenants.touches_tenant(statement.text, TENANT_TABLES), "the exemption is not needed"


async def test_every_statement_is_prepared_by_the_migrated_database(database: str) -> None:
    connection = await asyncpg.connect(database, ssl=False)
    try:
        for statement in ALL:
            for form in [statement.expanded(n) for n in (1, 4)] if statement.lists else [statement.text]:
                try:
                    prepared = await connection.prepare(form)
                except asyncpg.PostgresError as error:
                    pytest.fail(f"{statement.where}: {error}\n{statement.text}")
                assert len(prepared.get_parameters()) >= statement.parameters
    finally:
        await asyncio.wait_for(connection.close(), 5)


# --- the gates refuse -----------------------------------------------------------------------------------------------

BAD: Final = {
    "upsert": "INSERT INTO t (a) VALUES ($1) ON CONFLICT DO NOTHING",
    "returning": "INSERT INTO t (a) VALUES ($1) RETURNING a",
    "update returning": "UPDATE t SET a = $1 WHERE b = $2 RETURNING a",
    "delete returning": "DELETE FROM t WHERE a = $1 RETURNING b",
    "any": "SELECT a FROM t WHERE a = ANY($1)",
    "array": "SELECT a FROM t WHERE a IN (SELECT UNNEST($1))",
    "array literal": "SELECT ARRAY[1, 2] FROM t",
    "double colon": "SELECT a::text FROM t",
    "ilike": "SELECT a FROM t WHERE a ILIKE $1",
    "regular expression": "SELECT a FROM t WHERE a ~ $1",
    "distinct on": "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a",
    "json arrow": "SELECT a ->> 'x' FROM t",
    "json function": "SELECT JSONB_BUILD_OBJECT('x', a) FROM t",
    "true": "SELECT a FROM t WHERE active = TRUE",
    "series": "SELECT n FROM GENERATE_SERIES(1, 10) n",
    "limited update": "UPDATE t SET a = 1 WHERE b IN (SELECT b FROM t LIMIT 5)",
    "limited delete": "DELETE FROM t WHERE a = $1 LIMIT 5",
    "reserved column": "SELECT comment FROM t",
    "reserved alias": "SELECT a AS level FROM t",
    "reserved table": "SELECT a FROM user",
    "quoted": 'SELECT "a" FROM t',
    "upper case": "SELECT a FROM T_x",
    "update from": "UPDATE t SET a = s.a FROM s WHERE s.b = t.b",
    "delete using": "DELETE FROM t USING s WHERE s.b = t.b",
    "interval": "SELECT a FROM t WHERE made_at < $1 - INTERVAL '1 day'",
    "now": "SELECT a FROM t WHERE made_at < NOW()",
    "current timestamp": "UPDATE t SET made_at = CURRENT_TIMESTAMP WHERE a = $1",
    "for share": "SELECT a FROM t WHERE a = $1 FOR SHARE",
    "no key update": "SELECT a FROM t WHERE a = $1 FOR NO KEY UPDATE",
    "for update of": "SELECT t.a FROM t JOIN s ON s.a = t.a WHERE t.a = $1 FOR UPDATE OF t",
    "locked join": "SELECT t.a FROM t JOIN s ON s.a = t.a WHERE t.a = $1 FOR UPDATE",
    "locked group": "SELECT a FROM t GROUP BY a FOR UPDATE",
    "unordered limit": "SELECT a FROM t LIMIT 5",
    "star": "SELECT * FROM t",
    "empty string": "SELECT a FROM t WHERE b = ''",
    "untyped parameter": "SELECT $1 FROM t",
    "type of postgresql": "SELECT CAST($1 AS JSONB) FROM t",
    "short type": "SELECT CAST($1 AS TIMESTAMPTZ) FROM t",
    "using": "SELECT t.a FROM t JOIN s USING (a)",
    "full join": "SELECT t.a FROM t FULL JOIN s ON s.a = t.a",
    "natural join": "SELECT t.a FROM t NATURAL JOIN s",
    "nulls first": "SELECT a FROM t ORDER BY a NULLS FIRST",
    "recursive": "WITH RECURSIVE r AS (SELECT a FROM t) SELECT a FROM r",
    "filter": "SELECT COUNT(*) FILTER (WHERE a = 1) FROM t",
    "string_agg": "SELECT STRING_AGG(a, ',') FROM t",
    "unknown function": "SELECT PG_SLEEP(1)",
    "advisory lock": "SELECT PG_ADVISORY_XACT_LOCK(1)",
    "truncate": "TRUNCATE t",
    "two statements": "DELETE FROM t WHERE a = $1; DELETE FROM t WHERE a = $2",
    "ddl": "CREATE TABLE t (a BIGINT)",
    "set local": "SET LOCAL statement_timeout = 5",
    "insert without columns": "INSERT INTO t VALUES ($1)",
    "update without where": "UPDATE t SET a = 1",
    "delete without where": "DELETE FROM t",
    "qualified set": "UPDATE t SET t.a = 1 WHERE b = 2",
    "dual": "SELECT 1 FROM dual",
    "comment": "SELECT a FROM t -- why",
    "row comparison": "SELECT a FROM t WHERE ROW(a, b) > ROW($1, $2)",
    "is true": "SELECT a FROM t WHERE (a = 1) IS TRUE",
    "similar": "SELECT a FROM t WHERE a SIMILAR TO 'x'",
    "not sql": "SELEC a FRM t",
}

GOOD: Final = {
    "page": "SELECT a, b FROM t WHERE a > $1 AND c IN ($*) ORDER BY a DESC LIMIT $2 OFFSET $3",
    "claim": "SELECT a FROM t WHERE state = 0 ORDER BY a LIMIT 10 FOR UPDATE SKIP LOCKED",
    "case": "UPDATE t SET a = CASE WHEN $2 > a THEN $2 ELSE a END, b = COALESCE($3, b) WHERE c = $1",
    "cte": "WITH n AS (SELECT a, COUNT(*) AS many FROM t GROUP BY a) SELECT a FROM n WHERE many > $1",
    "window": "SELECT a, ROW_NUMBER() OVER (PARTITION BY b ORDER BY c) AS place FROM t",
    "exists": "DELETE FROM t WHERE NOT EXISTS (SELECT 1 FROM s WHERE s.a = t.a AND s.b <> 1)",
    "cast": "SELECT CAST($1 AS BIGINT) AS a, CAST($2 AS TIMESTAMP WITH TIME ZONE) AS b FROM t",
    "merge": "MERGE INTO t USING (SELECT CAST($1 AS BIGINT) AS id) s ON (t.id = s.id) "
    "WHEN MATCHED THEN UPDATE SET c = 1 WHEN NOT MATCHED THEN INSERT (id, c) VALUES (s.id, 1)",
    "left join": "SELECT t.a FROM t LEFT JOIN s ON s.a = t.a AND s.b IS NULL WHERE t.c LIKE $1 ESCAPE '!'",
    "several rows": "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)",
}


@pytest.mark.parametrize("name", BAD)
def test_the_gate_refuses(name: str) -> None:
    assert portable.refusals(BAD[name]), BAD[name]


@pytest.mark.parametrize("name", GOOD)
def test_the_gate_lets_through(name: str) -> None:
    assert portable.refusals(GOOD[name]) == []


TENANTS: Final = {"t", "s"}
LOOSE: Final = (
    "SELECT a FROM t WHERE a = $1",
    "SELECT a FROM t WHERE enterprise_id = $1 OR a = $2",
    "SELECT a FROM t WHERE NOT enterprise_id = $1",
    "SELECT a FROM t WHERE enterprise_id > $1",
    "UPDATE t SET enterprise_id = $1 WHERE a = $2",
    "DELETE FROM t WHERE a = $1",
    "INSERT INTO t (a) VALUES ($1)",
    "INSERT INTO g (a) SELECT a FROM t WHERE b = $1",
    "SELECT t.a FROM t JOIN s ON s.a = t.a WHERE t.enterprise_id = $1",
    "SELECT t.a FROM t JOIN s ON s.enterprise_id = t.enterprise_id WHERE t.a = $1",
    "SELECT t.a FROM t JOIN s ON s.a = t.a WHERE enterprise_id = $1",
    "SELECT a FROM t WHERE enterprise_id = $1 AND EXISTS (SELECT 1 FROM s WHERE s.a = t.a)",
    "SELECT a FROM g WHERE a IN (SELECT a FROM t)",
    "WITH x AS (SELECT a FROM t) SELECT a FROM x WHERE a = $1",
    "SELECT a FROM t WHERE enterprise_id = $1 UNION SELECT a FROM s",
)
TIGHT: Final = (
    "SELECT a FROM t WHERE enterprise_id = $1 AND (a = $2 OR b = $3)",
    "SELECT a FROM g WHERE a = $1",
    "SELECT a FROM t WHERE a = $1 AND t.enterprise_id IN ($*)",
    "SELECT t.a FROM t JOIN s ON s.enterprise_id = t.enterprise_id AND s.a = t.a WHERE t.enterprise_id = $1",
    "SELECT a FROM t WHERE enterprise_id = $1 AND a IN (SELECT a FROM s WHERE s.enterprise_id = t.enterprise_id)",
    "INSERT INTO t (enterprise_id, a) VALUES ($1, $2)",
    "UPDATE t SET a = $1 WHERE b = $2 AND enterprise_id = CAST($3 AS BIGINT)",
)


@pytest.mark.parametrize("statement", LOOSE)
def test_the_lint_refuses_what_reaches_other_tenants(statement: str) -> None:
    assert tenants.unfiltered(statement, TENANTS)


@pytest.mark.parametrize("statement", TIGHT)
def test_the_lint_lets_through_what_cannot(statement: str) -> None:
    assert tenants.unfiltered(statement, TENANTS) == []


# --- tables ---------------------------------------------------------------------------------------------------------


def test_every_table_is_portable() -> None:
    assert [
        why for name, table in metadata.tables.items() for why in ddl.refusals(table, name.split("_")[0])
    ] == []
    assert {name.split("_")[0] for name in metadata.tables} <= set(PACKAGES)


def test_a_table_without_tenants_says_why() -> None:
    assert set(metadata.tables) - TENANT_TABLES == set(GLOBAL)


def _table(*columns: Column[Any] | Index, name: str = "t_things") -> Table:
    key = Column("thing_id", BigInteger, primary_key=True, autoincrement=False)
    return Table(name, MetaData(), key, *columns)


@pytest.mark.parametrize(
    "table",
    [
        _table(name="things"),
        _table(name="t_Things"),
        _table(Column("comment", BigInteger)),
        _table(Column("active", Boolean)),
        _table(Column("kind", Enum("a", "b", name="kinds"))),
        _table(Column("made_at", DateTime)),
        _table(Column("title", String)),
        _table(Column("title", String(4000))),
        _table(Column("amount", Numeric)),
        _table(Column("made_at", DateTime(timezone=True), server_default=func.now())),
        _table(Column("enterprise_id", BigInteger)),
        _table(Column("enterprise_id", Integer, nullable=False)),
        _table(Column("a", BigInteger), Index("ix_a", "a", postgresql_where=text("a > 1"))),
        _table(Column("a", String(9)), Index("ix_a", text("lower(a)"))),
        Table("t_things", MetaData(), Column("thing_id", BigInteger, primary_key=True)),
        Table("t_things", MetaData(), Column("thing_id", BigInteger)),
    ],
    ids=str,
)
def test_the_gate_refuses_a_table(table: Table) -> None:
    assert list(ddl.refusals(table, "t"))


def test_the_gate_lets_a_plain_table_through() -> None:
    assert list(ddl.refusals(_table(Column("enterprise_id", BigInteger, nullable=False)), "t")) == []
