"""Unrelated client libraries complete every flow and every refusal, and another provider is asked the same.

The checks 1 to 12 carry their numbers. The official conformance suite is Java in containers and was not run here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio

from core.clock import SystemClock
from core.tokens import AccessTokens
from gateway import demo
from gateway.people import ActivePeople
from gateway.service import GatewayService
from im.service import ImService
from tests.gateway.conftest import Client, World
from tests.gateway.oauth.conftest import SERVER, App, Browser, Kit
from tests.world import process, settings_for

NODE = Path(__file__).with_name("node")

EXPECTED = {
    "1 discovery": "ok",
    "2 code, PKCE, nonce, ES256 ID token": "ok",
    "2 the same for a public client": "ok",
    "2 the same for a client that signs": "ok",
    "3 userinfo is of the same subject": "ok",
    "3 userinfo of another subject": "refused by the client",
    "4 refresh rotates": "ok",
    "5 the old refresh token": "invalid_grant",
    "6 the whole family": "invalid_grant",
    "6 and its access token": "challenge 401",
    "4 refresh rotates of a public client": "ok",
    "5 the old refresh token of a public client": "invalid_grant",
    "6 the whole family of a public client": "invalid_grant",
    "6 and its access token of a public client": "challenge 401",
    "7 code replay": "invalid_grant",
    "7 and what came of it": "invalid_grant",
    "8 wrong verifier": "invalid_grant",
    "9 wrong issuer in the response (mix-up)": "refused by the client",
    "9 no issuer in the response": "refused by the client",
    "10 wrong state": "refused by the client",
    "10 wrong nonce": "refused by the client",
    "11 plain challenge": "redirect invalid_request",
    "11 no challenge": "redirect invalid_request",
    "11 a challenge that is none": "redirect invalid_request",
    "11 implicit token": "redirect unsupported_response_type",
    "11 implicit ID token": "redirect unsupported_response_type",
    "11 hybrid": "redirect unsupported_response_type",
    "11 prompt none with others": "redirect invalid_request",
    "11 prompt none without a login": "redirect login_required",
    "11 a request object": "redirect request_not_supported",
    "11 a bad max_age": "redirect invalid_request",
    "12 redirect address: prefix": "page 400",
    "12 redirect address: parent": "page 400",
    "12 redirect address: encoded parent": "page 400",
    "12 redirect address: query": "page 400",
    "12 redirect address: fragment": "page 400",
    "12 redirect address: user": "page 400",
    "12 redirect address: other host behind an at sign": "page 400",
    "12 redirect address: subdomain": "page 400",
    "12 redirect address: upper case": "page 400",
    "12 redirect address: another": "page 400",
    "12 an unknown client": "page 400",
    "a signature of another key": "invalid_client",
    "the code of another client": "invalid_grant",
    "the refresh token of another client": "invalid_grant",
    "another address at the token endpoint": "invalid_grant",
    "a wrong secret": "challenge 401",
    "a secret where there should be none": "challenge 401",
    "no secret where there should be one": "invalid_client",
    "an unknown grant type": "unsupported_grant_type",
    "client credentials that were not registered": "unauthorized_client",
    "more scopes than were granted": "invalid_scope",
    "revoke the refresh token": "invalid_grant",
    "revoke what is no token": "accepted",
    "revoke the token of another client": "accepted",
    "silent sign-in once agreed": "redirect code",
    "the person says no": "redirect access_denied",
    "pushed request": "ok",
    "pushed request, used twice": "page 400",
    "pushed request of another client": "refused",
    "pushed request with another address": "invalid_request",
    "DPoP": "dpop ok, as a bearer token: challenge 401, dpop",
    "DPoP: a refresh token of a public client with another key": "invalid_grant, without: invalid_grant",
    "logout with a hint": "redirect login_required",
    "logout to another address": "page 400",
}
"""What every provider should come to."""

ONLY_OURS = {
    "client credentials in an enterprise": "ok",
    "client credentials in another enterprise": "invalid_target",
    "an action by a person's token": "200 403",
    "introspection by who is no resource server": "challenge 403",
}

DIFFER = {
    # the oracle looks at the nonce before it looks whether the response type is there
    "11 implicit ID token": "redirect invalid_request",
    "11 hybrid": "redirect invalid_request",
    # it names the missing registration otherwise than RFC 6749, 5.2
    "client credentials that were not registered": "invalid_request",
    # its clients have one address, which it goes back to; ours name theirs in the request, which is gone
    "pushed request, used twice": "redirect invalid_request_uri",
}
"""Where the oracle answers otherwise, and why that is right for us."""


def _modules() -> Path:
    """A directory with the packages of the committed lock, installed once and shared by all workers."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not here: unrelated JavaScript clients were not run")
    lock = (NODE / "package-lock.json").read_bytes()
    return Path(sys.prefix) / f"oauth-clients-{sha256(lock).hexdigest()[:16]}"


