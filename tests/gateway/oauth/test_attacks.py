"""What attackers of authorization servers do (RFC 9700, RFC 6819), tried on ours."""

from __future__ import annotations

import asyncio
from base64 import b64encode, urlsafe_b64encode
from statistics import median
from time import perf_counter
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from core.actions import Command
from core.bus import MemoryBus
from core.errors import BankhubError
from core.tokens import AccessTokens
from gateway.api import InstallApp, ListApps, ListInstallations, RenewSecret, SuspendApp, UninstallApp
from gateway.people import ActivePeople
from gateway.service import GatewayService
from im.service import ImService
from tests.gateway.oauth.conftest import CALLBACK, SCOPES, SERVER, Kit, Verifier
from tests.gateway.oauth.test_rules import VARIANTS
from tests.world import process

# --- addresses -------------------------------------------------------------------------------------------------------


async def test_no_browser_is_sent_to_an_address_that_is_not_registered(kit: Kit) -> None:
    app = await kit.register()
    for uri in VARIANTS:
        for encoded in (uri, quote(uri or "", safe="")):
            answer = await kit.authorize(app, Verifier(), redirect_uri=encoded)
            assert answer.status == 400, uri
            assert "Location" not in answer.headers
            assert "无法继续" in answer.text
    twice = urlencode([*kit.request(app, Verifier()).items(), ("redirect_uri", "https://evil.example")])
    answer = await kit.browser.get(f"/oauth/authorize?{twice}")
    assert (answer.status, "Location" in answer.headers) == (400, False)


async def test_an_unknown_client_is_sent_nowhere(kit: Kit) -> None:
    app = await kit.register()
    for client_id in ("1", "0", "-1", "x", "9" * 30, app.client_id + "0", "' OR 1=1"):
        answer = await kit.authorize(app, Verifier(), client_id=client_id)
        assert (answer.status, "Location" in answer.headers) == (400, False)


