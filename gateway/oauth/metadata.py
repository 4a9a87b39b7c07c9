"""What the provider says of itself: OpenID Connect Discovery 1.0 and RFC 8414, one content for both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

AUTHORIZE: Final = "/oauth/authorize"
TOKEN: Final = "/oauth/token"  # noqa: S105 - a path
PAR: Final = "/oauth/par"
USERINFO: Final = "/oauth/userinfo"
JWKS: Final = "/oauth/jwks"
REVOKE: Final = "/oauth/revoke"
INTROSPECT: Final = "/oauth/introspect"
LOGOUT: Final = "/oauth/logout"
OPENID_CONFIGURATION: Final = "/.well-known/openid-configuration"
AUTHORIZATION_SERVER: Final = "/.well-known/oauth-authorization-server"

PROVED_AT: Final = (TOKEN, PAR, REVOKE, INTROSPECT, "/oauth/bridge")  # clients prove who they are there
CLIENT_AUTH: Final = ("none", "private_key_jwt", "client_secret_basic")
GRANTS: Final = ("authorization_code", "refresh_token", "client_credentials")
SIGNED_BY_CLIENTS: Final = ("ES256", "RS256")
CLAIMS: Final = (
    "sub",
    "name",
    "ent",
    "ent_sub",
    "ent_name",
    "cust",
    "acr",
    "amr",
    "auth_time",
    "nonce",
    "sid",
)
PROMPTS: Final = ("none", "login", "consent", "select_account")


def document(issuer: str, scopes: Iterable[str]) -> dict[str, Any]:
    """The metadata of the provider at `issuer` (no slash at its end)."""
    confidential = [method for method in CLIENT_AUTH if method != "none"]
    return {
        "issuer": issuer,
        "authorization_endpoint": issuer + AUTHORIZE,
        "token_endpoint": issuer + TOKEN,
        "pushed_authorization_request_endpoint": issuer + PAR,
        "userinfo_endpoint": issuer + USERINFO,
        "jwks_uri": issuer + JWKS,
        "revocation_endpoint": issuer + REVOKE,
        "introspection_endpoint": issuer + INTROSPECT,
        "end_session_endpoint": issuer + LOGOUT,
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
        "scopes_supported": sorted(scopes),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANTS),
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": list(CLIENT_AUTH),
        "token_endpoint_auth_signing_alg_values_supported": list(SIGNED_BY_CLIENTS),
        "revocation_endpoint_auth_methods_supported": list(CLIENT_AUTH),
        "revocation_endpoint_auth_signing_alg_values_supported": list(SIGNED_BY_CLIENTS),
        "introspection_endpoint_auth_methods_supported": confidential,
        "introspection_endpoint_auth_signing_alg_values_supported": list(SIGNED_BY_CLIENTS),
        "dpop_signing_alg_values_supported": ["ES256"],
        "prompt_values_supported": list(PROMPTS),
        "acr_values_supported": ["1", "2"],
        "claims_supported": list(CLAIMS),
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "require_pushed_authorization_requests": False,
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": ["zh-CN"],
    }
