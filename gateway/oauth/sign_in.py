"""Micro apps inside our own app: a code for somebody who is logged in there already."""

from __future__ import annotations

from core.actions import MEMBER, Context, action
from core.clock import to_ms
from core.errors import Conflict, Invalid, NotFound, Unauthenticated
from gateway.api.apps import AskedScope, SignedIn, SignIn
from gateway.oauth import rules, store
from gateway.oauth.apps import store as apps
from gateway.oauth.apps.rules import IDENTITY_SCOPES, Client
from gateway.oauth.authorize import (
    PUSHED,
    RATE,
    choice_in,
    hinted,
    is_expected,
    issue,
    pushed_request,
    use_pushed,
)
from gateway.oauth.parts import oauth
from gateway.oauth.rules import Refusal, Request, Standing, Step
from gateway.oauth.sealing import Interaction


@action(SignIn, needs=MEMBER, limit=RATE)
async def sign_in(ctx: Context, command: SignIn) -> SignedIn:
    """Where a micro app's page goes next: back to its address with a code, in the enterprise of the caller's token.

    The same rules as in a browser. A request that asks for another login is refused: that one belongs into a browser.
    """
    who, given = ctx.caller, command.parameters
    client = await apps.client(ctx.tx, rules.client_id_of(given.get("client_id")))
    if client is None or not client.active or not client.is_for(who.enterprise_id):
        raise NotFound
    session = await store.session(ctx.tx, who.session_id)
    if session is None or session["ended_at"] is not None or session["person_id"] != who.person_id:
        raise Unauthenticated
    there = {
        "session_id": who.session_id,
        "person_id": who.person_id,
        "acr": session["acr"],
        "amr": None,  # how a session of our own clients began is not written down
        "authenticated_at": session["created_at"],
    }
    try:
        request = await _request(ctx, client, given)
        choice = await choice_in(ctx, client, request, who.person_id, session["acr"], who.enterprise_id)
        standing = Standing(
            logged_in=True,
            authenticated_ms=to_ms(session["created_at"]),
            acr=session["acr"],
            expected=is_expected(ctx, client, request, who.person_id),
            choices=() if choice is None else (choice,),
            chosen=who.enterprise_id,
            agreed=frozenset(command.agreed),
        )
        step, choice = rules.next_step(request, standing, ctx.clock.now_ms())
        if step is Step.LOGIN:
            raise Conflict("the app asks for another login: open its request in a browser")
        if step is not Step.ISSUE or choice is None:
            return _asked(ctx, client, () if choice is None else choice.scopes)
        done = await issue(ctx, client, Interaction(ctx.rng.token()[:22], request), there, choice)
        if given.get("request_uri", "").startswith(PUSHED):
            await use_pushed(ctx, given["request_uri"])
    except Refusal as refusal:
        raise Invalid(refusal.description, detail={"error": refusal.error}) from None
    ctx.audit(object=client.app_id)
    return SignedIn(redirect=done.redirect, app=client.title, asked=[])


async def _request(ctx: Context, client: Client, given: dict[str, str]) -> Request:
    if given.get("request_uri", "").startswith(PUSHED):
        pushed = await pushed_request(ctx, client, given["request_uri"])
        if pushed is None:
            raise Refusal("invalid_request_uri", "the pushed request is not there any more")
        return pushed
    redirect_uri = rules.redirect_uri_of(client, given.get("redirect_uri"))
    return rules.authorization(client, redirect_uri, given, pushed=False, subject=hinted(ctx, client, given))


def _asked(ctx: Context, client: Client, scopes: frozenset[str] | tuple[str, ...]) -> SignedIn:
    table = oauth(ctx).scopes
    asked = [
        AskedScope(name=name, title=IDENTITY_SCOPES.get(name) or table[name].title) for name in sorted(scopes)
    ]
    return SignedIn(redirect=None, app=client.title, asked=asked)
