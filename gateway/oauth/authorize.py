"""From an authorization request to a code: pushed requests, and a person who logs in, chooses and agrees."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Protocol

import orjson

from core.actions import INTERNAL, Context, Principal, action
from core.clock import to_ms
from core.db import Record
from core.errors import Unauthenticated
from gateway.identity import store as people
from gateway.oauth import rules, store
from gateway.oauth.apps import store as apps
from gateway.oauth.apps.rules import Client, effective, held_scopes, subject
from gateway.oauth.clients import authenticate
from gateway.oauth.commands import Offered, Open, Proceed, Push, Reply, Shown
from gateway.oauth.parts import oauth
from gateway.oauth.rules import Choice, Refusal, Request, Standing, Step
from gateway.oauth.sealing import Interaction, seal, unseal
from gateway.sessions.tries import OFFICE

PUSHED: Final = "urn:ietf:params:oauth:request_uri:"
RATE: Final = OFFICE
STALE: Final = "这个页面已经失效，请回到应用重新发起。"
_UNKNOWN: Final = "发起请求的应用未登记或已停用。"
_ADDRESS: Final = "应用给出的回跳地址与登记的不一致，为保护你的账号，已停止跳转。"


# --- pushed requests --------------------------------------------------------------------------------------------------


@action(Push, needs=INTERNAL, limit=RATE)
async def push(ctx: Context, command: Push) -> Reply:
    """Check and keep a client's request; what it gets instead is good once."""
    given = dict(command.parameters)
    try:
        client = await authenticate(ctx, command.proof)
        if "request_uri" in given:
            raise Refusal("invalid_request", "a pushed request names no other")
        redirect_uri = rules.redirect_uri_of(client, given.get("redirect_uri"))
        if command.jkt is not None and given.setdefault("dpop_jkt", command.jkt) != command.jkt:
            raise Refusal("invalid_dpop_proof", "the proof is of another key than dpop_jkt")
        request = rules.authorization(
            client, redirect_uri, given, pushed=True, subject=hinted(ctx, client, given)
        )
    except Refusal as refusal:
        return refused(ctx, refusal)
    token, life_s = ctx.rng.token(), ctx.runtime.settings.oauth_pushed_s
    until = ctx.clock.now() + timedelta(seconds=life_s)
    kept = orjson.dumps(request.plain()).decode()
    await store.push(ctx.tx, rules.digest(token), client.app_id, kept, until)
    return Reply(status=201, body={"request_uri": PUSHED + token, "expires_in": int(life_s)})


def hinted(ctx: Context, client: Client, given: dict[str, str]) -> str:
    """Whom the request must be about (OpenID Connect Core, 3.1.2.1): the `sub` of its hint. Raises `Refusal`."""
    hint = given.get("id_token_hint")
    if hint is None:
        return ""
    try:
        claims = oauth(ctx).tokens.read_hint(hint)
    except Unauthenticated:
        raise Refusal("invalid_request", "the id_token_hint is no ID token of ours") from None
    if claims["aud"] != client.client_id:
        raise Refusal("invalid_request", "the id_token_hint is of another client")
    return str(claims["sub"])


def is_expected(ctx: Context, client: Client, request: Request, person_id: int) -> bool:
    """Whether the request may be about this person."""
    return request.subject in ("", subject(oauth(ctx).subject_secret, client.sector, person_id))


def refused(ctx: Context, refusal: Refusal) -> Reply:
    """The refusal as JSON (RFC 6749, 5.2). An answer, so that what it ended is committed; the audit calls it one."""
    ctx.audit(outcome=refusal.error)
    body = {"error": refusal.error, "error_description": refusal.description}
    return Reply(status=refusal.status, body=body)


# --- a browser comes --------------------------------------------------------------------------------------------------


@action(Open, needs=INTERNAL, limit=RATE)
async def open_request(ctx: Context, command: Open) -> Shown:
    """The first page of a request, or straight back to the app with a code or an error."""
    given = command.parameters
    client = await apps.client(ctx.tx, rules.client_id_of(given.get("client_id")))
    if client is None or not client.active:
        return Shown(kind="error", message=_UNKNOWN)
    ctx.audit(object=client.app_id)
    if given.get("request_uri", "").startswith(PUSHED):
        pushed = await pushed_request(ctx, client, given["request_uri"])
        if pushed is None:
            return Shown(kind="error", message=STALE)
        request = pushed
        await use_pushed(ctx, given["request_uri"])
    else:
        try:
            redirect_uri = rules.redirect_uri_of(client, given.get("redirect_uri"))
        except Refusal:
            return Shown(kind="error", message=_ADDRESS, app=client.title)
        try:
            about = hinted(ctx, client, given)
            request = rules.authorization(client, redirect_uri, given, pushed=False, subject=about)
        except Refusal as refusal:
            state = given.get("state", "")
            return _back(ctx, redirect_uri, state if len(state) <= 512 else None, refusal)
    return await _go_on(ctx, client, Interaction(ctx.rng.token()[:22], request), command.cookie)


