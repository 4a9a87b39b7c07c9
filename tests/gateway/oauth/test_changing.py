"""An app moves, or gets other keys: what was given where it was before ends."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc.jwk import ECKey

from core.db import Sql
from core.errors import BankhubError, Forbidden, Invalid, NotFound
from gateway.api import ChangeApp, SuspendApp
from gateway.oauth.apps import rules
from gateway.oauth.apps.actions import changing
from tests.gateway.oauth.conftest import CALLBACK, App, Kit, Verifier

NEW = "https://moved.example/cb"
_AUDIT = Sql(
    "SELECT * FROM core_audit WHERE object_id = $1 AND action = 'gateway.apps.change' ORDER BY audit_id",
    None,
    "tests",
)


async def change(kit: Kit, app: App, *, by: str = "wangfang", **fields: Any) -> Any:
    command = ChangeApp.model_validate({"app_id": app.app_id} | fields)
    return await kit.world.runtime.calls.call(command, principal=kit.administrator(by))


def public(*keys: ECKey) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


async def test_a_nonce_is_as_good_as_needed(kit: Kit) -> None:
    """OpenID Connect Core 3.1.2.1: optional for the code flow. What binds the code to who asked is PKCE."""
    app = await kit.register()
    tokens = await kit.tokens(app, nonce=None)
    assert "nonce" not in kit.claims(tokens["id_token"])
    assert kit.claims((await kit.tokens(app, nonce="n-2"))["id_token"])["nonce"] == "n-2"
    proof, other = Verifier(), Verifier()
    code = await kit.code(app, proof, nonce=None)
    stolen = await kit.exchange(app, code, other)
    assert (stolen.status, stolen.json["error"]) == (400, "invalid_grant")


async def test_an_app_moves_and_its_tokens_end_where_it_was(kit: Kit) -> None:
    app = await kit.register()
    before = await kit.tokens(app)
    subject = kit.claims(before["id_token"])["sub"]
    added = await change(kit, app, redirect_uris=[CALLBACK, NEW])
    assert added.redirect_uris == [CALLBACK, NEW]
    assert await kit.members(before["access_token"]) == 200, "nothing was taken away"

    moved = await change(kit, app, redirect_uris=[NEW], backchannel_uri="https://moved.example/bye")
    assert (moved.redirect_uris, moved.backchannel_uri) == ([NEW], "https://moved.example/bye")
    assert moved.logout_uris == ["https://app.example/bye"], "what was not given stays"
    assert await kit.members(before["access_token"]) == 401
    assert (await kit.refresh(app, before["refresh_token"])).json["error"] == "invalid_grant"
    assert (await kit.authorize(app, Verifier())).status == 400, "the address before leads nowhere"

    kit.world.clock.advance(10)
    there = App(app.client_id, app.auth_method, callback=NEW)
    after = await kit.tokens(there)
    assert await kit.members(after["access_token"]) == 200
    assert kit.claims(after["id_token"])["sub"] == subject, "to the app the person is who it was"
    assert (await change(kit, app, backchannel_uri="")).backchannel_uri is None


async def test_a_replaced_key_is_worth_nothing_and_what_it_got_ends(kit: Kit) -> None:
    app = await kit.register("private_key_jwt", money_related=False)
    old, new = app.key, ECKey.generate_key("P-256")
    assert old is not None
    before = await kit.tokens(app)
    await change(kit, app, jwks=public(old, new))
    assert await kit.members(before["access_token"]) == 200, "both are good while they turn"
    await change(kit, app, jwks=public(new))
    assert await kit.members(before["access_token"]) == 401
    refused = await kit.refresh(app, before["refresh_token"])
    assert refused.json["error"] == "invalid_client"
    app.key = new
    assert (await kit.refresh(app, before["refresh_token"])).json["error"] == "invalid_grant"
    kit.world.clock.advance(10)
    after = await kit.tokens(app)
    assert await kit.members(after["access_token"]) == 200

    # an edge that was away learns both from the database
    kit.world.tokens.revocations._ended.clear()
    assert await kit.members(before["access_token"]) == 200
    await kit.world.gateway.parts.catch_up()
    assert await kit.members(before["access_token"]) == 401
    assert await kit.members(after["access_token"]) == 200


async def test_an_app_that_goes_on_does_not_get_its_tokens_back(kit: Kit) -> None:
    app = await kit.register()
    before = await kit.tokens(app)
    for suspended in (True, False):
        await kit.as_bank(SuspendApp(app_id=app.app_id, suspended=suspended))
    kit.world.tokens.revocations._ended.clear()
    await kit.world.gateway.parts.catch_up()
    assert await kit.members(before["access_token"]) == 401


@pytest.mark.parametrize(
    "fields",
    [
        {"redirect_uris": []},
        {"redirect_uris": ["http://app.example/cb"]},
        {"redirect_uris": [NEW, NEW]},
        {"logout_uris": ["javascript:alert(1)"]},
        {"backchannel_uri": "https://169.254.169.254/x"},
        {"jwks": {"keys": []}},
        {"jwks": public(ECKey.generate_key("P-256"))},  # the app has no key to begin with
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_what_could_not_be_registered_cannot_be_changed_into(kit: Kit, fields: dict[str, Any]) -> None:
    app = await kit.register()
    before = await kit.tokens(app)
    with pytest.raises(Invalid):
        await change(kit, app, **fields)
    assert await kit.members(before["access_token"]) == 200
    assert (await kit.code(app, Verifier())) != ""


async def test_only_who_registered_it_and_only_when_confirmed(kit: Kit) -> None:
    app, published = await kit.register(), await kit.publish()
    with pytest.raises(NotFound):
        await change(kit, published, redirect_uris=[NEW])
    with pytest.raises(Forbidden):
        await change(kit, app, by="chenjing", redirect_uris=[NEW])
    with pytest.raises(BankhubError):
        await change(kit, app, by="zhoutao", redirect_uris=[NEW])
    moved = await kit.as_bank(ChangeApp(app_id=published.app_id, redirect_uris=[NEW]))
    assert moved.redirect_uris == [NEW]
    token = (await kit.world.login("wangfang"))["access_token"]
    fields = {"app_id": app.client_id, "redirect_uris": [NEW]}
    answer = await kit.world.client.call("gateway.apps.change", fields, token=token)
    assert answer.status == 403
    assert answer.body["errors"]["code"] == "step_up_required"


async def test_the_audit_tells_both_and_the_person_reads_what_is_confirmed(kit: Kit) -> None:
    app = await kit.register()
    await change(kit, app, redirect_uris=[NEW])
    await change(kit, app, redirect_uris=[CALLBACK])
    one, two = await kit.world.runtime.db.fetch(_AUDIT, app.client_id)
    assert one["object_id"] == app.client_id
    assert one["before_digest"] == two["after_digest"] != one["after_digest"] == two["before_digest"]
    command = ChangeApp(app_id=app.app_id, redirect_uris=[NEW], backchannel_uri="", jwks=public())
    assert changing(command) == [
        "修改应用的地址或密钥",
        f"应用编号：{app.app_id}",
        f"回调地址：{NEW}",
        "退出通知地址：无",
        "更换应用公钥",
    ]


def test_to_add_takes_nothing_away() -> None:
    one, two = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    client = rules.Client(
        1, 1, "x", "private_key_jwt", (CALLBACK,), (), "s", frozenset(), *(False,) * 4, True
    )
    moved = rules.Client(1, 1, "x", "private_key_jwt", (NEW,), (), "s", frozenset(), *(False,) * 4, True)
    assert not rules.takes_away(client, public(one), client, public(two, one))
    assert not rules.takes_away(client, None, client, None)
    assert rules.takes_away(client, public(one), client, public(two))
    assert rules.takes_away(client, public(one), moved, public(one))