async def test_logout_goes_only_to_registered_addresses(kit: Kit) -> None:
    app, other = await kit.register(), await kit.register(logout_uris=["https://other.example/bye"])
    tokens = await kit.tokens(app)
    for query in (
        {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": "https://evil.example"},
        {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": "https://other.example/bye"},
        {"post_logout_redirect_uri": "https://app.example/bye"},
        {
            "client_id": other.client_id,
            "id_token_hint": tokens["id_token"],
            "post_logout_redirect_uri": "https://other.example/bye",
        },
        {"id_token_hint": tokens["access_token"], "post_logout_redirect_uri": "https://app.example/bye"},
    ):
        answer = await kit.logout(query)
        assert (answer.status, "Location" in answer.headers) == (400, False), query
    assert await kit.members(tokens["access_token"]) == 200


# --- codes -----------------------------------------------------------------------------------------------------------


async def test_a_code_is_for_one_client_one_verifier_one_address_one_minute(kit: Kit) -> None:
    app, thief = await kit.register(SERVER), await kit.register(SERVER)
    proof = Verifier()
    code = await kit.code(app, proof)
    for wrong in (
        await kit.exchange(thief, code, proof),
        await kit.exchange(thief, code, Verifier()),
        await kit.exchange(app, code, Verifier()),
        await kit.exchange(app, code, proof, redirect_uri="https://app.example/cb/"),
        await kit.exchange(app, code, proof, code_verifier=proof.challenge),
    ):
        assert wrong.json["error"] == "invalid_grant"
    assert (await kit.exchange(app, code, proof)).status == 200, "what others tried did not take it away"
    late = await kit.code(app, proof)
    kit.world.clock.advance(60_000)
    assert (await kit.exchange(app, late, proof)).json["error"] == "invalid_grant"


async def test_a_code_that_is_injected_into_another_session_is_worthless(kit: Kit) -> None:
    """The attacker's own code, delivered to the victim's client: that client's verifier is another."""
    app = await kit.register()
    stolen = await kit.code(app, Verifier())
    victims = Verifier()
    assert (await kit.exchange(app, stolen, victims)).json["error"] == "invalid_grant"


async def test_code_replay_kills_what_came_of_it(kit: Kit) -> None:
    app, proof = await kit.register(), Verifier()
    code = await kit.code(app, proof)
    tokens = (await kit.exchange(app, code, proof)).json
    assert await kit.members(tokens["access_token"]) == 200
    assert (await kit.exchange(app, code, proof)).json["error"] == "invalid_grant"
    assert await kit.members(tokens["access_token"]) == 401
    assert (await kit.refresh(app, tokens["refresh_token"])).json["error"] == "invalid_grant"


async def test_of_many_who_have_a_code_at_once_nobody_keeps_anything(kit: Kit) -> None:
    app, proof = await kit.register(), Verifier()
    code = await kit.code(app, proof)
    answers = await asyncio.gather(*(kit.exchange(app, code, proof) for _ in range(8)))
    good = [one for one in answers if one.status == 200]
    assert len(good) == 1
    assert await kit.members(good[0].json["access_token"]) == 401


@pytest.mark.requirement("S02")
async def test_a_stolen_refresh_token_ends_the_family(kit: Kit) -> None:
    app = await kit.register()
    first = await kit.tokens(app)
    thief = (await kit.refresh(app, first["refresh_token"])).json
    owner = await kit.refresh(app, first["refresh_token"])
    assert owner.json["error"] == "invalid_grant"
    assert (await kit.refresh(app, thief["refresh_token"])).json["error"] == "invalid_grant"
    for token in (first, thief):
        assert await kit.members(token["access_token"]) == 401


async def test_a_refresh_token_is_its_clients(kit: Kit) -> None:
    app, thief = await kit.register(SERVER), await kit.register(SERVER)
    tokens = await kit.tokens(app)
    assert (await kit.refresh(thief, tokens["refresh_token"])).json["error"] == "invalid_grant"
    await kit.post("/oauth/revoke", thief, {"token": tokens["refresh_token"]})
    await kit.post("/oauth/revoke", thief, {"token": tokens["access_token"]})
    assert await kit.members(tokens["access_token"]) == 200
    wider = await kit.refresh(app, tokens["refresh_token"], scope="openid messages:send")
    assert wider.json["error"] == "invalid_scope"
    fewer = await kit.refresh(app, tokens["refresh_token"], scope="openid")
    assert fewer.json["scope"] == "openid"


@pytest.mark.requirement("S01")
async def test_no_secret_is_stored(kit: Kit) -> None:
    """A dump of the tables holds nothing that could be used."""
    import asyncpg

    app, proof = await kit.register(SERVER), Verifier()
    code = await kit.code(app, proof)
    tokens = (await kit.exchange(app, code, proof)).json
    pushed = (await kit.post("/oauth/par", app, kit.request(app, proof))).json["request_uri"]
    secrets = [app.secret, code, tokens["refresh_token"], tokens["access_token"], pushed.rpartition(":")[2]]
    secrets += kit.browser.cookies.values()
    url = kit.world.runtime.settings.database_url
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value(), ssl=False)
    try:
        tables = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        for (table,) in tables:
            for (row,) in await connection.fetch(f"SELECT t::text FROM {table} t"):
                for secret in secrets:
                    assert secret not in row, table
                    assert str(secret).encode().hex() not in row, table
    finally:
        await connection.close()


# --- clients ---------------------------------------------------------------------------------------------------------


async def test_clients_that_do_not_prove_who_they_are(kit: Kit) -> None:
    public, secret, signed = (
        await kit.register(),
        await kit.register(SERVER),
        await kit.register("private_key_jwt"),
    )
    proof = Verifier()
    code = await kit.code(secret, proof)
    fields = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": proof.verifier,
    }

    def basic(name: str, word: str) -> dict[str, str]:
        return {"Authorization": "Basic " + b64encode(f"{name}:{word}".encode()).decode()}

    now_s = kit.world.clock.now_ms() / 1000
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    other = ECKey.generate_key("P-256")
    claims = jwt.decode(signed.assertion(kit.url, now_s), signed.key).claims  # type: ignore[arg-type]
    unsigned = ".".join(
        urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=").decode() for part in ({"alg": "none"}, claims)
    )
    public_word = OctKey.import_key(orjson.dumps(signed.key.as_dict(private=False)))  # type: ignore[union-attr]
    attempts: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, basic(secret.client_id, "wrong")),
        ({}, basic(secret.client_id, "")),
        ({}, basic("1", secret.secret or "")),
        ({}, basic(public.client_id, "")),
        ({}, {"Authorization": "Basic !!!"}),
        ({}, {"Authorization": f"Bearer {secret.secret}"}),
        ({"client_id": secret.client_id}, {}),
        ({"client_id": signed.client_id}, {}),
        ({"client_id": secret.client_id, "client_secret": secret.secret or ""}, {}),
        ({"client_id": public.client_id}, basic(secret.client_id, secret.secret or "")),
        ({}, {}),
        ({"client_id": "x" * 5000}, {}),
        ({"client_assertion_type": kind, "client_assertion": unsigned + "."}, {}),
        ({"client_assertion_type": kind, "client_assertion": "x.y.z"}, {}),
        ({"client_assertion_type": "saml", "client_assertion": signed.assertion(kit.url, now_s)}, {}),
        *(
            ({"client_assertion_type": kind, "client_assertion": assertion}, {})
            for assertion in (
                jwt.encode({"alg": "ES256"}, claims, other),
                jwt.encode({"alg": "HS256"}, claims, public_word),
                signed.assertion("https://evil.example", now_s),
                signed.assertion(kit.url, now_s - 600),
                signed.assertion(kit.url, now_s, exp=int(now_s) + 3700),
                signed.assertion(kit.url, now_s, sub=secret.client_id),
                signed.assertion(kit.url, now_s, iss=secret.client_id, sub=secret.client_id),
            )
        ),
    ]
    for more, headers in attempts:
        answer = await kit.post("/oauth/token", None, fields | more, **headers)
        assert answer.status in (400, 401), (more, headers)
        assert answer.json["error"] in ("invalid_client", "invalid_request"), (more, headers)
    assert (await kit.exchange(secret, code, proof)).status == 200


