"""Logging out at the provider, when an app or the person asks for it (OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from core.actions import INTERNAL, Context, action
from core.db import Record
from core.errors import Unauthenticated
from gateway.oauth import rules, store
from gateway.oauth.apps import store as apps
from gateway.oauth.apps.rules import Client
from gateway.oauth.authorize import RATE, who_is_there
from gateway.oauth.commands import Leave, Shown
from gateway.oauth.exchange import session_name
from gateway.oauth.parts import oauth
from gateway.sessions.ending import end_session

_ADDRESS: Final = "应用给出的回跳地址与登记的不一致。"


@action(Leave, needs=INTERNAL, limit=RATE)
async def leave(ctx: Context, command: Leave) -> Shown:
    """End the session if the app proves that it is this one, or else once the person agrees; then back to the app."""
    given = command.parameters
    client, hinted = await _hint(ctx, given)
    back, title = given.get("post_logout_redirect_uri"), client.title if client else ""
    if back is not None and (client is None or back not in client.logout_uris):
        return Shown(kind="error", message=_ADDRESS, app=title)
    there = await who_is_there(ctx, command.cookie)
    if there is not None:
        proved = hinted is not None and client is not None and hinted == _name(ctx, client, there)
        if not (proved or command.agreed):
            return Shown(kind="leave", app=title, person=there["full_name"])
        await _end(ctx, there)
    if command.cookie is not None:
        await store.forget_browser(ctx.tx, rules.digest(command.cookie))
    if back is None:
        return Shown(kind="left", app=title, cookie="")
    state = given.get("state")
    if state is not None:
        back += ("&" if "?" in back else "?") + urlencode({"state": state})
    return Shown(kind="redirect", redirect=back, cookie="")


async def _hint(ctx: Context, given: dict[str, str]) -> tuple[Client | None, str | None]:
    """The client that asks, and the session that its ID token is about."""
    client_id, hinted = given.get("client_id"), None
    if "id_token_hint" in given:
        try:
            claims = oauth(ctx).tokens.read_hint(given["id_token_hint"])
        except Unauthenticated:
            return None, None
        if client_id is not None and client_id != claims["aud"]:
            return None, None
        client_id, hinted = claims["aud"], str(claims.get("sid", ""))
    return await apps.client(ctx.tx, rules.client_id_of(client_id)), hinted


def _name(ctx: Context, client: Client, there: Record) -> str:
    return session_name(oauth(ctx).subject_secret, client, there["session_id"])


async def _end(ctx: Context, there: Record) -> None:
    row = await store.session(ctx.tx, there["session_id"])
    assert row is not None, "who is there has a session"
    ctx.audit(person_id=row["person_id"], enterprise_id=row["enterprise_id"], session_id=there["session_id"])
    await end_session(
        ctx, there["session_id"], row["person_id"], row["enterprise_id"], row["device"], "logout"
    )
