"""The demonstration's app: installed in every enterprise of the demonstration, so that a developer can try at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.db import Transaction
from core.runtime import Runtime
from gateway.api import CONTACTS_READ
from gateway.demo import DemoPerson
from gateway.oauth.apps import store
from gateway.oauth.apps.rules import OPENID, PROFILE, Client, sector_of

TITLE: Final = "示例应用"
REDIRECT_URI: Final = "http://127.0.0.1:9009/callback"
SCOPES: Final = frozenset({OPENID, PROFILE, CONTACTS_READ.name})


async def seed_app(runtime: Runtime, people: Sequence[DemoPerson]) -> str:
    """Register the app (a public client, PKCE) for the bank and install it, unless it is there; its client_id."""
    return await runtime.db.run(_seed, runtime, people)


async def _seed(tx: Transaction, runtime: Runtime, people: Sequence[DemoPerson]) -> str:
    now = runtime.clock.now()
    bank = next(one for one in people if any(role.startswith("bank_") for role in one.roles))
    known = await store.installable(tx, bank.enterprise_id, 0, 200)
    found = next((one for one in known if one.title == TITLE), None)
    if found is not None:
        return found.client_id
    app_id = runtime.ids.next()
    client = Client(
        app_id=app_id,
        enterprise_id=bank.enterprise_id,
        title=TITLE,
        auth_method="none",
        redirect_uris=(REDIRECT_URI,),
        logout_uris=(),
        sector=sector_of(bank.enterprise_id, app_id, [REDIRECT_URI]),
        scopes=SCOPES,
        published=True,
        machine=False,
        money_related=False,
        resource_server=False,
        active=True,
    )
    await store.insert(tx, client, secret_digest=None, jwks=None, now=now)
    for enterprise_id in dict.fromkeys(one.enterprise_id for one in people):
        if enterprise_id != bank.enterprise_id:
            await store.install(tx, enterprise_id, app_id, scopes=SCOPES, by=0, now=now, expires_at=None)
    return client.client_id