async def test_an_assertion_is_good_once(kit: Kit) -> None:
    app = await kit.register("private_key_jwt", machine=True)
    fields = {
        "grant_type": "client_credentials",
        "ent": str(kit.world.people["wangfang"].enterprise_id),
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": app.assertion(kit.url, kit.world.clock.now_ms() / 1000),
    }
    assert (await kit.post("/oauth/token", None, fields)).status == 200
    assert (await kit.post("/oauth/token", None, fields)).json["error"] == "invalid_client"


async def test_comparing_a_secret_takes_no_telling_time(kit: Kit) -> None:
    """Unknown client, wrong secret of equal length, secret that is right but for its end: the same work."""
    app = await kit.register(SERVER)
    assert app.secret is not None
    nearly = app.secret[:-1] + ("A" if app.secret[-1] != "A" else "B")
    cases = [(app.client_id, "A" * 43), (app.client_id, nearly), ("4611686018427387904", "A" * 43)]
    took: list[list[float]] = [[] for _ in cases]
    for _ in range(25):
        for times, (name, word) in zip(took, cases, strict=True):
            header = "Basic " + b64encode(f"{name}:{word}".encode()).decode()
            began = perf_counter()
            answer = await kit.post("/oauth/token", None, {"grant_type": "x"}, Authorization=header)
            times.append(perf_counter() - began)
            assert answer.json["error"] == "invalid_client"
    medians = [median(times) for times in took]
    assert max(medians) < 2 * min(medians), medians