async def _install() -> Path:
    place = _modules()
    if not (place / "node_modules").is_dir():
        made = Path(tempfile.mkdtemp(prefix="oauth-clients-", dir=place.parent))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NODE / name, made)
        npm = await asyncio.create_subprocess_exec(
            *("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"),
            cwd=made,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await npm.communicate()
        if npm.returncode:
            shutil.rmtree(made)
            pytest.skip(f"npm could not install the clients: {said.decode(errors='replace')[-300:]}")
        try:
            made.rename(place)
        except OSError:  # another worker was faster
            shutil.rmtree(made)
    for script in NODE.glob("*.mjs"):
        shutil.copy(script, place)
    return place


@dataclass
class Outcomes:
    """What each check came to, at our provider and at the oracle."""

    ours: dict[str, str]
    theirs: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kit]:
    """A provider on the machine's own clock: the clients have no other."""
    settings = settings_for(database, tmp_path_factory.mktemp("live"))
    tokens = AccessTokens(settings, SystemClock())
    gateway = GatewayService(tokens)
    async with (
        process(settings, [gateway, ImService(ActivePeople())]) as runtime,
        aiohttp.ClientSession() as session,
    ):
        people = {person.login: person for person in reversed(await demo.seed(runtime))}
        client = Client(session, f"http://127.0.0.1:{gateway.port}")
        world = World(runtime, gateway, tokens, people, client, SystemClock())  # type: ignore[arg-type]
        yield Kit(world, Browser(session, client.url))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outcomes(live: Kit) -> Outcomes:
    place = await _install()
    apps = {
        "app": await live.register(SERVER),
        "other": await live.register(SERVER),
        "publicApp": await live.register(),
        "signed": await live.register("private_key_jwt", machine=True),
    }
    known = {name: _described(app) for name, app in apps.items()}
    oracle = await asyncio.create_subprocess_exec(
        *("node", "oracle.mjs", orjson.dumps(list(known.values())).decode()),
        cwd=place,
        env={**os.environ, "NODE_ENV": "test", "NODE_NO_WARNINGS": "1"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert oracle.stdin is not None
    assert oracle.stdout is not None
    try:
        issuer = await _first_json(oracle.stdout)
        password = live.world.people["chenjing"].password
        ent = str(live.world.people["chenjing"].enterprise_id)
        here = {"issuer": live.url, "login": "chenjing", "password": password, "ent": ent}
        ours = await _run(place, known | here)
        theirs = await _run(place, known | issuer | {"login": "chenjing", "password": "any"})
    finally:
        oracle.stdin.close()
        await oracle.wait()
    return Outcomes(ours, theirs)


def _described(app: App) -> dict[str, Any]:
    return {
        "client_id": app.client_id,
        "auth_method": app.auth_method,
        "jwk": None if app.key is None else app.key.as_dict(private=True),
        "client_secret": app.secret,
        "redirect_uri": app.callback,
        "logout_uri": "https://app.example/bye",
    }


async def _first_json(stream: asyncio.StreamReader) -> dict[str, Any]:
    async for line in stream:
        if line.startswith(b"{"):
            found: dict[str, Any] = orjson.loads(line)
            return found
    raise AssertionError("the oracle did not start")


async def _run(place: Path, given: dict[str, Any], script: str = "scenario.mjs") -> dict[str, str]:
    node = await asyncio.create_subprocess_exec(
        *("node", script, orjson.dumps(given).decode()),
        cwd=place,
        env={**os.environ, "NODE_NO_WARNINGS": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, wrong = await node.communicate()
    assert node.returncode == 0, wrong.decode()[-2000:]
    found: dict[str, str] = orjson.loads(said)
    return found


@pytest.mark.asyncio(loop_scope="module")
async def test_openid_client_completes_every_flow_and_every_refusal(outcomes: Outcomes) -> None:
    assert outcomes.ours == EXPECTED | ONLY_OURS


@pytest.mark.asyncio(loop_scope="module")
async def test_another_provider_answers_the_same(outcomes: Outcomes) -> None:
    """The differential oracle: what it says otherwise is written down above, with the reason."""
    assert outcomes.theirs == EXPECTED | DIFFER


@pytest.mark.asyncio(loop_scope="module")
async def test_oauth4webapi(live: Kit) -> None:
    """A client that checks every answer against its standard, with each way of proving itself, pushed and bound."""
    place = await _install()
    apps = {
        "app": await live.register(SERVER),
        "signed": await live.register("private_key_jwt"),
        "publicApp": await live.register(),
    }
    who = live.world.people["zhaolei"]  # somebody else: logins of one account are counted
    here = {"issuer": live.url, "login": who.login, "password": who.password}
    said = await _run(place, {name: _described(app) for name, app in apps.items()} | here, "webapi.mjs")
    expected = {"discovery, oidc": "ok", "discovery, oauth2": "ok"}
    for name in apps:
        expected |= {
            f"{name}: code": "ok bearer acr 1",
            f"{name}: pushed": "ok bearer acr 1",
            f"{name}: bound": "ok dpop acr 1",
            f"{name}: pushed and bound": "ok dpop acr 1",
            f"{name}: silent": "ok bearer acr 1",
            f"{name}: asked again": "ok bearer acr 1",
            f"{name}: logged in again": "ok bearer acr 1",
            f"{name}: silent and not": "invalid_request",
            f"{name}: denied": "access_denied",
        }
    assert said == expected


@pytest.mark.asyncio(loop_scope="module")
async def test_requests_oauthlib(live: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same flow with the Python libraries that most servers here use, and what they refuse."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # loopback
    app = await live.register(SERVER)
    live.browser.cookies.clear()
    session, url, state = await asyncio.to_thread(_oauthlib_begins, live.url, app)
    answer = await live.browser.get(url.removeprefix(live.url))
    assert 'name="password"' in answer.text
    await live.log_in("yangmin")  # the script before has guessed at the others' passwords
    done = await live.browser.answer("allow")
    assert done.query["state"] == state
    tokens = await asyncio.to_thread(_oauthlib_ends, session, live.url, app, done.location)
    assert tokens["token_type"] == "Bearer"
    claims = live.claims(tokens["id_token"])
    said = await asyncio.to_thread(lambda: session.get(f"{live.url}/oauth/userinfo").json())
    assert said["sub"] == claims["sub"]
    await asyncio.to_thread(_oauthlib_refuses, live.url, app, done.location, tokens)


def _oauthlib_begins(issuer: str, app: App) -> tuple[Any, str, str]:
    from requests_oauthlib import OAuth2Session

    session = OAuth2Session(
        app.client_id,
        redirect_uri=app.callback,
        scope=["openid", "profile"],
        pkce="S256",
    )
    url, state = session.authorization_url(f"{issuer}/oauth/authorize", nonce="n-1")
    return session, url, state


def _oauthlib_ends(session: Any, issuer: str, app: App, callback: str) -> Any:
    mine = (app.client_id, app.secret)
    return session.fetch_token(f"{issuer}/oauth/token", authorization_response=callback, auth=mine)


def _oauthlib_refuses(issuer: str, app: App, callback: str, tokens: Any) -> None:
    from oauthlib.oauth2 import InvalidGrantError, MismatchingStateError
    from requests.auth import HTTPBasicAuth
    from requests_oauthlib import OAuth2Session

    again = OAuth2Session(app.client_id, redirect_uri=app.callback, state="another")
    with pytest.raises(MismatchingStateError):
        again.fetch_token(f"{issuer}/oauth/token", authorization_response=callback)
    mine = HTTPBasicAuth(app.client_id, app.secret or "")
    fresh = OAuth2Session(app.client_id, token=tokens)
    renewed = fresh.refresh_token(f"{issuer}/oauth/token", auth=mine)
    assert renewed["refresh_token"] != tokens["refresh_token"]
    with pytest.raises(InvalidGrantError):
        fresh.refresh_token(f"{issuer}/oauth/token", tokens["refresh_token"], auth=mine)
    with pytest.raises(InvalidGrantError):
        fresh.refresh_token(f"{issuer}/oauth/token", renewed["refresh_token"], auth=mine)