async def pushed_request(ctx: Context, client: Client, request_uri: str) -> Request | None:
    """The request that this client has pushed, if it is there still."""
    digest = rules.digest(request_uri.removeprefix(PUSHED))
    kept = await store.pushed(ctx.tx, digest, client.app_id, ctx.clock.now())
    return None if kept is None else rules.request_of(orjson.loads(kept))


async def use_pushed(ctx: Context, request_uri: str) -> None:
    """A pushed request is good once."""
    await store.use_pushed(ctx.tx, rules.digest(request_uri.removeprefix(PUSHED)))


def _back(ctx: Context, redirect_uri: str, state: str | None, refusal: Refusal) -> Shown:
    ctx.audit(outcome=refusal.error)
    uri = rules.answer_uri(
        redirect_uri,
        oauth(ctx).issuer,
        state or None,
        error=refusal.error,
        error_description=refusal.description,
    )
    return Shown(kind="redirect", redirect=uri)


# --- a person answers -------------------------------------------------------------------------------------------------


@action(Proceed, needs=INTERNAL, limit=RATE)
async def proceed(ctx: Context, command: Proceed) -> Shown:
    """The page after this answer, or back to the app."""
    have, cookie = oauth(ctx), command.cookie
    interaction = unseal(have.page_secret, command.sealed, cookie, ctx.clock.now_ms())
    client = None if interaction is None else await apps.client(ctx.tx, interaction.request.app_id)
    if interaction is None or client is None or not client.active:
        return Shown(kind="error", message=STALE)
    request = interaction.request
    agreed: frozenset[str] = frozenset()
    ctx.audit(object=client.app_id)
    if command.step == "deny":
        refusal = Refusal("access_denied", "the person does not agree")
        return _back(ctx, request.redirect_uri, request.state, refusal)
    if command.step == "login":
        cookie = await _logged_in(ctx, command)
        interaction = interaction.with_login(command.session_id)
    elif command.step == "half":
        interaction = replace(
            interaction,
            ticket=command.ticket.get_secret_value(),
            ticket_until_ms=command.ticket_until_ms,
            way=command.way,
            ways=command.ways,
        )
    elif command.step == "way":
        interaction = replace(interaction, way=command.way)
    elif command.step == "restart":
        interaction = interaction.without_ticket()
    elif command.step == "other":
        await store.forget_browser(ctx.tx, rules.digest(cookie))
        interaction = interaction.with_login(0)
    elif command.step == "select":
        interaction = replace(interaction, chosen=command.enterprise_id, shown=())
    elif command.step == "allow":
        agreed = frozenset(interaction.shown)  # to what the page said, whatever has changed since
    shown = await _go_on(ctx, client, interaction, cookie, agreed=agreed)
    return shown if cookie == command.cookie else shown.model_copy(update={"cookie": cookie})


async def _logged_in(ctx: Context, command: Proceed) -> str:
    """A new cookie for whoever has just logged in: the one from before may be known to somebody else."""
    row = await store.session(ctx.tx, command.session_id)
    assert row is not None, "the session has just begun"
    cookie = ctx.rng.token()
    await store.forget_browser(ctx.tx, rules.digest(command.cookie))
    await store.insert_browser(
        ctx.tx,
        rules.digest(cookie),
        session_id=command.session_id,
        person_id=row["person_id"],
        acr=command.acr,
        amr=command.amr,
        now=ctx.clock.now(),
    )
    ctx.audit(person_id=row["person_id"], session_id=command.session_id)
    return cookie


async def who_is_there(ctx: Context, cookie: str | None) -> Record | None:
    """Who is logged in in this browser: `store.browser`."""
    if cookie is None:
        return None
    settings = ctx.runtime.settings
    return await store.browser(
        ctx.tx,
        rules.digest(cookie),
        now=ctx.clock.now(),
        idle=timedelta(seconds=settings.oauth_browser_idle_s),
        absolute=timedelta(seconds=settings.oauth_browser_s),
    )


async def _go_on(
    ctx: Context,
    client: Client,
    interaction: Interaction,
    cookie: str | None,
    *,
    agreed: frozenset[str] = frozenset(),
) -> Shown:
    request, now_ms = interaction.request, ctx.clock.now_ms()
    there = await who_is_there(ctx, cookie)
    standing = Standing(logged_in=False)
    if there is not None and cookie is not None:
        await store.use_browser(ctx.tx, rules.digest(cookie), ctx.clock.now())
        standing = Standing(
            logged_in=True,
            fresh=interaction.fresh == there["session_id"],
            authenticated_ms=to_ms(there["authenticated_at"]),
            acr=there["acr"],
            expected=is_expected(ctx, client, request, there["person_id"]),
            choices=await _choices(ctx, client, request, there["person_id"], there["acr"]),
            chosen=interaction.chosen,
            agreed=agreed,
        )
    try:
        step, choice = rules.next_step(request, standing, now_ms)
        if step is Step.ISSUE and choice is not None and there is not None:
            return await issue(ctx, client, interaction, there, choice)
    except Refusal as refusal:
        return _back(ctx, request.redirect_uri, request.state, refusal)
    if choice is not None:
        interaction = replace(interaction, chosen=choice.enterprise_id, shown=tuple(sorted(choice.scopes)))
    waits = step is Step.LOGIN and bool(interaction.ticket)
    new_cookie = None if cookie is not None else ctx.rng.token()
    until_ms = now_ms + int(ctx.runtime.settings.oauth_interaction_s * 1000)
    return Shown.model_validate(
        {
            "kind": "factor" if waits else step.value,
            "app": client.title,
            "redirect": request.redirect_uri,
            "sealed": seal(oauth(ctx).page_secret, interaction, cookie or new_cookie or "", until_ms),
            "person": "" if there is None else there["full_name"],
            "enterprise": None if choice is None else _offered(choice),
            "offered": [_offered(one) for one in standing.choices],
            "scopes": [] if choice is None else sorted(choice.scopes),
            "login_hint": request.login_hint,
            "way": interaction.way if waits else "",
            "ways": interaction.ways if waits else (),
            "cookie": new_cookie,
        }
    )


