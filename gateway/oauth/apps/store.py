"""SQL of apps, installations and grants."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import orjson

from core.db import Queries, Record, sql
from gateway.oauth.apps.rules import Client

ACTIVE: Final = "active"
SUSPENDED: Final = "suspended"

# --- apps -------------------------------------------------------------------------------------------------------------

_COLUMNS: Final = (
    "app_id, enterprise_id, published, title, auth_method, redirect_uris, logout_uris, sector, scopes, machine, "
    "money_related, resource_server, state, backchannel_uri"
)
_INSERT = sql(
    """
    INSERT INTO gateway_apps (app_id, enterprise_id, published, title, auth_method, secret_digest, jwks, redirect_uris,
                              logout_uris, sector, scopes, machine, money_related, resource_server, state, created_at,
                              changed_at, backchannel_uri)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $17)
    """
)
_APP = sql(
    f"SELECT {_COLUMNS} FROM gateway_apps WHERE app_id = $1",
    exempt="a client is looked up by its public id before anybody knows for which enterprise it asks",
)
_CREDENTIALS = sql(
    "SELECT secret_digest, jwks FROM gateway_apps WHERE app_id = $1",
    exempt="a client is looked up by its public id before anybody knows for which enterprise it asks",
)
_INSTALLABLE = sql(
    f"SELECT {_COLUMNS} FROM gateway_apps WHERE (enterprise_id = $1 OR published = 1) AND app_id > $2 "
    "ORDER BY app_id LIMIT $3",
    exempt="an enterprise's own apps and those the bank has published for all",
)
_PAGES = sql(
    "SELECT app_id, redirect_uris FROM gateway_apps WHERE auth_method = 'none' AND state = 'active' ORDER BY app_id",
    exempt="every edge must know the pages of every app",
)
_SET_STATE = sql(
    "UPDATE gateway_apps SET state = $2, changed_at = $3 WHERE app_id = $1",
    exempt="the bank's staff stop any app of any enterprise",
)
_SET_SECRET = sql("UPDATE gateway_apps SET secret_digest = $3 WHERE app_id = $1 AND enterprise_id = $2")
_CHANGE = sql(
    """
    UPDATE gateway_apps SET redirect_uris = $3, logout_uris = $4, backchannel_uri = $5, jwks = $6
    WHERE app_id = $1 AND enterprise_id = $2
    """
)
_OLDER_ENDED = sql("UPDATE gateway_apps SET changed_at = $3 WHERE app_id = $1 AND enterprise_id = $2")
_ENDED_SINCE = sql(
    "SELECT app_id, changed_at FROM gateway_apps WHERE changed_at > $1",
    exempt="every edge must refuse the older tokens of every app that was stopped or has other keys",
)


async def insert(
    db: Queries, client: Client, *, secret_digest: bytes | None, jwks: dict[str, Any] | None, now: datetime
) -> None:
    """A new app."""
    await db.execute(
        _INSERT,
        client.app_id,
        client.enterprise_id,
        int(client.published),
        client.title,
        client.auth_method,
        secret_digest,
        None if jwks is None else orjson.dumps(jwks).decode(),
        orjson.dumps(client.redirect_uris).decode(),
        orjson.dumps(client.logout_uris).decode(),
        client.sector,
        _joined(client.scopes),
        int(client.machine),
        int(client.money_related),
        int(client.resource_server),
        ACTIVE,
        now,
        client.backchannel_uri,
    )


def _joined(scopes: Iterable[str]) -> str:
    return " ".join(sorted(scopes)) or " "  # never '', which DM8 may take for NULL


def scopes_of(row: Record) -> frozenset[str]:
    """The scopes in a row."""
    return frozenset(row["scopes"].split())


def _client(row: Record) -> Client:
    return Client(
        app_id=row["app_id"],
        enterprise_id=row["enterprise_id"],
        title=row["title"],
        auth_method=row["auth_method"],
        redirect_uris=tuple(orjson.loads(row["redirect_uris"])),
        logout_uris=tuple(orjson.loads(row["logout_uris"])),
        sector=row["sector"],
        scopes=scopes_of(row),
        published=bool(row["published"]),
        machine=bool(row["machine"]),
        money_related=bool(row["money_related"]),
        resource_server=bool(row["resource_server"]),
        active=row["state"] == ACTIVE,
        backchannel_uri=row["backchannel_uri"],
    )


async def client(db: Queries, app_id: int) -> Client | None:
    """The app of this id, suspended or not."""
    row = await db.fetchrow(_APP, app_id)
    return None if row is None else _client(row)


async def credentials(db: Queries, app_id: int) -> tuple[bytes | None, dict[str, Any] | None]:
    """The digest of its secret, and its public keys."""
    row = await db.fetchrow(_CREDENTIALS, app_id)
    if row is None:
        return None, None
    digest, jwks = row["secret_digest"], row["jwks"]
    return None if digest is None else bytes(digest), None if jwks is None else orjson.loads(jwks)


async def installable(db: Queries, enterprise_id: int, after: int, limit: int) -> list[Client]:
    """An enterprise's own apps and the published ones, by id."""
    return [_client(row) for row in await db.fetch(_INSTALLABLE, enterprise_id, after, limit)]