# --- tokens ----------------------------------------------------------------------------------------------------------


async def test_tokens_of_one_purpose_are_not_good_for_another(kit: Kit) -> None:
    app = await kit.register()
    tokens = await kit.tokens(app)
    own = await kit.world.login("chenjing")
    claims = kit.claims(tokens["access_token"])
    unsigned = ".".join(
        urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=").decode()
        for part in ({"alg": "none", "typ": "at+jwt"}, claims)
    )
    keys = kit.world.tokens.jwks()["keys"]
    confused = OctKey.import_key(orjson.dumps(keys[0]))
    head = {"typ": "at+jwt", "kid": keys[0]["kid"]}
    other = ECKey.generate_key("P-256")
    body, mark = tokens["access_token"].rpartition(".")[::2]
    forged = {
        "an ID token": tokens["id_token"],
        "a refresh token": tokens["refresh_token"],
        "alg none": unsigned + ".",
        "alg none with a signature": f"{unsigned}.{mark}",
        "HS256 with the public key": jwt.encode(head | {"alg": "HS256"}, claims, confused),
        "another key": jwt.encode(head | {"alg": "ES256"}, claims, other),
        "a cut signature": body + "." + mark[:-4],
        "no type": kit.world.tokens.sign_claims("JWT", claims),
        "another audience": kit.world.tokens.sign_claims("at+jwt", claims | {"aud": "bankhub"}),
        "another issuer": kit.world.tokens.sign_claims("at+jwt", claims | {"iss": "https://evil.example"}),
        "somebody else's inside": kit.world.tokens.sign_claims("at+jwt", claims | {"jti": "x"}),
    }
    for what, token in forged.items():
        assert await kit.members(token) == 401, what
        assert (await kit.userinfo(token)).status == 401, what
    assert (await kit.userinfo(own["access_token"])).status == 401, (
        "our own clients' tokens are none of an app"
    )


async def test_an_apps_token_does_not_open_the_hub(kit: Kit) -> None:
    from gateway.admission import HubGate

    app = await kit.register()
    tokens = await kit.tokens(app)
    gate = HubGate(kit.world.tokens, kit.world.runtime.db, kit.world.clock)
    with pytest.raises(BankhubError):
        gate.authenticate(tokens["access_token"])


async def test_an_access_token_ends_after_ten_minutes(kit: Kit) -> None:
    app = await kit.register()
    tokens = await kit.tokens(app)
    kit.world.clock.advance(599_000)
    assert await kit.members(tokens["access_token"]) == 200
    kit.world.clock.advance(1_000)
    assert await kit.members(tokens["access_token"]) == 401


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("W10")
async def test_pages_cannot_be_framed_scripted_or_kept(kit: Kit) -> None:
    app = await kit.register()
    pages = [await kit.authorize(app, Verifier()), await kit.log_in()]
    pages.append(await kit.authorize(app, Verifier(), redirect_uri="https://evil.example"))
    pages.append(await kit.logout({}))
    for page in pages:
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "script-src" not in policy
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["Cache-Control"] == "no-store"
        assert "<script" not in page.text
        assert not [
            word for word in (" onclick", " onload", "javascript:", "http-equiv") if word in page.text
        ]


@pytest.mark.requirement("W10")
async def test_cookies_are_host_only_and_new_after_login(kit: Kit) -> None:
    app = await kit.register()
    page = await kit.authorize(app, Verifier())
    before = dict(kit.browser.cookies)
    lines = page.headers.getall("Set-Cookie")
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("__Host-")
        parts = {part.strip().partition("=")[0] for part in line.split(";")}
        assert {"Path", "Secure", "HttpOnly", "SameSite"} <= parts
        assert "Domain" not in parts
    await kit.log_in()
    assert kit.browser.cookies["__Host-bankhub"] != before["__Host-bankhub"], "fixation"
    assert kit.browser.cookies["__Host-bankhub-device"] == before["__Host-bankhub-device"]


