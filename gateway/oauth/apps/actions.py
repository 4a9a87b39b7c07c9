"""Registering, installing and putting out apps; what a person has granted, and taking it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from core.access import decide
from core.actions import MEMBER, PERSON, Context, Rate, action
from core.clock import to_ms
from core.db import Record
from core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from gateway.api.apps import (
    APPS_MANAGE,
    APPS_REGISTER,
    App,
    AppGrant,
    AppSecret,
    BridgeVerdict,
    ChangeApp,
    CheckBridge,
    InstallApp,
    Installation,
    ListApps,
    ListGrants,
    ListInstallations,
    RegisterApp,
    RegisteredApp,
    RegisterOwnApp,
    RenewSecret,
    RevokeGrant,
    SuspendApp,
    UninstallApp,
)
from gateway.oauth import store as families
from gateway.oauth.apps import rules, store
from gateway.oauth.parts import oauth
from gateway.oauth.rules import digest
from gateway.parts import parts
from gateway.stepup import describe

_FEW = Rate(burst=20, per_s=0.2)  # nobody registers apps by the hundred


def shown(client: rules.Client, enterprise_id: int) -> App:
    """An app as this enterprise sees it."""
    own = client.enterprise_id == enterprise_id
    return App.model_validate(
        {
            "app_id": client.app_id,
            "client_id": client.client_id,
            "title": client.title,
            "auth_method": client.auth_method,
            "redirect_uris": list(client.redirect_uris) if own else [],
            "logout_uris": list(client.logout_uris) if own else [],
            "backchannel_uri": client.backchannel_uri if own else None,
            "scopes": sorted(client.scopes),
            "machine": client.machine,
            "money_related": client.money_related,
            "resource_server": client.resource_server,
            "published": client.published,
            "own": own,
            "suspended": not client.active,
        }
    )


# --- registering ------------------------------------------------------------------------------------------------------


@action(RegisterApp, needs=APPS_REGISTER, limit=_FEW)
async def register(ctx: Context, command: RegisterApp) -> RegisteredApp:
    """Register an app that every enterprise may install."""
    return await _register(ctx, command, published=True, resource_server=command.resource_server)


@action(RegisterOwnApp, needs=APPS_MANAGE, limit=_FEW)
async def register_own(ctx: Context, command: RegisterOwnApp) -> RegisteredApp:
    """Register an app for the own enterprise alone."""
    return await _register(ctx, command, published=False, resource_server=False)


async def _register(
    ctx: Context, command: RegisterApp | RegisterOwnApp, *, published: bool, resource_server: bool
) -> RegisteredApp:
    rules.check_title(command.title)
    rules.check_registration(
        auth_method=command.auth_method,
        redirect_uris=command.redirect_uris,
        logout_uris=command.logout_uris,
        machine=command.machine,
        money_related=command.money_related,
        jwks=command.jwks,
    )
    if resource_server and command.auth_method == "none":
        raise Invalid("who introspects must prove who it is")
    _check_addresses(ctx, (*command.redirect_uris, *command.logout_uris), command.backchannel_uri)
    app_id = ctx.ids.next()
    client = rules.Client(
        app_id=app_id,
        enterprise_id=ctx.enterprise_id,
        title=command.title,
        auth_method=command.auth_method,
        redirect_uris=tuple(command.redirect_uris),
        logout_uris=tuple(command.logout_uris),
        sector=rules.sector_of(ctx.enterprise_id, app_id, command.redirect_uris),
        scopes=rules.check_scopes(command.scopes, oauth(ctx).all_scopes),
        published=published,
        machine=command.machine,
        money_related=command.money_related,
        resource_server=resource_server,
        active=True,
        backchannel_uri=command.backchannel_uri,
    )
    secret = ctx.rng.token() if command.auth_method == "client_secret_basic" else None
    await store.insert(
        ctx.tx,
        client,
        secret_digest=None if secret is None else digest(secret),
        jwks=None if command.jwks is None else dict(rules.client_keys(command.jwks).as_dict(private=False)),
        now=ctx.clock.now(),
    )
    oauth(ctx).registered(ctx)
    ctx.audit(object=app_id, after=sorted(client.scopes))
    return RegisteredApp(app=shown(client, ctx.enterprise_id), client_secret=secret)


def _check_addresses(ctx: Context, pages: Sequence[str], backchannel: str | None) -> None:
    """Where people are sent, and where we tell. Raises `Invalid`."""
    if any(oauth(ctx).is_own(uri) for uri in pages):
        raise Invalid("this is an address of ours")
    why = None if backchannel is None else parts(ctx).webhooks.egress.refused(backchannel)
    if why is not None:
        raise Invalid(f"backchannel_uri: {why}")


async def _own_app(ctx: Context, app_id: int) -> rules.Client:
    """An app that the caller's enterprise registered. Raises `Forbidden` and `NotFound`."""
    if not any(decide(one, ctx.caller, ctx.grants).allowed for one in (APPS_MANAGE, APPS_REGISTER)):
        raise Forbidden
    client = await store.client(ctx.tx, app_id)
    if client is None or client.enterprise_id != ctx.enterprise_id:
        raise NotFound
    return client


