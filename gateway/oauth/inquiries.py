"""What apps and resource servers ask about tokens, giving tokens back, the bridge of micro apps."""

from __future__ import annotations

from typing import Any, Final

from core.actions import INTERNAL, Context, action
from core.errors import Invalid, Unauthenticated
from gateway.identity import store as people
from gateway.oauth import rules, store
from gateway.oauth.apps import store as apps
from gateway.oauth.apps.rules import OPENID, PROFILE, bridge_apis
from gateway.oauth.authorize import refused
from gateway.oauth.clients import authenticate
from gateway.oauth.commands import BeginBridge, Introspect, Reply, Revoke, UserInfo
from gateway.oauth.exchange import RATE, end_family, live
from gateway.oauth.parts import oauth
from gateway.oauth.rules import Refusal
from gateway.oauth.tokens import AppToken

_INACTIVE: Final[dict[str, Any]] = {"active": False}


@action(UserInfo, needs=INTERNAL, audited=False, limit=RATE)
async def userinfo(ctx: Context, command: UserInfo) -> Reply:
    """Who the person is, as far as the scopes go. Never the phone."""
    try:
        token = oauth(ctx).tokens.verify(command.token.get_secret_value())
        if not token.rests.person_id or OPENID not in token.scopes:
            raise Refusal("insufficient_scope", "the scope openid is needed", 403)
        await _still(ctx, token)
    except Unauthenticated:
        return refused(ctx, Refusal("invalid_token", "the access token is not valid", 401))
    except Refusal as refusal:
        return refused(ctx, refusal)
    claims = token.claims
    said = {name: claims[name] for name in ("sub", "ent", "ent_sub", "cust")}
    if PROFILE in token.scopes:
        person = await people.person(ctx.tx, token.rests.person_id)
        mine = {one: name for one, name, _ in await people.enterprises_of(ctx.tx, token.rests.person_id)}
        if person is not None and token.rests.enterprise_id in mine:
            said |= {"name": person["full_name"], "ent_name": mine[token.rests.enterprise_id]}
    return Reply(status=200, body=said)


async def _still(ctx: Context, token: AppToken) -> None:
    """Asked of the database, which knows more than the token. Raises `Refusal`."""
    rests = token.rests
    client = await apps.client(ctx.tx, rests.app_id)
    gone = Refusal("invalid_token", "the access token is not valid", 401)
    if client is None or not client.active:
        raise gone
    if not rests.person_id:
        if await apps.installation(ctx.tx, rests.enterprise_id, rests.app_id, ctx.clock.now()) is None:
            raise gone
        return
    family = await store.lock_family(ctx.tx, rests.family_id)
    if family is None:
        raise gone
    try:
        await live(ctx, client, family)
    except Refusal as refusal:
        raise gone from refusal


@action(Introspect, needs=INTERNAL, limit=RATE)  # audited: a client's assertion is used up by it
async def introspect(ctx: Context, command: Introspect) -> Reply:
    """What an access token is worth now (RFC 7662). Only for clients registered as resource servers."""
    try:
        client = await authenticate(ctx, command.proof)
        if not client.resource_server:
            raise Refusal("unauthorized_client", "only resource servers ask this", 403)
    except Refusal as refusal:
        return refused(ctx, refusal)
    try:
        token = oauth(ctx).tokens.verify(command.token.get_secret_value())
        await _still(ctx, token)
    except (Unauthenticated, Refusal):
        return Reply(status=200, body=_INACTIVE)
    kind = "Bearer" if token.jkt is None else "DPoP"
    return Reply(status=200, body={"active": True, "token_type": kind} | token.claims)


@action(Revoke, needs=INTERNAL, limit=RATE)
async def revoke(ctx: Context, command: Revoke) -> Reply:
    """Give a token back: all that came of the same consent is refused from now on (RFC 7009).

    What is not this client's, or not a token at all, changes nothing and is told nothing.
    """
    try:
        client = await authenticate(ctx, command.proof)
    except Refusal as refusal:
        return refused(ctx, refusal)
    text, done = command.token.get_secret_value(), Reply(status=200, body=None)
    row = await store.lock_refresh(ctx.tx, rules.digest(text))
    if row is not None:
        family = await store.lock_family(ctx.tx, row["family_id"])
        if family is not None and family["app_id"] == client.app_id:
            await end_family(ctx, row["family_id"], "revoked")
        return done
    try:
        rests = oauth(ctx).tokens.verify(text).rests
    except Unauthenticated:
        return done
    if rests.app_id != client.app_id:
        return done
    known = rests.person_id or await store.lock_family(ctx.tx, rests.family_id) is not None
    if not known:  # an app for itself has no family before
        now = ctx.clock.now()
        await store.insert_family(
            ctx.tx,
            rests.family_id,
            enterprise_id=rests.enterprise_id,
            person_id=0,
            app_id=rests.app_id,
            grant_id=0,
            session_id=0,
            scopes=(),
            acr=0,
            amr=None,
            authenticated_at=now,
            jkt=None,
            now=now,
            expires_at=now,
        )
    await end_family(ctx, rests.family_id, "revoked")
    return done


@action(BeginBridge, needs=INTERNAL, limit=RATE)
async def begin_bridge(ctx: Context, command: BeginBridge) -> Reply:
    """A bridge token for one page of a micro app: its origin, this person and enterprise, these APIs."""
    given, have = command.parameters, oauth(ctx)
    try:
        client = await authenticate(ctx, command.proof)
        if client.auth_method == "none":
            raise Refusal("unauthorized_client", "the bridge is opened by the app's server", 403)
        token = have.tokens.verify(command.token.get_secret_value())
        if token.rests.app_id != client.app_id or not token.rests.person_id:
            raise Refusal("invalid_token", "a token of this client for a person, please", 401)
        await _still(ctx, token)
        origin, nonce = given.get("origin", ""), given.get("nonce", "")
        if origin not in client.origins:
            raise Refusal("invalid_request", "the origin is not one of this app's addresses")
        if not 8 <= len(nonce) <= 128:
            raise Refusal("invalid_request", "the page's nonce has 8 to 128 characters")
        apis = bridge_apis(given.get("apis", "").split(), token.scopes)
    except Unauthenticated:
        return refused(ctx, Refusal("invalid_token", "the access token is not valid", 401))
    except Invalid as error:
        return refused(ctx, Refusal("invalid_scope", error.message))
    except Refusal as refusal:
        return refused(ctx, refusal)
    bridge, life_s = have.tokens.sign_bridge(token.rests, origin, apis, nonce, 1 << 60)
    ctx.audit(person_id=token.rests.person_id, enterprise_id=token.rests.enterprise_id, after=sorted(apis))
    body = {"bridge_token": bridge, "expires_in": life_s, "origin": origin, "apis": sorted(apis)}
    return Reply(status=201, body=body)