async def test_a_consent_is_not_given_from_elsewhere(kit: Kit) -> None:
    """Cross-site request forgery on every button: another origin, no origin, another browser's page, no cookie."""
    app = await kit.register()
    await kit.authorize(app, Verifier())
    await kit.log_in()
    fields = {"page": kit.browser.page, "step": "allow"}
    for origin in ("https://evil.example", "null", "", "https://app.example", kit.url + ".evil.example"):
        answer = await kit.browser.post("/oauth/page", dict(fields), Origin=origin)
        assert answer.status == 403, origin
        assert "Location" not in answer.headers
    attacker = kit.new_browser()
    await kit.authorize(app, Verifier(), browser=attacker)
    await kit.log_in("huangting", attacker)
    theirs = await kit.browser.post("/oauth/page", {"page": attacker.page, "step": "allow"})
    assert theirs.status == 400, "the attacker's page in the victim's browser"
    mine = await attacker.post("/oauth/page", dict(fields))
    assert mine.status == 400, "the victim's page in the attacker's browser"
    bare = await kit.new_browser().post("/oauth/page", dict(fields))
    assert bare.status == 400
    mangled = await kit.browser.post("/oauth/page", fields | {"page": fields["page"][:-3] + "abc"})
    assert mangled.status == 400
    kit.browser.page = fields["page"]
    assert "code" in (await kit.browser.answer("allow")).query
    kit.browser.page = fields["page"]
    assert (await kit.browser.answer("allow")).status == 400, "one page, one code"


async def test_tossed_cookies_do_not_count(kit: Kit) -> None:
    """A neighbouring host that gets a second cookie of the name in: neither of the two is believed."""
    app = await kit.register()
    await kit.tokens(app)
    cookie = kit.browser.cookies["__Host-bankhub"]
    for tossed in (
        f"__Host-bankhub={'a' * 43}; __Host-bankhub={cookie}",
        f"__Host-bankhub={cookie}; __Host-bankhub={'a' * 43}",
        f"__Host-bankhub={cookie}x",
        f"__host-bankhub={cookie}",
        f"bankhub={cookie}",
    ):
        query = urlencode(kit.request(app, Verifier()))
        answer = await kit.new_browser().get(f"/oauth/authorize?{query}", Cookie=tossed)
        assert 'name="password"' in answer.text, tossed


@pytest.mark.requirement("W11")
async def test_what_others_wrote_is_shown_as_text(kit: Kit) -> None:
    nasty = '"><img src=x onerror=alert(1)>'
    app = await kit.register(title=nasty)
    page = await kit.authorize(app, Verifier(), login_hint="'\"><script>alert(1)</script>")
    for text in (page.text, (await kit.log_in()).text):
        assert "<img" not in text
        assert "<script" not in text


async def test_wrong_passwords_are_slowed_down_and_tell_nothing(kit: Kit) -> None:
    app = await kit.register()
    await kit.authorize(app, Verifier())
    known = await kit.browser.answer("login", login="zhangwei", password="wrong")
    unknown = await kit.browser.answer("login", login="nobody-here", password="wrong")
    assert "账号或密码不正确" in known.text
    assert "账号或密码不正确" in unknown.text
    assert known.status == unknown.status == 200
    tries = [await kit.browser.answer("login", login="zhangwei", password="wrong") for _ in range(6)]
    assert "尝试次数过多" in tries[-1].text


# --- pushed requests -------------------------------------------------------------------------------------------------