def changing(command: ChangeApp) -> list[str]:
    """What one confirms: which app, and where people and keys lead from now on."""
    lines = ["修改应用的地址或密钥", f"应用编号：{command.app_id}"]
    if command.redirect_uris is not None:
        lines.append("回调地址：" + "、".join(command.redirect_uris))
    if command.logout_uris is not None:
        lines.append("退出后地址：" + ("、".join(command.logout_uris) or "无"))
    if command.backchannel_uri is not None:
        lines.append(f"退出通知地址：{command.backchannel_uri or '无'}")
    if command.jwks is not None:
        lines.append("更换应用公钥")
    return lines


@action(ChangeApp, needs=MEMBER, limit=_FEW, step_up="sign", describe=changing)
async def change(ctx: Context, command: ChangeApp) -> App:
    """Other addresses or keys for an app of the own enterprise; tokens end where one is taken away.

    Apps that see the same `sub` go on seeing it, wherever they move.
    """
    client = await _own_app(ctx, command.app_id)
    _, before = await store.credentials(ctx.tx, client.app_id)
    keys = before if command.jwks is None else dict(rules.client_keys(command.jwks).as_dict(private=False))
    changed = client
    if command.redirect_uris is not None:
        changed = replace(changed, redirect_uris=tuple(command.redirect_uris))
    if command.logout_uris is not None:
        changed = replace(changed, logout_uris=tuple(command.logout_uris))
    if command.backchannel_uri is not None:
        changed = replace(changed, backchannel_uri=command.backchannel_uri or None)
    rules.check_registration(
        auth_method=client.auth_method,
        redirect_uris=changed.redirect_uris,
        logout_uris=changed.logout_uris,
        machine=client.machine,
        money_related=client.money_related,
        jwks=keys,
    )
    _check_addresses(ctx, (*changed.redirect_uris, *changed.logout_uris), changed.backchannel_uri)
    await store.change(ctx.tx, changed, keys)
    if rules.takes_away(client, before, changed, keys):
        now = ctx.clock.now()
        await store.end_older(ctx.tx, client, now)
        await families.end_families(ctx.tx, client.app_id, "changed", now)
        oauth(ctx).end(ctx, ("app", client.app_id, 0))
    oauth(ctx).registered(ctx)
    ctx.audit(object=client.app_id, before=rules.told_of(client, before), after=rules.told_of(changed, keys))
    return shown(changed, ctx.enterprise_id)


@action(SuspendApp, needs=APPS_REGISTER)
async def suspend(ctx: Context, command: SuspendApp) -> App:
    """Stop an app everywhere at once, or let it go on: tokens it had stay refused."""
    client = await store.client(ctx.tx, command.app_id)
    if client is None:
        raise NotFound
    state = store.SUSPENDED if command.suspended else store.ACTIVE
    await store.set_state(ctx.tx, client.app_id, state, ctx.clock.now())
    oauth(ctx).registered(ctx)
    if command.suspended:
        oauth(ctx).end(ctx, ("app", client.app_id, 0))
    ctx.audit(object=client.app_id, before=client.active, after=not command.suspended)
    changed = await store.client(ctx.tx, client.app_id)
    assert changed is not None
    return shown(changed, ctx.enterprise_id)


@action(RenewSecret, needs=MEMBER, limit=_FEW)
async def renew_secret(ctx: Context, command: RenewSecret) -> AppSecret:
    """A new secret for an app of the own enterprise; the one before is not good any more."""
    client = await _own_app(ctx, command.app_id)
    if client.auth_method != "client_secret_basic":
        raise Conflict("this app has no secret")
    secret = ctx.rng.token()
    before, _ = await store.credentials(ctx.tx, client.app_id)
    await store.set_secret(ctx.tx, client.app_id, ctx.enterprise_id, digest(secret))
    ctx.audit(object=client.app_id, before=before, after=digest(secret))
    return AppSecret(client_secret=secret)


@action(ListApps, needs=APPS_MANAGE, audited=False)
async def list_apps(ctx: Context, command: ListApps) -> list[App]:
    """The apps one's enterprise may install, by id."""
    found = await store.installable(ctx.tx, ctx.enterprise_id, command.after, command.limit)
    return [shown(client, ctx.enterprise_id) for client in found]


# --- installing -------------------------------------------------------------------------------------------------------


