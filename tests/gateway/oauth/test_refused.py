"""Clients that do not prove who they are, and tokens that are none, leave a record at the provider."""

from __future__ import annotations

import pytest

from tests.gateway.oauth.conftest import SERVER, Kit
from tests.gateway.test_refused import since

pytestmark = pytest.mark.requirement("D04")


async def test_at_the_provider(kit: Kit) -> None:
    world = kit.world
    runtime = world.runtime
    app = await kit.register(SERVER)
    before = runtime.ids.next()
    code = {"grant_type": "authorization_code", "code": "x" * 43, "redirect_uri": "https://app.example/cb"}
    assert (await kit.post("/oauth/token", app, code)).json["error"] == "invalid_grant"
    app.secret = "not the secret"
    assert (await kit.post("/oauth/token", app, code)).json["error"] == "invalid_client"
    assert (await kit.post("/oauth/introspect", app, {"token": "x"})).json["error"] == "invalid_client"
    assert (await kit.post("/oauth/revoke", app, {"token": "x"})).json["error"] == "invalid_client"
    nobody = await kit.post("/oauth/token", None, code | {"client_id": "nobody"})
    assert nobody.json["error"] == "invalid_client"
    assert (await kit.userinfo("not a token")).status == 401
    found = await since(runtime, before)
    assert sorted((row["action"], row["outcome"]) for row in found) == [
        ("gateway.oauth.exchange", "invalid_client"),
        ("gateway.oauth.exchange", "invalid_grant"),
        ("gateway.oauth.introspect", "invalid_client"),
        ("gateway.oauth.revoke", "invalid_client"),
        ("gateway.oauth.token", "invalid_client"),
        ("gateway.oauth.userinfo", "invalid_token"),
    ]
    known = next(row for row in found if row["outcome"] == "invalid_grant")
    assert known["object_id"] == str(app.app_id), "a client that proved who it is is named"


async def test_a_flood_of_wrong_clients_does_not_fill_the_audit(kit: Kit) -> None:
    app = await kit.register(SERVER)
    app.secret = "not the secret"
    runtime = kit.world.runtime
    before = runtime.ids.next()
    fields = {"grant_type": "client_credentials"}
    answers = [(await kit.post("/oauth/token", app, fields)).status for _ in range(150)]
    assert set(answers) == {401}
    found = await since(runtime, before)
    assert len(found) <= 24
    assert sum(int(row["object_id"]) if str(row["object_id"]).startswith("+") else 1 for row in found) == 150
