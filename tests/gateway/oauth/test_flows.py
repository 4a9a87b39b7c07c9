"""The flows as they should go: what an app gets, and when it ends."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from core.access import permissions_of
from core.actions import Principal
from core.context import Source
from core.crypto.ring import TOKENS
from core.errors import BankhubError, NotFound, Unauthenticated
from gateway.api import EndMembership, ListGrants, RevokeGrant, RevokeSession, SuspendApp, UninstallApp
from house import compose
from tests.gateway.oauth.conftest import (
    SCOPES,
    SERVER,
    App,
    Browser,
    Kit,
    Verifier,
    dpop_proof,
    jwt_header,
    new_key,
)
from tests.gateway.sms import newest_code


@pytest.mark.parametrize("method", ["none", SERVER, "private_key_jwt"])
async def test_code_flow(kit: Kit, method: str) -> None:
    app = await kit.register(method)
    tokens = await kit.tokens(app)
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 600
    assert tokens["scope"] == "contacts:read openid profile"
    assert await kit.members(tokens["access_token"]) == 200
    again = await kit.refresh(app, tokens["refresh_token"])
    assert again.status == 200, again.text
    assert again.headers["Cache-Control"] == "no-store"
    assert again.json["refresh_token"] != tokens["refresh_token"]
    assert await kit.members(again.json["access_token"]) == 200


async def test_tokens_say_who_without_saying_who_elsewhere(kit: Kit) -> None:
    one = await kit.register(SERVER)
    two = await kit.register(SERVER, redirect_uris=["https://other.example/cb"])
    keys = KeySet.import_key_set(kit.world.tokens.jwks())  # type: ignore[arg-type]
    read = []
    for app in (one, two):
        tokens = await kit.tokens(app)
        access = jwt.decode(tokens["access_token"], keys, algorithms=["ES256"])
        identity = jwt.decode(tokens["id_token"], keys, algorithms=["ES256"])
        assert access.header["typ"] == "at+jwt"
        assert access.claims["aud"] == f"{kit.url}/v1"
        assert identity.claims["aud"] == access.claims["client_id"] == app.client_id
        assert identity.claims["nonce"] == "nonce-1"
        assert identity.claims["sub"] == access.claims["sub"]
        assert identity.claims["cust"] == "contracted"
        assert identity.claims["acr"] == "1"
        assert {"auth_time", "sid", "ent", "ent_sub", "amr", "at_hash"} <= set(identity.claims)
        person = kit.world.people["chenjing"]
        for claims in (access.claims, identity.claims):
            assert "own" not in claims or claims is access.claims
            assert str(person.person_id) not in str(claims)
            assert "13800000005" not in str(claims)
        read.append(identity.claims)
    for name in ("sub", "ent_sub", "sid"):
        assert read[0][name] != read[1][name], f"two apps could put {name} together"


async def test_userinfo_says_what_the_scopes_allow(kit: Kit) -> None:
    app = await kit.register()
    full, bare = await kit.tokens(app), await kit.tokens(app, scope="openid")
    said = await kit.userinfo(full["access_token"])
    assert said.json["name"] == "陈静"
    assert said.json["ent_name"] == "青山精密制造有限公司"
    assert said.json["sub"] == kit.claims(full["id_token"])["sub"]
    short = await kit.userinfo(bare["access_token"])
    assert "name" not in short.json
    assert "phone" not in said.text
    none = await kit.tokens(app, scope="contacts:read", nonce=None)
    assert "id_token" not in none
    refused = await kit.userinfo(none["access_token"])
    assert (refused.status, refused.json["error"]) == (403, "insufficient_scope")


# --- what an app may do ----------------------------------------------------------------------------------------------


ADMINISTERS = {
    "webhooks:manage"
}  # an integration sets up where it is told of events, with an administrator's leave


def test_no_scope_moves_money_or_administers() -> None:
    table = permissions_of(action.needs for action in compose.actions())
    scopes = [permission for permission in table.values() if permission.scope]
    assert scopes
    for permission in scopes:
        assert permission.risk <= 2, permission.name
        assert permission.realm == "enterprise", permission.name
        thing, verb = permission.name.split(":")
        assert verb not in {"pay", "transfer", "approve", "sign", "register"}, permission.name
        assert verb != "manage" or permission.name in ADMINISTERS, permission.name
        assert not {"transfer", "payment", "deposit"} & set(thing.split(".")), permission.name


async def test_an_app_calls_what_its_scopes_name_and_nothing_else(kit: Kit) -> None:
    app = await kit.register()
    tokens = await kit.tokens(app, who="wangfang", scope="openid profile")
    assert await kit.members(tokens["access_token"]) == 403
    wide = (await kit.tokens(app, who="wangfang"))["access_token"]
    assert await kit.members(wide) == 200
    for action in compose.actions():
        answer = await kit.world.client.call(action.name, token=wide)
        scope = getattr(action.needs, "scope", False) and getattr(action.needs, "name", "") in SCOPES
        if not scope and getattr(action.needs, "kind", "") != "public":
            assert answer.status in (403, 404), (action.name, answer.status)


async def test_scopes_are_the_intersection(kit: Kit) -> None:
    """asked ∩ approved for the app ∩ installed ∩ what the person may do."""
    app = await kit.register(scopes=["openid", "profile", "contacts:read"], install=False)
    await kit.install(app, ["openid", "profile"])
    tokens = await kit.tokens(app)
    assert tokens["scope"] == "openid profile"
    await kit.install(app, ["openid", "profile", "contacts:read"])
    assert (await kit.tokens(app, scope="openid contacts:read messages:send"))[
        "scope"
    ] == "contacts:read openid"


async def test_scopes_follow_the_roles_of_the_person(kit: Kit) -> None:
    asked = ["openid", "contacts:read", "webhooks:manage"]
    app = await kit.register(scopes=asked)
    assert (await kit.tokens(app, scope=" ".join(asked)))["scope"] == "contacts:read openid"
    kit.browser.cookies.clear()
    mine = await kit.tokens(app, who="wangfang", scope=" ".join(asked))
    assert mine["scope"] == "contacts:read openid webhooks:manage"


async def test_a_yes_is_to_what_was_shown(kit: Kit) -> None:
    """The administrator allows more while the person reads: the page is shown again, with all of it."""
    app = await kit.register(install=False)
    await kit.install(app, ["openid", "profile"])
    await kit.authorize(app, Verifier())
    page = await kit.log_in()
    assert "查看通讯录" not in page.text
    await kit.install(app, SCOPES)
    page = await kit.browser.answer("allow")
    assert "查看通讯录" in page.text
    assert "code" in (await kit.browser.answer("allow")).query


@pytest.mark.requirement("A05")
async def test_one_enterprise_at_a_time(kit: Kit) -> None:
    """Lina works for two. The app is in one; then in both, and she chooses."""
    app = await kit.register()
    first = await kit.tokens(app, who="lina")
    here = kit.world.people["lina"].enterprise_id
    assert first["ent"] == str(here)
    published = await kit.publish()
    for by in ("wangfang", "zhoutao"):
        await kit.install(published, SCOPES, by=by)
    proof = Verifier()
    page = await kit.authorize(published, proof)
    assert "云岭茶业有限公司" in page.text
    there = kit.world.people["zhoutao"].enterprise_id
    page = await kit.browser.answer("select", enterprise=str(there))
    assert "授权确认" in page.text
    done = await kit.browser.answer("allow")
    tokens = (await kit.exchange(published, done.query["code"], proof)).json
    assert tokens["ent"] == str(there)
    hinted = await kit.tokens(published, ent=str(here))
    assert hinted["ent"] == str(here)
    assert kit.claims(hinted["id_token"])["ent_sub"] != kit.claims(tokens["id_token"])["ent_sub"]
    for one, ent, name in ((tokens, there, "云岭茶业有限公司"), (hinted, here, "青山精密制造有限公司")):
        said = await kit.userinfo(one["access_token"])
        assert (said.json["ent"], said.json["ent_name"]) == (str(ent), name), (
            "of the enterprise it is for only"
        )
    nowhere = await kit.authorize(published, Verifier(), ent="12345")
    assert nowhere.query["error"] == "access_denied"


# --- what ends it ----------------------------------------------------------------------------------------------------


async def _ends(kit: Kit, app: App, tokens: dict[str, str]) -> None:
    assert await kit.members(tokens["access_token"]) == 401
    assert (await kit.userinfo(tokens["access_token"])).status == 401
    refused = await kit.refresh(app, tokens["refresh_token"])
    assert refused.json["error"] in ("invalid_grant", "invalid_client")


async def test_it_ends_with_the_grant(kit: Kit) -> None:
    app = await kit.register()
    tokens = await kit.tokens(app)
    calls, me = kit.world.runtime.calls, kit.world.people["chenjing"]
    who = Principal(me.person_id, me.enterprise_id, frozenset(me.roles), 1, "d", 1 << 50)
    mine = [one for one in await calls.call(ListGrants(), principal=who) if one.app_id == app.app_id]
    assert mine[0].scopes == sorted(SCOPES)
    with pytest.raises(NotFound):
        await calls.call(RevokeGrant(grant_id=mine[0].grant_id), principal=kit.administrator())
    await calls.call(RevokeGrant(grant_id=mine[0].grant_id), principal=who)
    await _ends(kit, app, tokens)
    page = await kit.authorize(app, Verifier())
    assert "授权确认" in page.text, "what was taken back is asked for again"


async def test_it_ends_with_the_installation(kit: Kit) -> None:
    app = await kit.register()
    tokens = await kit.tokens(app)
    calls = kit.world.runtime.calls
    with pytest.raises(BankhubError):
        await calls.call(UninstallApp(app_id=app.app_id), principal=kit.administrator("zhoutao"))
    assert await kit.members(tokens["access_token"]) == 200
    await calls.call(UninstallApp(app_id=app.app_id), principal=kit.administrator())
    await _ends(kit, app, tokens)
    assert (await kit.authorize(app, Verifier())).query["error"] == "access_denied"


async def test_it_ends_on_the_day_the_installation_ends(kit: Kit) -> None:
    app = await kit.register(install=False)
    await kit.install(app, SCOPES, days=1)
    kit.world.clock.advance(86_400_000 - 120_000)
    tokens = await kit.tokens(app)
    assert tokens["expires_in"] == 120
    kit.world.clock.advance(120_000)
    await _ends(kit, app, tokens)


async def test_it_ends_with_the_session(kit: Kit) -> None:
    app = await kit.register()
    tokens = await kit.tokens(app)
    me = kit.world.people["chenjing"]
    who = Principal(me.person_id, me.enterprise_id, frozenset(me.roles), 1, "d", 1 << 50)
    own = kit.world.gateway.oauth.tokens.verify(tokens["access_token"]).rests.session_id
    await kit.world.runtime.calls.call(RevokeSession(session_id=own), principal=who)
    await _ends(kit, app, tokens)
    page = await kit.authorize(app, Verifier())
    assert 'name="password"' in page.text, "the browser is logged out as well"


async def test_it_ends_with_the_membership(kit: Kit) -> None:
    app = await kit.register()
    tokens = await kit.tokens(app, who="zhaolei")
    leave = EndMembership(person_id=kit.world.people["zhaolei"].person_id)
    await kit.world.runtime.calls.call(leave, principal=kit.administrator())
    await _ends(kit, app, tokens)


async def test_it_ends_when_the_bank_stops_the_app(kit: Kit) -> None:
    app = await kit.register(SERVER)
    tokens = await kit.tokens(app)
    await kit.as_bank(SuspendApp(app_id=app.app_id))
    await _ends(kit, app, tokens)
    page = await kit.authorize(app, Verifier())
    assert page.status == 400


async def test_another_process_hears_of_it(kit: Kit) -> None:
    """What ended is told over the bus, and read from the database by whoever starts."""
    app = await kit.register()
    tokens = await kit.tokens(app)
    await kit.post("/oauth/revoke", app, {"token": tokens["refresh_token"]})
    assert await kit.members(tokens["access_token"]) == 401
    oauth = kit.world.gateway.oauth
    kit.world.tokens.revocations._ended.clear()
    assert await kit.members(tokens["access_token"]) == 200, "nothing is remembered any more"
    await kit.world.gateway.parts.catch_up()
    assert await kit.members(tokens["access_token"]) == 401
    assert oauth.tokens.is_ours(tokens["access_token"])


async def test_keys_are_rotated_without_anybody_noticing(kit: Kit) -> None:
    app = await kit.register()
    before = await kit.tokens(app)
    keyring = kit.world.tokens._ring
    keyring.rotate(TOKENS, at_once=True)
    after = await kit.tokens(app)
    kids = {one["kid"] for one in kit.world.tokens.jwks()["keys"]}
    used = {jwt_header(tokens["id_token"])["kid"] for tokens in (before, after)}
    assert len(used) == 2
    assert used <= kids
    assert await kit.members(before["access_token"]) == 200
    assert await kit.members(after["access_token"]) == 200
    assert kit.claims(before["id_token"])["sub"] == kit.claims(after["id_token"])["sub"]


# --- prompts ---------------------------------------------------------------------------------------------------------


async def test_prompt_none(kit: Kit) -> None:
    app = await kit.register()
    assert (await kit.authorize(app, Verifier(), prompt="none")).query["error"] == "login_required"
    await kit.authorize(app, Verifier())
    await kit.log_in()
    assert (await kit.authorize(app, Verifier(), prompt="none")).query["error"] == "consent_required"
    await kit.tokens(app)
    assert "code" in (await kit.authorize(app, Verifier(), prompt="none")).query


async def test_prompt_login_and_max_age(kit: Kit) -> None:
    app = await kit.register()
    await kit.tokens(app)
    assert (await kit.authorize(app, Verifier())).status == 303, "consent is remembered"
    for more in ({"prompt": "login"}, {"max_age": "10"}):
        kit.world.clock.advance(11_000)
        page = await kit.authorize(app, Verifier(), browser=None, **more)
        assert 'name="password"' in page.text
        assert (await kit.log_in()).status == 303
    assert (await kit.authorize(app, Verifier(), max_age="10")).status == 303


async def test_prompt_consent_and_select_account(kit: Kit) -> None:
    app = await kit.register()
    await kit.tokens(app)
    assert "授权确认" in (await kit.authorize(app, Verifier(), prompt="consent")).text
    page = await kit.authorize(app, Verifier(), prompt="select_account")
    assert "选择企业" in page.text
    other = await kit.browser.answer("other")
    assert 'name="password"' in other.text
    page = await kit.log_in("huangting")
    assert "黄婷" in page.text


async def test_acr_and_denial(kit: Kit) -> None:
    app = await kit.register()
    page = await kit.authorize(app, Verifier(), acr_values="2")
    assert 'name="password"' in page.text
    assert "两步验证" in (await kit.log_in()).text
    await kit.authorize(app, Verifier())
    denied = await kit.browser.answer("deny")
    assert denied.query["error"] == "access_denied"
    assert denied.query["state"] == "state-1"
    assert denied.query["iss"] == kit.url


@pytest.mark.requirement("S08")
async def test_a_browser_comes_in_while_many_guess(kit: Kit) -> None:
    """The page asks for the code that the right password has sent; a browser that was used before is not asked."""
    app, me = await kit.register(), kit.world.people["yangmin"]
    await kit.tokens(app, "yangmin")
    for n in range(kit.world.runtime.settings.login_account_burst + 2):
        with pytest.raises(Unauthenticated):
            await kit.world.runtime.calls.perform(
                "gateway.identity.login",
                {"login": "yangmin", "password": "wrong", "device": "d"},
                principal=None,
                source=Source(f"198.51.100.{n}", "http"),
            )
    await kit.authorize(app, Verifier(), prompt="login")
    assert "code" in (await kit.log_in("yangmin")).query, "this browser is known"
    fresh, proof = Browser(kit.world.client.session, kit.world.client.url), Verifier()
    await kit.authorize(app, proof, browser=fresh)
    page = await kit.log_in("yangmin", fresh)
    assert "验证码" in page.text
    assert "不正确" not in page.text
    code = await newest_code(kit.world, me.phone)
    done = await fresh.answer("factor", code=code)
    assert (await kit.exchange(app, done.query["code"], proof)).status == 200


async def test_the_login_in_a_browser_has_an_end(kit: Kit) -> None:
    app = await kit.register()
    await kit.tokens(app)
    settings = kit.world.runtime.settings
    kit.world.clock.advance(int(settings.oauth_browser_idle_s * 1000) + 1)
    assert 'name="password"' in (await kit.authorize(app, Verifier())).text


# --- servers ---------------------------------------------------------------------------------------------------------


async def test_a_server_acts_for_itself_in_one_enterprise(kit: Kit) -> None:
    app = await kit.register("private_key_jwt", machine=True)
    here = str(kit.world.people["wangfang"].enterprise_id)
    there = str(kit.world.people["zhoutao"].enterprise_id)
    asked = {"grant_type": "client_credentials", "ent": here}
    answer = await kit.post("/oauth/token", app, asked)
    assert answer.status == 200, answer.text
    assert answer.json["scope"] == "contacts:read"
    assert "refresh_token" not in answer.json
    token = answer.json["access_token"]
    assert await kit.members(token) == 200
    assert (await kit.userinfo(token)).status == 403
    elsewhere = await kit.post("/oauth/token", app, asked | {"ent": there})
    assert elsewhere.json["error"] == "invalid_target"
    wrong = await kit.post("/oauth/token", app, asked | {"scope": "messages:send"})
    assert wrong.json["error"] == "invalid_scope"
    await kit.post("/oauth/revoke", app, {"token": token})
    assert await kit.members(token) == 401
    again = (await kit.post("/oauth/token", app, asked)).json["access_token"]
    command = UninstallApp(app_id=app.app_id)
    await kit.world.runtime.calls.call(command, principal=kit.administrator())
    assert await kit.members(again) == 401
    person = await kit.register(SERVER)
    refused = await kit.post("/oauth/token", person, asked)
    assert refused.json["error"] == "unauthorized_client"


async def test_introspection_is_for_resource_servers(kit: Kit) -> None:
    app = await kit.register(SERVER)
    tokens = await kit.tokens(app)
    resource = await kit.publish(SERVER, resource_server=True)
    asked = {"token": tokens["access_token"]}
    answer = await kit.post("/oauth/introspect", resource, asked)
    assert answer.json["active"] is True
    assert answer.json["client_id"] == app.client_id
    assert "own" not in answer.json
    signing = await kit.publish("private_key_jwt", resource_server=True)
    for _ in range(2):
        assert (await kit.post("/oauth/introspect", signing, asked)).json["active"] is True
    assert (await kit.post("/oauth/introspect", app, asked)).status == 403
    assert (await kit.post("/oauth/introspect", None, asked | {"client_id": "1"})).status == 401
    for nothing in (tokens["refresh_token"], tokens["id_token"], "x"):
        answer = await kit.post("/oauth/introspect", resource, {"token": nothing})
        assert answer.json == {"active": False}
    await kit.post("/oauth/revoke", app, {"token": tokens["access_token"]})
    assert (await kit.post("/oauth/introspect", resource, asked)).json == {"active": False}


async def test_pushed_requests(kit: Kit) -> None:
    app = await kit.register("private_key_jwt")
    proof = Verifier()
    pushed = await kit.post("/oauth/par", app, kit.request(app, proof))
    assert pushed.status == 201
    assert pushed.json["expires_in"] == 90
    code = await kit.pushed_code(app, pushed.json["request_uri"])
    assert (await kit.exchange(app, code, proof)).status == 200
    bad = await kit.post("/oauth/par", app, kit.request(app, proof, response_type="token"))
    assert bad.json["error"] == "unsupported_response_type"
    other = kit.request(app, proof, redirect_uri="https://evil.example/cb")
    assert (await kit.post("/oauth/par", app, other)).status == 400


async def test_money_related_apps_push_and_bind(kit: Kit) -> None:
    app = await kit.register("private_key_jwt", money_related=True)
    proof, key = Verifier(), new_key()
    straight = await kit.authorize(app, proof)
    assert straight.query["error"] == "invalid_request"
    pushed = await kit.post("/oauth/par", app, kit.request(app, proof))
    code = await kit.pushed_code(app, pushed.json["request_uri"])
    unbound = await kit.exchange(app, code, proof)
    assert unbound.json["error"] == "invalid_dpop_proof"
    dpop = dpop_proof(kit, key, "POST", "/oauth/token")
    answer = await kit.exchange(app, code, proof, DPoP=dpop)
    assert answer.json["token_type"] == "DPoP", answer.text
    token = answer.json["access_token"]
    path = "/v1/gateway.identity.list_members"
    bound = dpop_proof(kit, key, "POST", path, token)
    call = kit.world.client.call
    assert await kit.members(token) == 401, "a bound token is no bearer token"
    used = {"Authorization": f"DPoP {token}", "DPoP": bound}
    assert (await call("gateway.identity.list_members", **used)).status == 200
    assert (await call("gateway.identity.list_members", **used)).status == 401, "a proof is good once"
    stolen = dpop_proof(kit, new_key(), "POST", path, token)
    used = {"Authorization": f"DPoP {token}", "DPoP": stolen}
    assert (await call("gateway.identity.list_members", **used)).status == 401
    said = await kit.userinfo(token, dpop=dpop_proof(kit, key, "GET", "/oauth/userinfo", token))
    assert said.json["name"] == "陈静"
    theft = dpop_proof(kit, new_key(), "POST", "/oauth/token")
    refused = await kit.refresh(app, answer.json["refresh_token"], DPoP=theft)
    assert refused.json["error"] == "invalid_grant"
    mine = dpop_proof(kit, key, "POST", "/oauth/token")
    assert (await kit.refresh(app, answer.json["refresh_token"], DPoP=mine)).status == 200


# --- leaving ---------------------------------------------------------------------------------------------------------


async def test_logout_with_a_hint_goes_straight_back(kit: Kit) -> None:
    app = await kit.register()
    tokens = await kit.tokens(app)
    query = {
        "id_token_hint": tokens["id_token"],
        "post_logout_redirect_uri": "https://app.example/bye",
        "state": "s",
    }
    answer = await kit.logout(query)
    assert answer.location == "https://app.example/bye?state=s"
    await _ends(kit, app, tokens)


async def test_logout_without_a_hint_asks(kit: Kit) -> None:
    app = await kit.register()
    tokens = await kit.tokens(app)
    page = await kit.logout({"client_id": app.client_id})
    assert "退出登录" in page.text
    assert await kit.members(tokens["access_token"]) == 200
    done = await kit.browser.post("/oauth/logout/page", {"page": kit.browser.page})
    assert "已退出登录" in done.text
    assert await kit.members(tokens["access_token"]) == 401


# --- micro apps inside our own app ------------------------------------------------------------------------------------


async def test_a_micro_app_signs_in_without_another_login(kit: Kit) -> None:
    app, proof = await kit.register(), Verifier()
    own = await kit.world.login("chenjing")
    call = kit.world.client.call
    asked = {"parameters": kit.request(app, proof)}
    first = await call("gateway.apps.sign_in", asked, token=own["access_token"])
    assert first.body["redirect"] is None
    assert {"name": "contacts:read", "title": "查看通讯录"} in first.body["asked"]
    half = await call("gateway.apps.sign_in", asked | {"agreed": ["openid"]}, token=own["access_token"])
    assert half.body["redirect"] is None
    done = await call("gateway.apps.sign_in", asked | {"agreed": SCOPES}, token=own["access_token"])
    answer = dict(parse_qsl(urlsplit(done.body["redirect"]).query))
    assert answer["iss"] == kit.url
    assert answer["state"] == "state-1"
    tokens = await kit.exchange(app, answer["code"], proof)
    assert await kit.members(tokens.json["access_token"]) == 200
    again = await call("gateway.apps.sign_in", asked, token=own["access_token"])
    assert again.body["redirect"], "consent is remembered"
    within = await call("gateway.apps.sign_in", asked, token=tokens.json["access_token"])
    assert within.status == 403, "an app does not sign others in"
    for wrong in ({"redirect_uri": "https://evil.example"}, {"code_challenge_method": "plain"}):
        refused = await call(
            "gateway.apps.sign_in",
            {"parameters": kit.request(app, proof) | wrong, "agreed": SCOPES},
            token=own["access_token"],
        )
        assert refused.status == 422
    browser = await call(
        "gateway.apps.sign_in",
        {"parameters": kit.request(app, proof, prompt="login"), "agreed": SCOPES},
        token=own["access_token"],
    )
    assert browser.status == 409
    there = await kit.world.login("wuxia")
    foreign = await call("gateway.apps.sign_in", asked | {"agreed": SCOPES}, token=there["access_token"])
    assert foreign.status == 404
    await call("gateway.identity.logout", token=own["access_token"])
    assert await kit.members(tokens.json["access_token"]) == 401, "it rests on that login"


async def test_a_pushed_request_survives_the_question(kit: Kit) -> None:
    app, proof = await kit.register(SERVER), Verifier()
    pushed = (await kit.post("/oauth/par", app, kit.request(app, proof))).json["request_uri"]
    own = await kit.world.login("chenjing")
    asked = {"parameters": {"client_id": app.client_id, "request_uri": pushed}}

    async def sign_in(**more: list[str]) -> Any:
        return await kit.world.client.call("gateway.apps.sign_in", asked | more, token=own["access_token"])

    assert (await sign_in()).body["asked"]
    assert (await sign_in(agreed=SCOPES)).body["redirect"]
    assert (await sign_in(agreed=SCOPES)).status == 422, "and is good once"


# --- the bridge of micro apps ----------------------------------------------------------------------------------------


async def test_the_bridge_is_bound_to_origin_person_and_apis(kit: Kit) -> None:
    app = await kit.register(SERVER)
    tokens = await kit.tokens(app)
    asked = {
        "access_token": tokens["access_token"],
        "origin": "https://app.example",
        "nonce": "page-nonce-1",
        "apis": "getContext choosePerson",
    }
    made = await kit.post("/oauth/bridge", app, asked)
    assert made.status == 201, made.text
    own = await kit.world.login("chenjing")
    colleague = await kit.world.login("huangting")
    fields = {
        "bridge_token": made.json["bridge_token"],
        "origin": "https://app.example",
        "api": "choosePerson",
    }

    async def check(token: str = own["access_token"], **more: str) -> int:
        answer = await kit.world.client.call("gateway.apps.check_bridge", fields | more, token=token)
        return answer.status

    assert await check() == 200
    assert await check(api="scanQR") == 403
    assert await check(origin="https://app.example.evil.example") == 403
    assert await check(token=colleague["access_token"]) == 403
    assert await check(bridge_token=tokens["access_token"]) == 403
    assert await kit.members(made.json["bridge_token"]) == 401, "it is no access token"
    for wrong in (
        {"origin": "https://evil.example"},
        {"apis": "createTransfer"},
        {"nonce": "x"},
        {"access_token": tokens["id_token"]},
    ):
        assert (await kit.post("/oauth/bridge", app, asked | wrong)).status in (400, 401), wrong
    bare = await kit.tokens(app, scope="openid")
    lacks = await kit.post("/oauth/bridge", app, asked | {"access_token": bare["access_token"]})
    assert lacks.json["error"] == "invalid_scope"
    public = await kit.register()
    assert (await kit.post("/oauth/bridge", public, asked)).status == 403
    other = await kit.register(SERVER)
    assert (await kit.post("/oauth/bridge", other, asked)).status == 401
    kit.world.clock.advance(600_000)
    assert await check(token=(await kit.world.login("chenjing"))["access_token"]) == 403
