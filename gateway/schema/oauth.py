"""Tables of apps that are not ours: who they are, where they are installed, what was granted, what they were given."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
)

from core.db.metadata import metadata

_TIME: Final = DateTime(timezone=True)

apps = Table(
    "gateway_apps",
    metadata,
    Column("app_id", BigInteger, primary_key=True, autoincrement=False),  # the client_id, in decimal
    Column("enterprise_id", BigInteger, nullable=False),  # who registered it
    Column("published", SmallInteger, nullable=False),  # 1: registered by the bank for every enterprise
    Column("title", String(64), nullable=False),
    Column("auth_method", String(32), nullable=False),  # none | private_key_jwt | client_secret_basic
    Column("secret_digest", LargeBinary(32), nullable=True),  # SHA-256 of 256 random bits
    Column("jwks", Text, nullable=True),  # JSON: the client's public keys
    Column("redirect_uris", Text, nullable=False),  # JSON list, compared character by character
    Column("logout_uris", Text, nullable=False),  # JSON list
    Column("backchannel_uri", String(512), nullable=True),  # is told when a session has ended
    Column("sector", String(255), nullable=False),  # apps of one sector see the same `sub`
    Column("scopes", Text, nullable=False),  # approved for it at most, separated by spaces
    Column("machine", SmallInteger, nullable=False),  # 1: may act for itself (client credentials)
    Column("money_related", SmallInteger, nullable=False),  # 1: pushed requests and DPoP only
    Column("resource_server", SmallInteger, nullable=False),  # 1: may introspect
    Column("state", String(16), nullable=False),  # active | suspended
    Column("created_at", _TIME, nullable=False),
    Column("changed_at", _TIME, nullable=False),  # of the state, or when a key or address was taken away
    Index("ix_gateway_apps_enterprise", "enterprise_id", "app_id"),
    Index("ix_gateway_apps_published", "published", "app_id"),
    Index("ix_gateway_apps_changed", "changed_at"),
)

installations = Table(
    "gateway_app_installations",
    metadata,
    Column("enterprise_id", BigInteger, nullable=False),
    Column("app_id", BigInteger, nullable=False),
    Column("scopes", Text, nullable=False),  # what the administrator allows, separated by spaces
    Column("installed_by", BigInteger, nullable=False),
    Column("installed_at", _TIME, nullable=False),
    Column("expires_at", _TIME, nullable=True),
    Column("ended_at", _TIME, nullable=True),
    PrimaryKeyConstraint("enterprise_id", "app_id", name="pk_gateway_app_installations"),
    Index("ix_gateway_app_installations_ended", "ended_at"),
)

grants = Table(
    "gateway_app_grants",
    metadata,
    Column("grant_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("app_id", BigInteger, nullable=False),
    Column("scopes", Text, nullable=False),  # separated by spaces
    Column("granted_at", _TIME, nullable=False),
    Column("ended_at", _TIME, nullable=True),
    Index("ix_gateway_app_grants_person", "person_id", "enterprise_id", "app_id"),
    Index("ix_gateway_app_grants_ended", "ended_at"),
)

families = Table(
    "gateway_app_families",  # one code, and all tokens that come of it
    metadata,
    Column("family_id", BigInteger, primary_key=True, autoincrement=False),
    Column("enterprise_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("app_id", BigInteger, nullable=False),
    Column("grant_id", BigInteger, nullable=False),
    Column("session_id", BigInteger, nullable=False),  # when that ends, so does this
    Column("scopes", Text, nullable=False),
    Column("acr", SmallInteger, nullable=False),
    Column(
        "amr", String(64), nullable=True
    ),  # RFC 8176, separated by spaces; not known of our own clients' logins
    Column("authenticated_at", _TIME, nullable=False),
    Column("jkt", String(64), nullable=True),  # thumbprint of the DPoP key it is bound to
    Column("created_at", _TIME, nullable=False),
    Column("expires_at", _TIME, nullable=False),  # nothing of it is good after this
    Column("ended_at", _TIME, nullable=True),
    Column("ended_why", String(16), nullable=True),  # replay | reuse | revoked | logout | changed
    Index("ix_gateway_app_families_grant", "grant_id"),
    Index("ix_gateway_app_families_session", "session_id"),
    Index("ix_gateway_app_families_ended", "ended_at"),
    Index("ix_gateway_app_families_expires", "expires_at"),
)

codes = Table(
    "gateway_app_codes",
    metadata,
    Column("code_digest", LargeBinary(32), primary_key=True),
    Column("family_id", BigInteger, nullable=False),
    Column("app_id", BigInteger, nullable=False),
    Column("redirect_uri", String(512), nullable=False),
    Column("challenge", String(64), nullable=False),  # S256
    Column("nonce", String(256), nullable=True),
    Column("expires_at", _TIME, nullable=False),
    Column("used_at", _TIME, nullable=True),
    Index("ix_gateway_app_codes_expires", "expires_at"),
)

refresh_tokens = Table(
    "gateway_app_refresh_tokens",
    metadata,
    Column("token_digest", LargeBinary(32), primary_key=True),
    Column("family_id", BigInteger, nullable=False),
    Column("issued_at", _TIME, nullable=False),
    Column("expires_at", _TIME, nullable=False),
    Column("rotated_at", _TIME, nullable=True),
    Index("ix_gateway_app_refresh_tokens_expires", "expires_at"),
)

pushed_requests = Table(
    "gateway_app_pushed_requests",
    metadata,
    Column("request_digest", LargeBinary(32), primary_key=True),
    Column("app_id", BigInteger, nullable=False),
    Column("request", Text, nullable=False),  # JSON, checked
    Column("expires_at", _TIME, nullable=False),
    Index("ix_gateway_app_pushed_requests_expires", "expires_at"),
)

browsers = Table(
    "gateway_app_browsers",  # who is logged in on the provider's pages
    metadata,
    Column("cookie_digest", LargeBinary(32), primary_key=True),
    Column("session_id", BigInteger, nullable=False),
    Column("person_id", BigInteger, nullable=False),
    Column("acr", SmallInteger, nullable=False),
    Column("amr", String(64), nullable=True),
    Column("authenticated_at", _TIME, nullable=False),
    Column("used_at", _TIME, nullable=False),
    Index("ix_gateway_app_browsers_used", "used_at"),
)

once = Table(
    "gateway_app_once",  # ids that are good once: assertions of clients, finished interactions
    metadata,
    Column("id_digest", LargeBinary(32), primary_key=True),
    Column("expires_at", _TIME, nullable=False),
    Index("ix_gateway_app_once_expires", "expires_at"),
)