async def test_a_pushed_request_is_its_clients_and_good_once(kit: Kit) -> None:
    app, other = await kit.register(SERVER), await kit.register(SERVER)
    proof = Verifier()
    pushed = (await kit.post("/oauth/par", app, kit.request(app, proof))).json["request_uri"]
    wrong = await kit.browser.get(
        "/oauth/authorize?" + urlencode({"client_id": other.client_id, "request_uri": pushed})
    )
    assert wrong.status == 400
    assert await kit.pushed_code(app, pushed)
    query = urlencode({"client_id": app.client_id, "request_uri": pushed})
    again = await kit.new_browser().get(f"/oauth/authorize?{query}")
    assert (again.status, "Location" in again.headers) == (400, False)
    late = (await kit.post("/oauth/par", app, kit.request(app, proof))).json["request_uri"]
    kit.world.clock.advance(90_000)
    query = urlencode({"client_id": app.client_id, "request_uri": late})
    assert (await kit.browser.get(f"/oauth/authorize?{query}")).status == 400
    more = kit.request(app, proof) | {"request_uri": pushed}
    assert (await kit.post("/oauth/par", app, more)).json["error"] == "invalid_request"


# --- mix-up ----------------------------------------------------------------------------------------------------------


async def test_every_answer_names_its_issuer(kit: Kit) -> None:
    """RFC 9207: a client that speaks with several providers can tell whose code this is, errors included."""
    app = await kit.register()
    answers = [
        await kit.authorize(app, Verifier(), prompt="none"),
        await kit.authorize(app, Verifier(), response_type="token"),
        await kit.authorize(app, Verifier(), code_challenge_method="plain"),
    ]
    await kit.tokens(app)
    answers.append(await kit.authorize(app, Verifier()))
    for answer in answers:
        assert answer.query["iss"] == kit.url
        assert answer.query["state"] == "state-1"
        assert answer.location.startswith(CALLBACK + "?")


# --- other enterprises -----------------------------------------------------------------------------------------------


@pytest.mark.requirement("A03")
async def test_another_enterprises_administrator(kit: Kit) -> None:
    app = await kit.register(SERVER)
    calls, stranger = kit.world.runtime.calls, kit.administrator("zhoutao")
    commands: list[Command[Any]] = [
        InstallApp(app_id=app.app_id, scopes=["openid"]),
        UninstallApp(app_id=app.app_id),
        RenewSecret(app_id=app.app_id),
    ]
    for command in commands:
        with pytest.raises(BankhubError) as caught:
            await calls.call(command, principal=stranger)
        assert caught.value.code == "not_found"
    listed = await calls.call(ListApps(), principal=stranger)
    assert app.app_id not in [one.app_id for one in listed]
    published = await kit.publish(SERVER)
    await kit.install(published, ["openid"], by="wangfang")
    with pytest.raises(BankhubError):
        await calls.call(UninstallApp(app_id=published.app_id), principal=stranger)
    with pytest.raises(BankhubError):
        await calls.call(RenewSecret(app_id=published.app_id), principal=stranger)
    there = await calls.call(ListInstallations(), principal=stranger)
    assert published.app_id not in [one.app.app_id for one in there]
    for who in ("chenjing", "zhangwei"):  # of this enterprise, but no administrators
        with pytest.raises(BankhubError) as caught:
            await calls.call(
                InstallApp(app_id=app.app_id, scopes=["openid"]), principal=kit.administrator(who)
            )
        assert caught.value.code == "forbidden"
    with pytest.raises(BankhubError):
        await kit.install(app, ["openid", "messages:send"])  # more than the app was approved for


# --- pages of apps ---------------------------------------------------------------------------------------------------


