"""Apps in the demonstration's enterprise, and a browser that a person sits at."""

from __future__ import annotations

import html
import json
import re
import secrets
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import aiohttp
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from core.actions import Command, Principal
from gateway.api import InstallApp, RegisterApp, RegisterOwnApp
from tests.gateway.conftest import World

CALLBACK = "https://app.example/cb"
SCOPES = ["openid", "profile", "contacts:read"]
SERVER = "client_secret_basic"


@dataclass
class Answer:
    """An HTTP answer, read."""

    status: int
    text: str
    headers: Any

    @property
    def json(self) -> Any:
        return json.loads(self.text) if self.text else None

    @property
    def location(self) -> str:
        return str(self.headers["Location"])

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.location).query))


@dataclass
class Verifier:
    """A PKCE verifier and its challenge."""

    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def challenge(self) -> str:
        return urlsafe_b64encode(sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass
class App:
    """A registered app and how it proves itself."""

    client_id: str
    auth_method: str
    secret: str | None = None
    key: ECKey | None = None
    callback: str = CALLBACK

    @property
    def app_id(self) -> int:
        return int(self.client_id)

    def assertion(self, audience: str, now_s: float, **claims: Any) -> str:
        assert self.key is not None
        body = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": audience,
            "jti": secrets.token_hex(8),
            "iat": int(now_s),
            "exp": int(now_s) + 60,
        }
        return jwt.encode({"alg": "ES256"}, body | claims, self.key)