@action(InstallApp, needs=APPS_MANAGE, step_up="sign", describe=describe.installing)
async def install(ctx: Context, command: InstallApp) -> Installation:
    """Let an app into the own enterprise with these scopes at most, or change them; risky ones only for a time."""
    client = await store.client(ctx.tx, command.app_id)
    if client is None or not client.is_for(ctx.enterprise_id):
        raise NotFound
    if not client.active:
        raise Conflict("the app has been stopped")
    now, have = ctx.clock.now(), oauth(ctx)
    scopes = rules.check_scopes(command.scopes, client.scopes)
    if command.days is None and rules.needs_end(scopes, have.scopes):
        raise Invalid("with these scopes an installation has an end: days=…")
    before = await store.installation(ctx.tx, ctx.enterprise_id, client.app_id, now)
    expires_at = None if command.days is None else now + timedelta(days=command.days)
    await store.install(
        ctx.tx,
        ctx.enterprise_id,
        client.app_id,
        scopes=scopes,
        by=ctx.caller.person_id,
        now=now,
        expires_at=expires_at,
    )
    if before is not None and not store.scopes_of(before) <= scopes:
        have.end(ctx, ("installation", client.app_id, ctx.enterprise_id))  # tokens with more are out
    ctx.audit(
        object=client.app_id,
        before=None if before is None else sorted(store.scopes_of(before)),
        after=sorted(scopes),
    )
    return Installation(
        app=shown(client, ctx.enterprise_id),
        scopes=sorted(scopes),
        installed_ms=to_ms(now),
        expires_ms=None if expires_at is None else to_ms(expires_at),
    )


@action(UninstallApp, needs=APPS_MANAGE)
async def uninstall(ctx: Context, command: UninstallApp) -> None:
    """Put an app out of the own enterprise: its tokens for it are refused at once."""
    before = await store.installation(ctx.tx, ctx.enterprise_id, command.app_id, ctx.clock.now())
    if not await store.uninstall(ctx.tx, ctx.enterprise_id, command.app_id, ctx.clock.now()):
        raise NotFound
    oauth(ctx).end(ctx, ("installation", command.app_id, ctx.enterprise_id))
    ctx.audit(object=command.app_id, before=None if before is None else sorted(store.scopes_of(before)))


@action(ListInstallations, needs=APPS_MANAGE, audited=False)
async def installations(ctx: Context, command: ListInstallations) -> list[Installation]:
    """The apps in the own enterprise."""
    found = []
    for row in await store.installations(ctx.tx, ctx.enterprise_id, ctx.clock.now()):
        client = await store.client(ctx.tx, row["app_id"])
        assert client is not None, "apps are never deleted"
        found.append(_installation(ctx, client, row))
    return found


def _installation(ctx: Context, client: rules.Client, row: Record) -> Installation:
    expires_at = row["expires_at"]
    return Installation(
        app=shown(client, ctx.enterprise_id),
        scopes=sorted(store.scopes_of(row)),
        installed_ms=to_ms(row["installed_at"]),
        expires_ms=None if expires_at is None else to_ms(expires_at),
    )


# --- what a person has granted ----------------------------------------------------------------------------------------


@action(ListGrants, needs=PERSON, audited=False)
async def list_grants(ctx: Context, command: ListGrants) -> list[AppGrant]:
    """What one has allowed which app, newest first, in all of one's enterprises."""
    return [
        AppGrant(
            grant_id=row["grant_id"],
            enterprise_id=row["enterprise_id"],
            enterprise=row["enterprise"],
            app_id=row["app_id"],
            app=row["title"],
            scopes=sorted(store.scopes_of(row)),
            granted_ms=to_ms(row["granted_at"]),
        )
        for row in await store.grants_of(ctx.tx, ctx.caller.person_id)
    ]


@action(RevokeGrant, needs=PERSON)
async def revoke_grant(ctx: Context, command: RevokeGrant) -> None:
    """Take back what one has allowed an app: all of its tokens of this grant are refused at once."""
    if not await store.revoke(ctx.tx, command.grant_id, ctx.caller.person_id, ctx.clock.now()):
        raise NotFound
    oauth(ctx).end(ctx, ("grant", command.grant_id, 0))
    ctx.audit(object=command.grant_id)


# --- the bridge -------------------------------------------------------------------------------------------------------


@action(CheckBridge, needs=MEMBER, audited=False)
async def check_bridge(ctx: Context, command: CheckBridge) -> BridgeVerdict:
    """Whether a micro app's page may have this API now: its token, its origin, this person, this enterprise."""
    who = ctx.caller
    try:
        bridge = oauth(ctx).tokens.read_bridge(command.bridge_token)
    except Unauthenticated as error:
        raise Forbidden("the bridge token is not valid") from error
    rests = bridge.rests
    if (rests.person_id, rests.enterprise_id) != (who.person_id, who.enterprise_id):
        raise Forbidden("the bridge token is not valid")
    if command.origin != bridge.origin or command.api not in bridge.apis:
        raise Forbidden("this page may not call this")
    client = await store.client(ctx.tx, rests.app_id)
    if client is None:
        raise Forbidden("the bridge token is not valid")
    return BridgeVerdict.model_validate({"app": client.title, "prompt": rules.BRIDGE_APIS[command.api][1]})