@pytest.mark.requirement("W01")
async def test_a_page_of_an_app_calls_with_its_apps_tokens_only(kit: Kit) -> None:
    app = await kit.register(redirect_uris=["https://h5.example/cb"])
    other = await kit.register(redirect_uris=["https://h6.example/cb"])
    mine, theirs = await kit.tokens(app), await kit.tokens(other)
    own = await kit.world.login("chenjing")
    call = kit.world.client.call
    action = "gateway.identity.list_members"
    answer = await call(action, token=mine["access_token"], Origin="https://h5.example")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://h5.example"
    for token in (theirs["access_token"], own["access_token"], None):
        refused = await call(action, token=token, Origin="https://h5.example")
        assert refused.status == 403
        assert refused.headers["Access-Control-Allow-Origin"] == "https://h5.example", "it may read why"
    fields = {"login": "chenjing", "password": "x", "device": "d"}
    assert (await call("gateway.identity.login", fields, Origin="https://h5.example")).status == 403
    for origin in ("https://h7.example", "http://h5.example", "https://h5.example.evil.example", "null"):
        assert (await call(action, token=mine["access_token"], Origin=origin)).status == 403, origin
    form = await kit.browser.post("/oauth/page", {"step": "allow"}, Origin="https://h5.example")
    assert form.status == 403
    await kit.as_bank(SuspendApp(app_id=app.app_id))
    assert (await call(action, token=mine["access_token"], Origin="https://h5.example")).status == 403
    with pytest.raises(BankhubError):
        await kit.register(redirect_uris=[f"{kit.url}/oauth/page"])


async def test_every_process_learns_of_endings_and_of_new_apps(kit: Kit, database: str) -> None:
    """Two edges on one bus: what one ends the other refuses, what one registers the other lets in."""
    runtime = kit.world.runtime
    assert isinstance(runtime.bus, MemoryBus)
    tokens = AccessTokens(runtime.settings, kit.world.clock)
    second = GatewayService(tokens)
    async with process(
        runtime.settings,
        [second, ImService(ActivePeople())],
        clock=kit.world.clock,
        network=runtime.bus._network,
    ):
        second.oauth.listens_at = kit.url  # behind one address, as in production
        app = await kit.register(redirect_uris=["https://h8.example/cb"])
        given = await kit.tokens(app)
        second.oauth.tokens.verify(given["access_token"])
        while "https://h8.example" not in second.oauth.tokens.origins:
            await asyncio.sleep(0.01)
        await kit.post("/oauth/revoke", app, {"token": given["refresh_token"]})
        async with asyncio.timeout(2):
            while True:
                try:
                    second.oauth.tokens.verify(given["access_token"])
                except BankhubError:
                    break
                await asyncio.sleep(0.01)


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("W07")
async def test_parameters_have_their_limits(kit: Kit) -> None:
    app = await kit.register()
    large = await kit.post("/oauth/token", app, {"grant_type": "x" * 20_000})
    assert large.status == 413
    assert (await kit.post("/oauth/token", app, {f"p{i}": "1" for i in range(50)})).status == 400
    assert (await kit.authorize(app, Verifier(), state="x" * 5000)).query["error"] == "invalid_request"
    assert (await kit.authorize(app, Verifier(), scope="x " * 1500)).query["error"] == "invalid_scope"
    headers = {"Content-Type": "application/json"}
    async with kit.world.client.session.post(f"{kit.url}/oauth/token", data=b"{}", headers=headers) as got:
        assert got.status == 415
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"a=1&a=2", b"\xff\xfe", b"grant_type=%FF", b"a", b"=&=&="):
        async with kit.world.client.session.post(f"{kit.url}/oauth/token", data=body, headers=headers) as got:
            assert got.status == 400, body
            assert (await got.json())["error"] == "invalid_request"


async def test_scopes_with_risk_need_an_end(kit: Kit) -> None:
    """An installation that reaches further than the everyday ends by itself."""
    from core.access import Permission
    from gateway.oauth.apps.rules import needs_end

    table = {"a:read": Permission("a:read", "x", {"employee"}, risk=1, scope=True)}
    risky = {"b:read": Permission("b:read", "x", {"employee"}, risk=2, scope=True)}
    assert not needs_end(["a:read", "openid"], table)
    assert needs_end(["a:read", "b:read"], table | risky)
    assert SCOPES
