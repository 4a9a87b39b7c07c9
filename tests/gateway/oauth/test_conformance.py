"""Rules of the standards that clients of others rely on and that no library here asks for."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from gateway.oauth.metadata import PROVED_AT
from tests.gateway.oauth.conftest import SERVER, Kit, Verifier, dpop_proof, new_key

KEYS = "private_key_jwt"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


async def test_a_request_may_be_posted_by_a_page_of_the_app(kit: Kit) -> None:
    """OpenID Connect Core, 3.1.2.1: GET and POST; and the same for logout."""
    app, proof = await kit.register(), Verifier()
    fields = kit.request(app, proof)
    sent = await kit.browser.post("/oauth/authorize", fields, Origin="null")
    for origin in ("https://app.example", "null"):
        sent = await kit.browser.post("/oauth/authorize", fields, Origin=origin)
        assert sent.status == 303
        assert urlsplit(sent.location).path == "/oauth/authorize"
        assert "Access-Control-Allow-Origin" not in sent.headers
    page = await kit.browser.get(sent.location)
    assert 'name="password"' in page.text
    await kit.log_in()
    assert "code" in (await kit.browser.answer("allow")).query
    hint = {"client_id": app.client_id, "state": "x"}
    left = await kit.browser.post("/oauth/logout", hint, Origin="https://app.example")
    assert left.location == "/oauth/logout?client_id=" + app.client_id + "&state=x"
    assert (await kit.authorize(app, Verifier(), prompt="none")).status == 303, (
        "a POST by itself does nothing"
    )
    assert "退出登录" in (await kit.browser.get(left.location)).text
    foreign = await kit.browser.post("/oauth/logout/page", {"page": ""}, Origin="https://app.example")
    assert foreign.status == 403, "the answer to our own page is ours alone"
    assert (await kit.browser.post("/oauth/authorize", fields | {"state": "x" * 7000})).status == 400


async def test_a_request_may_say_whom_it_is_about(kit: Kit) -> None:
    """OpenID Connect Core, 3.1.2.1, id_token_hint: a code for this person or an error."""
    app, proof = await kit.register(), Verifier()
    other = await kit.register()
    mine = (await kit.tokens(app))["id_token"]
    assert "code" in (await kit.authorize(app, proof, id_token_hint=mine, prompt="none")).query
    foreign = await kit.authorize(other, proof, id_token_hint=mine, prompt="none")
    assert foreign.query["error"] == "invalid_request"
    forged = mine[:-4] + ("AAAA" if mine[-4:] != "AAAA" else "BBBB")
    assert (await kit.authorize(app, proof, id_token_hint=forged)).query["error"] == "invalid_request"
    kit.browser.cookies.clear()
    await kit.tokens(app, who="wangfang")
    silent = await kit.authorize(app, proof, id_token_hint=mine, prompt="none")
    assert silent.query["error"] == "login_required"
    page = await kit.authorize(app, proof, id_token_hint=mine)
    assert 'name="password"' in page.text, "another person is logged in"
    assert (await kit.log_in("wangfang")).query["error"] == "login_required"
    await kit.authorize(app, proof, id_token_hint=mine)
    assert "code" in (await kit.log_in("chenjing")).query


async def test_a_hint_that_is_none_is_no_reason_to_refuse(kit: Kit) -> None:
    app = await kit.register()
    for hint in ("x" * 200, "陈静", "a\nb", '"><script>'):
        page = await kit.authorize(app, Verifier(), login_hint=hint)
        assert page.status == 200, hint
        assert "<script>" not in page.text


async def test_assertions_are_for_us_at_any_of_our_endpoints(kit: Kit) -> None:
    """RFC 9126, 2: issuer, token endpoint and the endpoint itself do as audience; RFC 7523: others do not."""
    app = await kit.register(KEYS)
    now_s = kit.world.clock.now_ms() / 1000
    good = [kit.url, *(kit.url + path for path in PROVED_AT), [kit.url, "https://elsewhere.example"]]
    for audience in good:
        answer = await _push(
            kit, app.client_id, app.assertion("", now_s, aud=audience, exp=int(now_s) + 3600)
        )
        assert answer == 201, audience
    for bad in _others("https://elsewhere.example", kit.url + "/v1", 5, [{}], None, {"a": 1}):
        answer = await _push(kit, app.client_id, app.assertion("", now_s, aud=bad))
        assert answer == 401, bad
    late = app.assertion(kit.url, now_s, exp=int(now_s) + 3700)
    assert await _push(kit, app.client_id, late) == 401
    long = app.assertion(kit.url, now_s, exp=int(now_s) + 3600)
    assert await _push(kit, app.client_id, long) == 201
    kit.world.clock.advance(3_000_000)
    assert await _push(kit, app.client_id, long) == 401, "remembered for as long as it is good"


def _others(*audiences: Any) -> tuple[Any, ...]:
    return audiences


async def _push(kit: Kit, client_id: str, assertion: str) -> int:
    fields = {
        "client_assertion_type": ASSERTION,
        "client_assertion": assertion,
        "client_id": client_id,
        "response_type": "code",
        "redirect_uri": "https://app.example/cb",
        "scope": "openid",
        "nonce": "n-1",
        "code_challenge": Verifier().challenge,
        "code_challenge_method": "S256",
    }
    return (await kit.post("/oauth/par", None, fields)).status


async def test_a_client_with_two_keys_need_not_name_them(kit: Kit) -> None:
    """RFC 7515, 4.1.4: `kid` is a hint; a client that rotates its key has two."""
    old, new, strange = (ECKey.generate_key("P-256") for _ in range(3))
    public = [dict(key.as_dict(private=False)) for key in (old, new)]
    for one in public:
        one.pop("kid", None)
    app = await kit.register(KEYS, jwks={"keys": public})
    now_s = kit.world.clock.now_ms() / 1000
    for key, header, status in ((old, {}, 201), (new, {}, 201), (new, {"kid": "b"}, 201), (strange, {}, 401)):
        claims: dict[str, Any] = {"iss": app.client_id, "sub": app.client_id, "aud": kit.url}
        claims |= {"jti": secrets.token_hex(8), "exp": int(now_s) + 60}
        signed = jwt.encode({"alg": "ES256"} | header, claims, key)
        assert await _push(kit, app.client_id, signed) == status


async def test_a_client_that_proves_itself_may_change_its_dpop_key(kit: Kit) -> None:
    """RFC 9449, 5: refresh tokens of confidential clients are bound to the client, those of public ones to the key."""
    one, two = new_key(), new_key()
    for method, status in ((SERVER, 200), ("none", 400)):
        kit.browser.cookies.clear()
        app, proof = await kit.register(method), Verifier()
        code = await kit.code(app, proof)
        path = "/oauth/token"
        begun = await kit.exchange(app, code, proof, dpop_proof(kit, one, "POST", path))
        assert begun.json["token_type"] == "DPoP"
        token = begun.json["refresh_token"]
        assert (await kit.refresh(app, token)).status == 400, "never back to a bearer token"
        renewed = await kit.refresh(app, token, dpop_proof(kit, two, "POST", path))
        assert renewed.status == status
        if status == 200:
            access = renewed.json["access_token"]
            good = dpop_proof(kit, two, "GET", "/oauth/userinfo", access)
            assert (await kit.userinfo(access, good)).status == 200
            old = dpop_proof(kit, one, "GET", "/oauth/userinfo", access)
            assert (await kit.userinfo(access, old)).status == 401


async def test_every_refusal_at_a_clients_endpoint_is_one_that_clients_read(kit: Kit) -> None:
    """RFC 6749, 5.2: JSON with `error` as text, also for what is not about OAuth."""
    for path in PROVED_AT:
        for kind, body, status in (
            ("application/json", b"{}", 415),
            ("application/x-www-form-urlencoded", b"a" * 20_000, 413),
            ("application/x-www-form-urlencoded", b"%ff=%ff", 400),
        ):
            session = kit.world.client.session
            async with session.post(kit.url + path, data=body, headers={"Content-Type": kind}) as got:
                assert got.status == status, (path, kind)
                assert got.content_type == "application/json"
                assert (await got.json())["error"] == "invalid_request"
                assert got.headers["Cache-Control"] == "no-store"


async def test_userinfo_says_how_it_is_asked(kit: Kit) -> None:
    """RFC 6750, 3.1 and RFC 9449, 7.1."""
    session = kit.world.client.session
    async with session.get(kit.url + "/oauth/userinfo") as got:
        assert got.status == 401
        assert got.headers["WWW-Authenticate"] == 'Bearer realm="bankhub", DPoP algs="ES256"'
    async with session.get(kit.url + "/oauth/userinfo", headers={"Authorization": "DPoP x"}) as got:
        assert got.headers["WWW-Authenticate"] == 'DPoP realm="bankhub", error="invalid_token", algs="ES256"'


async def test_a_servers_token_may_be_given_back_twice(kit: Kit) -> None:
    app = await kit.register(SERVER, machine=True)
    ent = str(kit.world.people["chenjing"].enterprise_id)
    made = await kit.post("/oauth/token", app, {"grant_type": "client_credentials", "ent": ent})
    token = made.json["access_token"]
    assert (await kit.post("/oauth/revoke", app, {"token": token})).status == 200
    kit.world.tokens.revocations._ended.clear()  # another process, which has not heard of it yet
    assert (await kit.post("/oauth/revoke", app, {"token": token})).status == 200


class TestWithoutBearerSessions:
    """A bank that lets nobody log in without a device key: people still log in to apps on our pages."""

    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {"bearer_sessions": False}

    async def test_people_log_in_to_apps(self, kit: Kit) -> None:
        app = await kit.register()
        refused = await kit.world.client.login("chenjing", kit.world.people["chenjing"].password)
        assert refused.status == 403
        tokens = await kit.tokens(app)
        assert await kit.members(tokens["access_token"]) == 200


def test_the_query_of_a_posted_request_survives() -> None:
    """What a form says comes out of the query as it went in."""
    from gateway.oauth.rules import parameters

    fields = {"scope": "openid a:b", "state": "a&b=c ü", "nonce": "%2B+"}
    assert parameters(urlencode(fields)) == fields
