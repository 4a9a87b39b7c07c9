"""Apps hear that a session has ended: a signed logout token, again until they answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from core.errors import Invalid
from core.relay import relay_of
from core.runner import Runner
from gateway.oauth import backchannel
from tests.gateway.oauth.conftest import SERVER, Kit, Verifier, jwt_header

EVENT = "http://schemas.openid.net/event/backchannel-logout"


@dataclass
class Receiver:
    """An app's server: keeps what it is told, answers as it is told to."""

    url: str = ""
    tokens: list[str] = field(default_factory=list)
    status: int = 200

    async def handle(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-www-form-urlencoded"
        self.tokens += parse_qs(await request.text())["logout_token"]
        return web.Response(status=self.status)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/logout", made.handle)
    server = TestServer(app)
    await server.start_server()
    made.url = str(server.make_url("/logout"))
    yield made
    await server.close()


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {"webhook_http": True, "webhook_private": True}


@pytest.fixture(autouse=True)
def no_hub(kit: Kit) -> None:
    """There is none in this process to close connections: nobody waits for it."""
    listening = kit.world.runtime.registry.handlers["gateway.session_revoked"]
    listening[:] = [one for one in listening if not one.name.endswith("close_connections")]


async def _work(kit: Kit, *, after_s: float = 0.0) -> None:
    """Give events out, then run the jobs."""
    runtime = kit.world.runtime
    kit.world.clock.advance(int((after_s + 3) * 1000))
    relay = relay_of(runtime)
    await relay._refresh()
    while await relay.run_once():
        pass
    job = next(one for one in kit.world.gateway.jobs if one.name == backchannel.JOB)
    runner = Runner(runtime.db, runtime.clock, runtime.rng, runtime.ids, [job])
    await runner.run_once()


async def _log_out(kit: Kit) -> None:
    await kit.logout({})
    await kit.browser.post("/oauth/logout/page", {"page": kit.browser.page})


async def test_every_app_of_the_session_hears_of_its_end_once(kit: Kit, receiver: Receiver) -> None:
    await relay_of(kit.world.runtime)._refresh()
    app = await kit.register(SERVER, backchannel_uri=receiver.url)
    other = await kit.register(SERVER, backchannel_uri=receiver.url + "?app=2")
    silent = await kit.register(SERVER)
    begun = await kit.register(SERVER, backchannel_uri=receiver.url + "?app=3")
    first = await kit.tokens(app)
    await kit.tokens(app)
    second = await kit.tokens(other)
    await kit.tokens(silent)
    await kit.code(begun, Verifier())  # never exchanged: this app knows of nobody
    await _log_out(kit)
    await _work(kit)
    await _work(kit)
    told = {kit.claims(token)["aud"]: kit.claims(token) for token in receiver.tokens}
    assert len(receiver.tokens) == 2
    for one, tokens in ((app, first), (other, second)):
        identity, claims = kit.claims(tokens["id_token"]), told[one.client_id]
        assert (claims["sub"], claims["sid"]) == (identity["sub"], identity["sid"])
        assert claims["iss"] == kit.url
        assert claims["events"] == {EVENT: {}}
        assert claims["exp"] - claims["iat"] == 120
        assert claims["jti"]
        assert "nonce" not in claims
    assert jwt_header(receiver.tokens[0])["typ"] == "logout+jwt"
    assert (await kit.userinfo(receiver.tokens[0])).status == 401, "good for nothing else"


async def test_an_app_that_does_not_answer_is_told_again_but_not_for_ever(
    kit: Kit, receiver: Receiver
) -> None:
    await relay_of(kit.world.runtime)._refresh()
    app = await kit.register(backchannel_uri=receiver.url)
    tokens = await kit.tokens(app)
    receiver.status = 503
    await _log_out(kit)
    await _work(kit)
    assert len(receiver.tokens) == 1
    assert await kit.members(tokens["access_token"]) == 401, "its tokens are refused all the same"
    for _ in range(backchannel.TRIES + 3):
        await _work(kit, after_s=4000)
    assert len(receiver.tokens) == backchannel.TRIES
    assert len({kit.claims(token)["jti"] for token in receiver.tokens}) == backchannel.TRIES
    receiver.tokens.clear()
    receiver.status = 400
    await kit.tokens(app)
    await _log_out(kit)
    for _ in range(3):
        await _work(kit, after_s=4000)
    assert len(receiver.tokens) == 1, "it has said that it will not have it"


async def test_where_apps_may_be_told(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = kit.world.gateway.parts.webhooks.egress._settings
    monkeypatch.setattr(
        kit.world.gateway.parts.webhooks.egress,
        "_settings",
        settings.model_copy(update={"webhook_http": False, "webhook_private": False}),
    )
    for bad in (
        "http://app.example/out",
        "https://10.0.0.1/out",
        "https://localhost/out",
        "https://a.example/#x",
    ):
        with pytest.raises(Invalid, match="backchannel_uri"):
            await kit.register(backchannel_uri=bad)
    await kit.register(backchannel_uri="https://app.example/out")