async def pages(db: Queries) -> list[tuple[int, list[str]]]:
    """(app, its redirect URIs) of the active apps that live in browsers."""
    return [(row["app_id"], orjson.loads(row["redirect_uris"])) for row in await db.fetch(_PAGES)]


async def set_state(db: Queries, app_id: int, state: str, now: datetime) -> None:
    """Stop an app, or let it go on."""
    await db.execute(_SET_STATE, app_id, state, now)


async def set_secret(db: Queries, app_id: int, enterprise_id: int, digest: bytes) -> None:
    """Replace the secret of an app of this enterprise."""
    await db.execute(_SET_SECRET, app_id, enterprise_id, digest)


async def change(db: Queries, client: Client, jwks: dict[str, Any] | None) -> None:
    """Replace the addresses of an app and its public keys."""
    await db.execute(
        _CHANGE,
        client.app_id,
        client.enterprise_id,
        orjson.dumps(client.redirect_uris).decode(),
        orjson.dumps(client.logout_uris).decode(),
        client.backchannel_uri,
        None if jwks is None else orjson.dumps(jwks).decode(),
    )


async def end_older(db: Queries, client: Client, now: datetime) -> None:
    """Remember that no token from before is good any more."""
    await db.execute(_OLDER_ENDED, client.app_id, client.enterprise_id, now)


async def ended_since(db: Queries, since: datetime) -> list[tuple[int, datetime]]:
    """(app, when): tokens from before that are not good, because it was stopped or has other keys."""
    return [(row["app_id"], row["changed_at"]) for row in await db.fetch(_ENDED_SINCE, since)]


# --- installations ----------------------------------------------------------------------------------------------------

_INSTALLATION = sql(
    """
    SELECT scopes, installed_at, expires_at FROM gateway_app_installations
    WHERE enterprise_id = $1 AND app_id = $2 AND ended_at IS NULL AND (expires_at IS NULL OR expires_at > $3)
    """
)
_INSTALLATIONS = sql(
    """
    SELECT app_id, scopes, installed_at, expires_at FROM gateway_app_installations
    WHERE enterprise_id = $1 AND ended_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
    ORDER BY app_id LIMIT 500
    """
)
_UPDATE_INSTALLATION = sql(
    """
    UPDATE gateway_app_installations SET scopes = $3, installed_by = $4, installed_at = $5, expires_at = $6,
                                         ended_at = NULL
    WHERE enterprise_id = $1 AND app_id = $2
    """
)
_INSERT_INSTALLATION = sql(
    """
    INSERT INTO gateway_app_installations (enterprise_id, app_id, scopes, installed_by, installed_at, expires_at,
                                           ended_at)
    VALUES ($1, $2, $3, $4, $5, $6, NULL)
    """
)
_END_INSTALLATION = sql(
    "UPDATE gateway_app_installations SET ended_at = $3 WHERE enterprise_id = $1 AND app_id = $2 AND ended_at IS NULL"
)
_UNINSTALLED_SINCE = sql(
    """
    SELECT i.app_id, i.enterprise_id FROM gateway_app_installations i
    WHERE i.ended_at > $1 AND NOT EXISTS (
        SELECT 1 FROM gateway_app_installations n
        WHERE n.enterprise_id = i.enterprise_id AND n.app_id = i.app_id AND n.ended_at IS NULL)
    """,
    exempt="every edge must refuse the tokens of every installation that has ended",
)


async def installation(db: Queries, enterprise_id: int, app_id: int, now: datetime) -> Record | None:
    """scopes, installed_at, expires_at of an installation that is in force."""
    return await db.fetchrow(_INSTALLATION, enterprise_id, app_id, now)


async def installations(db: Queries, enterprise_id: int, now: datetime) -> list[Record]:
    """app_id, scopes, installed_at, expires_at of all that are in force, by app."""
    return await db.fetch(_INSTALLATIONS, enterprise_id, now)