class Browser:
    """Keeps cookies, answers pages, stops where it is sent away from us."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url
        self.cookies: dict[str, str] = {}
        self.page = ""
        self.kept: dict[str, str] = {}  # what else the page gives back

    async def get(self, path: str, **headers: str) -> Answer:
        return await self._send("GET", path, None, headers)

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> Answer:
        return await self._send("POST", path, fields, {"Origin": self.url} | headers)

    async def _send(self, method: str, path: str, fields: Any, headers: dict[str, str]) -> Answer:
        if self.cookies and "Cookie" not in headers:
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        url = self.url + path
        given = {name: value for name, value in headers.items() if value != ""}
        async with self.session.request(
            method, url, data=fields, headers=given, allow_redirects=False
        ) as got:
            answer = Answer(got.status, await got.text(), got.headers)
        for line in answer.headers.getall("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if value:
                self.cookies[name] = value
        found = re.search(r'name="page" value="([^"]*)"', answer.text)
        self.page = html.unescape(found[1]) if found else ""
        self.kept = dict(re.findall(r'name="(ticket|waiting)" value="([^"]*)"', answer.text))
        return answer

    async def answer(self, step: str, **fields: str) -> Answer:
        """Press a button of the page that is shown."""
        return await self.post("/oauth/page", {"page": self.page, "step": step} | self.kept | fields)


@dataclass
class Kit:
    """Everything a flow needs."""

    world: World
    browser: Browser

    @property
    def url(self) -> str:
        return self.world.client.url

    def new_browser(self) -> Browser:
        return Browser(self.world.client.session, self.url)

    def administrator(self, login: str = "wangfang") -> Principal:
        person = self.world.people[login]
        roles = frozenset(person.roles)
        return Principal(person.person_id, person.enterprise_id, roles, 1, "test", 1 << 50)

    async def register(
        self,
        auth_method: str = "none",
        *,
        by: str = "wangfang",
        install: bool = True,
        scopes: list[str] | None = None,
        **more: Any,
    ) -> App:
        key = ECKey.generate_key("P-256") if auth_method == "private_key_jwt" else None
        fields = {"redirect_uris": [CALLBACK], "logout_uris": ["https://app.example/bye"]} | more
        command = RegisterOwnApp.model_validate(
            {
                "title": "考勤助手",
                "auth_method": auth_method,
                "scopes": scopes or SCOPES,
                "jwks": None if key is None else {"keys": [key.as_dict(private=False)]},
            }
            | fields
        )
        calls = self.world.runtime.calls
        made = await calls.call(command, principal=self.administrator(by))
        app = App(made.app.client_id, auth_method, made.client_secret, key, fields["redirect_uris"][0])
        if install:
            await self.install(app, scopes or SCOPES, by=by)
        return app

    async def install(self, app: App, scopes: list[str], *, by: str = "wangfang", days: int = 30) -> None:
        command = InstallApp(app_id=app.app_id, scopes=scopes, days=days)
        await self.world.runtime.calls.call(command, principal=self.administrator(by))

    def request(self, app: App, proof: Verifier, **more: str | None) -> dict[str, str]:
        fields: dict[str, str | None] = {
            "response_type": "code",
            "client_id": app.client_id,
            "redirect_uri": app.callback,
            "scope": " ".join(SCOPES),
            "state": "state-1",
            "nonce": "nonce-1",
            "code_challenge": proof.challenge,
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in (fields | more).items() if value is not None}

    async def authorize(
        self, app: App, proof: Verifier, *, browser: Browser | None = None, **more: str | None
    ) -> Answer:
        """Open the authorization request."""
        query = urlencode(self.request(app, proof, **more))
        return await (browser or self.browser).get(f"/oauth/authorize?{query}")

    async def log_in(self, who: str = "chenjing", browser: Browser | None = None) -> Answer:
        """Answer the login page."""
        password = self.world.people[who].password
        return await (browser or self.browser).answer("login", login=who, password=password)

    async def code(self, app: App, proof: Verifier, who: str = "chenjing", **more: str | None) -> str:
        """From the request to a code, whatever is asked on the way."""
        answer = await self.authorize(app, proof, browser=None, **more)
        if 'name="password"' in answer.text:
            answer = await self.log_in(who)
        if 'value="allow"' in answer.text:
            answer = await self.browser.answer("allow")
        assert answer.status == 303, answer.text
        assert "code" in answer.query, answer.location
        return answer.query["code"]

    async def post(self, path: str, app: App | None, fields: dict[str, str], **headers: str) -> Answer:
        """A client's request, with its proof."""
        given = dict(fields)
        if app is not None and app.auth_method == "none":
            given["client_id"] = app.client_id
        elif app is not None and app.key is not None:
            given["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            given["client_assertion"] = app.assertion(self.url, self.world.clock.now_ms() / 1000)
        elif app is not None and app.secret is not None:
            word = f"{quote(app.client_id)}:{quote(app.secret)}".encode()
            headers["Authorization"] = "Basic " + b64encode(word).decode()
        async with self.world.client.session.post(self.url + path, data=given, headers=headers) as got:
            return Answer(got.status, await got.text(), got.headers)

    async def exchange(self, app: App, code: str, proof: Verifier, DPoP: str = "", **more: str) -> Answer:  # noqa: N803
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": app.callback,
            "code_verifier": proof.verifier,
        }
        headers = {"DPoP": DPoP} if DPoP else {}
        return await self.post("/oauth/token", app, fields | more, **headers)

    async def refresh(self, app: App, token: str, DPoP: str = "", **more: str) -> Answer:  # noqa: N803
        fields = {"grant_type": "refresh_token", "refresh_token": token}
        headers = {"DPoP": DPoP} if DPoP else {}
        return await self.post("/oauth/token", app, fields | more, **headers)

    async def userinfo(self, token: str, dpop: str | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        if dpop is not None:
            headers = {"Authorization": f"DPoP {token}", "DPoP": dpop}
        async with self.world.client.session.get(f"{self.url}/oauth/userinfo", headers=headers) as got:
            return Answer(got.status, await got.text(), got.headers)

    async def logout(self, query: dict[str, str]) -> Answer:
        return await self.browser.get(f"/oauth/logout?{urlencode(query)}")

    async def pushed_code(self, app: App, request_uri: str, who: str = "chenjing") -> str:
        query = urlencode({"client_id": app.client_id, "request_uri": request_uri})
        answer = await self.browser.get(f"/oauth/authorize?{query}")
        if 'name="password"' in answer.text:
            answer = await self.log_in(who)
        if 'value="allow"' in answer.text:
            answer = await self.browser.answer("allow")
        return answer.query["code"]

    def claims(self, token: str) -> dict[str, Any]:
        keys = KeySet.import_key_set(self.world.tokens.jwks())  # type: ignore[arg-type]
        return dict(jwt.decode(token, keys, algorithms=["ES256"]).claims)

    async def publish(self, auth_method: str = "none", **more: Any) -> App:
        """An app that the bank registers for everybody."""
        key = ECKey.generate_key("P-256") if auth_method == "private_key_jwt" else None
        command = RegisterApp.model_validate(
            {
                "jwks": None if key is None else {"keys": [key.as_dict(private=False)]},
                "title": "差旅助手",
                "auth_method": auth_method,
                "redirect_uris": [CALLBACK],
                "scopes": SCOPES,
            }
            | more
        )
        made = await self.as_bank(command)
        return App(made.app.client_id, auth_method, made.client_secret, key)

    async def as_bank(self, command: Command[Any]) -> Any:
        """Call as a bank operator."""
        who = self.operator()
        return await self.world.runtime.calls.call(command, principal=who)

    def operator(self) -> Principal:
        """Somebody of the bank's operations staff."""
        person = self.world.people["sunqiang"]
        return Principal(person.person_id, person.enterprise_id, frozenset(), 1, "test", 1 << 50, 2)

    async def tokens(self, app: App, who: str = "chenjing", **more: str | None) -> dict[str, Any]:
        """The whole flow."""
        proof = Verifier()
        code = await self.code(app, proof, who, **more)
        answer = await self.exchange(app, code, proof)
        assert answer.status == 200, answer.text
        found: dict[str, Any] = answer.json
        return found

    async def members(self, access_token: str) -> int:
        """The status of a call with this token of what the scope contacts:read allows."""
        answer = await self.world.client.call("gateway.identity.list_members", token=access_token)
        return answer.status


@pytest.fixture
def kit(world: World) -> Kit:
    return Kit(world, Browser(world.client.session, world.client.url))


def new_key() -> ECKey:
    """A client's key for DPoP."""
    return ECKey.generate_key("P-256")


def dpop_proof(kit: Kit, key: ECKey, method: str, path: str, token: str | None = None) -> str:
    """A DPoP proof (RFC 9449) as a client makes it."""
    claims: dict[str, Any] = {
        "jti": secrets.token_hex(8),
        "htm": method,
        "htu": kit.url + path,
        "iat": kit.world.clock.now_ms() // 1000,
    }
    if token is not None:
        claims["ath"] = urlsafe_b64encode(sha256(token.encode()).digest()).rstrip(b"=").decode()
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False)}
    return jwt.encode(header, claims, key)


def jwt_header(token: str) -> dict[str, Any]:
    """The header of a JWT, unchecked."""
    head = token.partition(".")[0]
    found: dict[str, Any] = json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    return found