def _offered(choice: Choice) -> Offered:
    return Offered(enterprise_id=choice.enterprise_id, name=choice.name)


async def _choices(
    ctx: Context, client: Client, request: Request, person_id: int, acr: int
) -> tuple[Choice, ...]:
    """The enterprises of the person that have installed the app, and what it would get in each."""
    found = []
    for enterprise_id, name, _ in await people.enterprises_of(ctx.tx, person_id):
        choice = await choice_in(ctx, client, request, person_id, acr, enterprise_id, name)
        if choice is not None:
            found.append(choice)
    return tuple(found)


async def choice_in(
    ctx: Context,
    client: Client,
    request: Request,
    person_id: int,
    acr: int,
    enterprise_id: int,
    name: str = "",
) -> Choice | None:
    """What the app would get of this person in this enterprise; None where it is not installed."""
    installed = await apps.installation(ctx.tx, enterprise_id, client.app_id, ctx.clock.now())
    if installed is None:
        return None
    who = Principal(person_id, enterprise_id, frozenset(), 0, "", 0, acr)
    grants = await ctx.runtime.access.grants_now(ctx.tx, who)
    held = held_scopes(grants, oauth(ctx).scopes)
    scopes = effective(request.scopes, client, apps.scopes_of(installed), held)
    _, granted = await apps.grant(ctx.tx, enterprise_id, person_id, client.app_id)
    return Choice(enterprise_id, name, scopes, granted)


# --- the code ---------------------------------------------------------------------------------------------------------


class Present(Protocol):
    """Who is logged in: session_id, person_id, acr, amr, authenticated_at."""

    def __getitem__(self, name: str, /) -> Any: ...


async def issue(
    ctx: Context, client: Client, interaction: Interaction, there: Present, choice: Choice
) -> Shown:
    """Remember what was granted; the way back to the app, with a code. Raises `Refusal`."""
    tx, now, request, settings = ctx.tx, ctx.clock.now(), interaction.request, ctx.runtime.settings
    person_id, enterprise_id = there["person_id"], choice.enterprise_id
    if not await people.lock_membership(tx, enterprise_id, person_id):
        raise Refusal("access_denied", "the membership has ended")
    forgotten = now + timedelta(seconds=settings.oauth_interaction_s)
    if not await store.first_time(tx, rules.digest(f"interaction {interaction.key}"), forgotten):
        return Shown(kind="error", message=STALE, app=client.title)
    grant_id, granted = await apps.grant(tx, enterprise_id, person_id, client.app_id)
    if not grant_id:
        grant_id = ctx.ids.next()
        await apps.insert_grant(
            tx,
            grant_id,
            enterprise_id=enterprise_id,
            person_id=person_id,
            app_id=client.app_id,
            scopes=choice.scopes,
            now=now,
        )
    elif not choice.scopes <= granted:
        await apps.widen(tx, grant_id, enterprise_id, granted | choice.scopes)
    family_id, code = ctx.ids.next(), ctx.rng.token()
    await store.insert_family(
        tx,
        family_id,
        enterprise_id=enterprise_id,
        person_id=person_id,
        app_id=client.app_id,
        grant_id=grant_id,
        session_id=there["session_id"],
        scopes=choice.scopes,
        acr=there["acr"],
        amr=there["amr"],
        authenticated_at=there["authenticated_at"],
        jkt=request.jkt,
        now=now,
        expires_at=now + timedelta(seconds=settings.oauth_family_s),
    )
    await store.insert_code(
        tx,
        rules.digest(code),
        family_id,
        app_id=client.app_id,
        redirect_uri=request.redirect_uri,
        challenge=request.challenge,
        nonce=request.nonce,
        expires_at=now + timedelta(seconds=settings.oauth_code_s),
    )
    ctx.audit(
        person_id=person_id,
        enterprise_id=enterprise_id,
        session_id=there["session_id"],
        after=sorted(choice.scopes),
    )
    uri = rules.answer_uri(request.redirect_uri, oauth(ctx).issuer, request.state, code=code)
    return Shown(kind="redirect", redirect=uri)