async def install(
    db: Queries,
    enterprise_id: int,
    app_id: int,
    *,
    scopes: Iterable[str],
    by: int,
    now: datetime,
    expires_at: datetime | None,
) -> None:
    """Install, or install anew. Raises `UniqueViolation` where somebody did it at this moment."""
    row = (enterprise_id, app_id, _joined(scopes), by, now, expires_at)
    if not await db.execute(_UPDATE_INSTALLATION, *row):
        await db.execute(_INSERT_INSTALLATION, *row)


async def uninstall(db: Queries, enterprise_id: int, app_id: int, now: datetime) -> bool:
    """End an installation; False where there was none."""
    return await db.execute(_END_INSTALLATION, enterprise_id, app_id, now) == 1


async def uninstalled_since(db: Queries, since: datetime) -> list[tuple[int, int]]:
    """(app, enterprise) of installations that have ended and not begun again."""
    return [(row["app_id"], row["enterprise_id"]) for row in await db.fetch(_UNINSTALLED_SINCE, since)]


# --- grants -----------------------------------------------------------------------------------------------------------

_OWN: Final = "what a person has granted is shown to that person, in all enterprises"
_GRANT = sql(
    """
    SELECT grant_id, scopes FROM gateway_app_grants
    WHERE enterprise_id = $1 AND person_id = $2 AND app_id = $3 AND ended_at IS NULL ORDER BY grant_id DESC LIMIT 1
    """
)
_INSERT_GRANT = sql(
    """
    INSERT INTO gateway_app_grants (grant_id, enterprise_id, person_id, app_id, scopes, granted_at, ended_at)
    VALUES ($1, $2, $3, $4, $5, $6, NULL)
    """
)
_WIDEN = sql("UPDATE gateway_app_grants SET scopes = $3 WHERE grant_id = $1 AND enterprise_id = $2")
_GRANTS = sql(
    """
    SELECT g.grant_id, g.enterprise_id, e.full_name AS enterprise, g.app_id, a.title, g.scopes, g.granted_at
    FROM gateway_app_grants g
    JOIN gateway_apps a ON a.app_id = g.app_id
    JOIN gateway_enterprises e ON e.enterprise_id = g.enterprise_id
    WHERE g.person_id = $1 AND g.ended_at IS NULL ORDER BY g.grant_id DESC LIMIT 200
    """,
    exempt=_OWN,
)
_REVOKE = sql(
    "UPDATE gateway_app_grants SET ended_at = $3 WHERE grant_id = $1 AND person_id = $2 AND ended_at IS NULL",
    exempt=_OWN,
)
_REVOKED_SINCE = sql(
    "SELECT grant_id FROM gateway_app_grants WHERE ended_at > $1",
    exempt="every edge must refuse the tokens of every grant that was taken back",
)


async def grant(db: Queries, enterprise_id: int, person_id: int, app_id: int) -> tuple[int, frozenset[str]]:
    """The grant in force and its scopes; (0, nothing) where there is none."""
    row = await db.fetchrow(_GRANT, enterprise_id, person_id, app_id)
    return (0, frozenset()) if row is None else (row["grant_id"], scopes_of(row))


async def insert_grant(
    db: Queries,
    grant_id: int,
    *,
    enterprise_id: int,
    person_id: int,
    app_id: int,
    scopes: Iterable[str],
    now: datetime,
) -> None:
    """Remember what a person has allowed."""
    await db.execute(_INSERT_GRANT, grant_id, enterprise_id, person_id, app_id, _joined(scopes), now)


async def widen(db: Queries, grant_id: int, enterprise_id: int, scopes: Iterable[str]) -> None:
    """The person has allowed more."""
    await db.execute(_WIDEN, grant_id, enterprise_id, _joined(scopes))


async def grants_of(db: Queries, person_id: int) -> list[Record]:
    """grant_id, enterprise_id, enterprise, app_id, title, scopes, granted_at of all in force, newest first."""
    return await db.fetch(_GRANTS, person_id)


async def revoke(db: Queries, grant_id: int, person_id: int, now: datetime) -> bool:
    """Take a grant back; False where it is not there, or not this person's."""
    return await db.execute(_REVOKE, grant_id, person_id, now) == 1


async def revoked_since(db: Queries, since: datetime) -> list[int]:
    """Grants that were taken back."""
    return [row["grant_id"] for row in await db.fetch(_REVOKED_SINCE, since)]
