"""Codes, refresh tokens and clients' own proofs, exchanged for tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from core.access import Level
from core.actions import INTERNAL, Context, Principal, Rate, action
from core.clock import to_ms
from core.db import Record
from gateway.identity import store as people
from gateway.oauth import rules, store
from gateway.oauth.apps import store as apps
from gateway.oauth.apps.rules import IDENTITY_SCOPES, OPENID, Client, effective, held_scopes, subject
from gateway.oauth.authorize import refused
from gateway.oauth.clients import authenticate
from gateway.oauth.commands import Exchange, Reply
from gateway.oauth.parts import oauth
from gateway.oauth.rules import Code, Refresh, Refusal, Verdict
from gateway.oauth.tokens import Rests

RATE: Final = Rate(burst=300, per_s=30.0)  # of one address: a server that works for many people
_NOT_GOOD: Final = "the code or token is not good"


@action(Exchange, needs=INTERNAL, limit=RATE)
async def exchange(ctx: Context, command: Exchange) -> Reply:
    """Tokens for a client. A refusal is an answer, so that what it ended is committed."""
    given = command.parameters
    try:
        client = await authenticate(ctx, command.proof)
        if client.money_related and command.jkt is None:
            raise Refusal("invalid_dpop_proof", "this client binds its tokens to a key (RFC 9449)")
        match given.get("grant_type"):
            case "authorization_code":
                body = await _of_code(ctx, client, given, command.jkt)
            case "refresh_token":
                body = await _of_refresh(ctx, client, given, command.jkt)
            case "client_credentials":
                body = await _of_itself(ctx, client, given, command.jkt)
            case None:
                raise Refusal("invalid_request", "grant_type is missing")
            case _:
                raise Refusal("unsupported_grant_type", "there is no such grant here")
    except Refusal as refusal:
        return refused(ctx, refusal)
    return Reply(status=200, body=body)


async def _of_code(ctx: Context, client: Client, given: dict[str, str], jkt: str | None) -> dict[str, Any]:
    digest, now = rules.digest(given.get("code", "")), ctx.clock.now()
    row = await store.lock_code(ctx.tx, digest)
    family = None if row is None else await store.lock_family(ctx.tx, row["family_id"])
    if row is None or family is None:
        raise Refusal("invalid_grant", _NOT_GOOD)
    code = Code(
        app_id=row["app_id"],
        redirect_uri=row["redirect_uri"],
        challenge=row["challenge"],
        expires_ms=to_ms(row["expires_at"]),
        used=row["used_at"] is not None,
        jkt=family["jkt"],
    )
    verdict = rules.judge_code(
        code,
        client.app_id,
        given.get("redirect_uri"),
        given.get("code_verifier", ""),
        jkt,
        ctx.clock.now_ms(),
    )
    await _unless_good(ctx, verdict, family, "replay")
    await store.use_code(ctx.tx, digest, now)
    if jkt is not None and family["jkt"] is None:
        await store.bind_family(ctx.tx, family["family_id"], jkt)
    return await _tokens(ctx, client, family, family["scopes"], jkt, row["nonce"])


async def _of_refresh(ctx: Context, client: Client, given: dict[str, str], jkt: str | None) -> dict[str, Any]:
    digest = rules.digest(given.get("refresh_token", ""))
    row = await store.lock_refresh(ctx.tx, digest)
    family = None if row is None else await store.lock_family(ctx.tx, row["family_id"])
    if row is None or family is None:
        raise Refusal("invalid_grant", _NOT_GOOD)
    token = Refresh(
        app_id=family["app_id"],
        expires_ms=to_ms(row["expires_at"]),
        rotated=row["rotated_at"] is not None,
        family_expires_ms=to_ms(family["expires_at"]),
        family_ended=family["ended_at"] is not None,
        jkt=family["jkt"],
    )
    proved = client.auth_method != "none" and not client.money_related
    verdict = rules.judge_refresh(token, client.app_id, jkt, ctx.clock.now_ms(), proved=proved)
    await _unless_good(ctx, verdict, family, "reuse")
    scopes = rules.fewer_scopes(given.get("scope"), frozenset(family["scopes"].split()))
    body = await _tokens(ctx, client, family, " ".join(scopes), jkt, None)
    await store.rotate(ctx.tx, digest, ctx.clock.now())
    return body


async def _unless_good(ctx: Context, verdict: Verdict, family: Record, why: str) -> None:
    ctx.audit(
        person_id=family["person_id"],
        enterprise_id=family["enterprise_id"],
        session_id=family["session_id"],
        after=verdict.value,
    )
    if verdict is Verdict.KILL:
        await end_family(ctx, family["family_id"], why)
    if verdict is not Verdict.ACCEPT:
        raise Refusal("invalid_grant", _NOT_GOOD)


async def end_family(ctx: Context, family_id: int, why: str) -> None:
    """Nothing that came of one code is good any more."""
    await store.end_family(ctx.tx, family_id, why, ctx.clock.now())
    oauth(ctx).end(ctx, ("family", family_id, 0))


# --- what is given ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Live:
    """What a family is worth at this moment."""

    scopes: frozenset[str]  # that the person could still give
    level: Level
    until: datetime | None  # the end of the installation


async def live(ctx: Context, client: Client, family: Record) -> Live:
    """Asked again at every exchange: grant, session, installation, membership, roles. Raises `Refusal`."""
    tx, now = ctx.tx, ctx.clock.now()
    enterprise_id, person_id = family["enterprise_id"], family["person_id"]
    if not await store.still_rests(tx, enterprise_id, family["family_id"], now):
        raise Refusal("invalid_grant", "the grant or the session has ended")
    installed = await apps.installation(tx, enterprise_id, client.app_id, now)
    if installed is None or not await people.lock_membership(tx, enterprise_id, person_id):
        raise Refusal("invalid_grant", "the app is not installed there any more, or the membership has ended")
    who = Principal(person_id, enterprise_id, frozenset(), 0, "", 0, family["acr"])
    grants = await ctx.runtime.access.grants_now(tx, who)
    held = held_scopes(grants, oauth(ctx).scopes)
    scopes = effective(family["scopes"].split(), client, apps.scopes_of(installed), held)
    if not scopes or grants.level is None or grants.level < Level.MEMBER:
        raise Refusal("invalid_grant", "nothing of what was granted is there any more")
    return Live(scopes, grants.level, installed["expires_at"])


async def _tokens(
    ctx: Context, client: Client, family: Record, asked: str, jkt: str | None, nonce: str | None
) -> dict[str, Any]:
    settings, have, now = ctx.runtime.settings, oauth(ctx), ctx.clock.now()
    rests_on = await live(ctx, client, family)
    scopes = rests_on.scopes & set(asked.split())
    if not scopes:
        raise Refusal("invalid_scope", "nothing of this is there any more")
    rests = Rests(
        app_id=client.app_id,
        enterprise_id=family["enterprise_id"],
        person_id=family["person_id"],
        session_id=family["session_id"],
        grant_id=family["grant_id"],
        family_id=family["family_id"],
        issued_ms=ctx.clock.now_ms(),
    )
    claims = identity_claims(have.subject_secret, client, family, rests_on.level)
    until_ms = min(to_ms(family["expires_at"]), to_ms(rests_on.until or family["expires_at"]))
    access, life_s = have.tokens.sign_access(rests, scopes, until_ms, claims, jkt)
    refresh = ctx.rng.token()
    refresh_until = min(family["expires_at"], now + timedelta(seconds=settings.oauth_refresh_s))
    await store.insert_refresh(
        ctx.tx, rules.digest(refresh), family["family_id"], now=now, expires_at=refresh_until
    )
    body: dict[str, Any] = {
        "access_token": access,
        "token_type": "Bearer" if jkt is None else "DPoP",
        "expires_in": life_s,
        "scope": " ".join(sorted(scopes)),
        "refresh_token": refresh,
        "ent": str(family["enterprise_id"]),
    }
    if OPENID in scopes:
        said = claims if nonce is None else claims | {"nonce": nonce}
        said = said | {"ent": str(family["enterprise_id"])}
        body["id_token"] = have.tokens.sign_identity(client.client_id, said, access)
    return body


def identity_claims(secret: bytes, client: Client, family: Record, level: Level) -> dict[str, Any]:
    """Who the person is to this app, and how the person logged in."""
    person_id = family["person_id"]
    how = {} if family["amr"] is None else {"amr": family["amr"].split()}
    return how | {
        "sub": subject(secret, client.sector, person_id),
        "ent_sub": subject(secret, client.sector, person_id, family["enterprise_id"]),
        "acr": str(family["acr"]),
        "auth_time": to_ms(family["authenticated_at"]) // 1000,
        "sid": session_name(secret, client, family["session_id"]),
        "cust": level.name.lower(),
    }


def session_name(secret: bytes, client: Client, session_id: int) -> str:
    """How a session is called towards this app."""
    return subject(secret, f"session {client.app_id}", session_id)


# --- apps for themselves ----------------------------------------------------------------------------------------------


async def _of_itself(ctx: Context, client: Client, given: dict[str, str], jkt: str | None) -> dict[str, Any]:
    have = oauth(ctx)
    if not client.machine:
        raise Refusal("unauthorized_client", "this client was not registered to act for itself")
    enterprise_id = rules.client_id_of(given.get("ent"))
    installed = await apps.installation(ctx.tx, enterprise_id, client.app_id, ctx.clock.now())
    if not enterprise_id or installed is None:
        raise Refusal("invalid_target", "ent names an enterprise that has installed the app")
    may = (client.scopes & apps.scopes_of(installed)) - IDENTITY_SCOPES.keys()
    asked = frozenset(given["scope"].split()) if "scope" in given else may
    scopes = asked & may
    if not scopes:
        raise Refusal("invalid_scope", "none of these scopes is for this client there")
    ctx.audit(enterprise_id=enterprise_id, after=sorted(scopes))
    # a family of its own, so that the token can be revoked; it is written down only then
    rests = Rests(client.app_id, enterprise_id, 0, 0, 0, ctx.ids.next(), ctx.clock.now_ms())
    expires_at = installed["expires_at"]
    until_ms = (1 << 60) if expires_at is None else to_ms(expires_at)
    access, life_s = have.tokens.sign_access(rests, scopes, until_ms, {"sub": client.client_id}, jkt)
    return {
        "access_token": access,
        "token_type": "Bearer" if jkt is None else "DPoP",
        "expires_in": life_s,
        "scope": " ".join(sorted(scopes)),
        "ent": str(enterprise_id),
    }
