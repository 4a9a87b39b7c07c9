"""Clients prove who they are: by a word, by a signature, or (public ones) not at all."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from joserfc import jwt
from joserfc.errors import JoseError

from core.actions import Context
from core.errors import Invalid
from gateway.oauth import metadata, store
from gateway.oauth.apps import store as apps
from gateway.oauth.apps.rules import Client, client_keys
from gateway.oauth.commands import Proof
from gateway.oauth.parts import oauth
from gateway.oauth.rules import Assertion, Refusal, client_id_of, digest, same_secret

WRONG: Final = "the client is not known, or it did not prove who it is"


async def authenticate(ctx: Context, proof: Proof) -> Client:
    """The client that this proof is of. Raises `Refusal`: the same for a client that is not there and a wrong proof.

    The method must be the one it was registered with, so that a stolen id is not enough where there is a secret.
    """
    app_id = client_id_of(proof.client_id)
    client = await apps.client(ctx.tx, app_id)
    secret_digest, jwks = await apps.credentials(ctx.tx, app_id)
    given = "" if proof.secret is None else proof.secret.get_secret_value()
    right = same_secret(given, secret_digest)  # compared for unknown clients too: the same time
    if client is None or not client.active or client.auth_method != proof.method:
        raise Refusal("invalid_client", WRONG, 401)
    if proof.method == "client_secret_basic" and not right:
        raise Refusal("invalid_client", WRONG, 401)
    if proof.method == "private_key_jwt":
        await _check_assertion(ctx, client, given, jwks or {})
    ctx.audit(object=client.app_id, device=f"app-{client.app_id}")
    return client


async def _check_assertion(ctx: Context, client: Client, assertion: str, jwks: dict[str, object]) -> None:
    settings, have = ctx.runtime.settings, oauth(ctx)
    claims = _signed(assertion, jwks)
    # RFC 9126, 2, wants the issuer and these endpoints to do; the others are where our metadata says so too
    audiences = frozenset(have.issuer + path for path in ("", *metadata.PROVED_AT))
    now_s, most_s = ctx.clock.now_ms() / 1000, settings.oauth_assertion_s
    jti, until_s = Assertion(claims).check(client.client_id, audiences, now_s, most_s)
    until = ctx.clock.now() + timedelta(seconds=until_s - now_s)
    if not await store.first_time(ctx.tx, digest(f"assertion {client.app_id} {jti}"), until):
        raise Refusal("invalid_client", "this assertion was used before", 401)


def _signed(assertion: str, jwks: dict[str, object]) -> dict[str, object]:
    """The claims, if one of the client's keys has signed them. A `kid` only says which one is tried; few give one."""
    try:
        keys = client_keys(jwks).keys
    except Invalid:
        keys = []
    for key in keys:
        try:
            return dict(jwt.decode(assertion, key, algorithms=list(metadata.SIGNED_BY_CLIENTS)).claims)
        except (JoseError, TypeError, ValueError, KeyError, AttributeError):
            continue
    raise Refusal("invalid_client", WRONG, 401)
