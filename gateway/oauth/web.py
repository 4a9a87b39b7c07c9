"""HTTP in and out of the flows. What is decided is decided there; here are parameters, headers and cookies."""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import unquote_plus

import orjson
from aiohttp import web
from aiohttp.web_request import BaseRequest
from pydantic import SecretStr

from core.actions import Command
from core.context import Source
from core.dpop import BadProof
from core.errors import BankhubError, Forbidden, TooManyRequests, Unauthenticated
from core.telemetry import Trace
from gateway.answers import read_body
from gateway.http import Handler
from gateway.identity.rules import normal_login
from gateway.oauth import cookies, metadata, pages
from gateway.oauth.authorize import STALE
from gateway.oauth.commands import (
    BeginBridge,
    Exchange,
    Introspect,
    Leave,
    Open,
    Proceed,
    Proof,
    Push,
    Reply,
    Revoke,
    Shown,
    UserInfo,
)
from gateway.oauth.rules import Refusal, client_id_of, digest, parameters
from gateway.oauth.sealing import unseal

if TYPE_CHECKING:
    from core.runtime import Runtime
    from core.tokens import AccessTokens
    from gateway.oauth.parts import OAuth

BRIDGE: Final = "/oauth/bridge"
SHARED: Final = frozenset(
    {
        metadata.OPENID_CONFIGURATION,
        metadata.AUTHORIZATION_SERVER,
        metadata.JWKS,
        metadata.PAR,
        metadata.TOKEN,
        metadata.USERINFO,
        metadata.REVOKE,
    }
)
"""Paths that pages of any origin may call: none of them looks at cookies."""

_FORM: Final = "application/x-www-form-urlencoded"
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CLIENT_ID: Final = re.compile(r"[0-9]{1,19}")
_STEPS: Final = ("login", "code", "other", "select", "allow", "deny")
_PHONE: Final = re.compile(r"1[3-9][0-9]{9}")
_SIX: Final = re.compile(r"[0-9]{6}")


class Provider:
    """The endpoints of one process."""

    def __init__(self, runtime: Runtime, tokens: AccessTokens, oauth: OAuth) -> None:
        self._runtime = runtime
        self._tokens = tokens
        self._oauth = oauth
        self.address_of: Callable[[BaseRequest], str] = lambda request: request.remote or ""

    @property
    def routes(self) -> dict[tuple[str, str], Handler]:
        """What the edge serves for us."""
        return {
            ("GET", metadata.OPENID_CONFIGURATION): self._metadata,
            ("GET", metadata.AUTHORIZATION_SERVER): self._metadata,
            ("GET", metadata.JWKS): self._jwks,
            ("GET", metadata.AUTHORIZE): self._authorize,
            ("POST", pages.PAGE): self._page,
            ("GET", metadata.LOGOUT): self._logout,
            ("POST", metadata.LOGOUT): self._logout,
            ("POST", metadata.PAR): self._par,
            ("POST", metadata.TOKEN): self._token,
            ("POST", metadata.REVOKE): self._revoke,
            ("POST", metadata.INTROSPECT): self._introspect,
            ("GET", metadata.USERINFO): self._userinfo,
            ("POST", metadata.USERINFO): self._userinfo,
            ("POST", BRIDGE): self._bridge,
        }

    async def _metadata(self, request: BaseRequest, trace: Trace) -> web.Response:
        return _json(metadata.document(self._oauth.issuer, self._oauth.all_scopes), cache_s=300)

    async def _jwks(self, request: BaseRequest, trace: Trace) -> web.Response:
        return _json(self._tokens.jwks(), cache_s=300)

    # --- for browsers ---------------------------------------------------------------------------------------------

    async def _authorize(self, request: BaseRequest, trace: Trace) -> web.Response:
        if request.method != "GET":
            raise Forbidden("this is opened in a browser")
        cookie = cookies.read(request, cookies.LOGIN)
        try:
            given = parameters(request.rel_url.raw_query_string)
        except Refusal:
            return self._show(request, Shown(kind="error", message="请求参数有误。"))
        return self._show(request, await self._call(request, trace, Open(parameters=given, cookie=cookie)))

    async def _page(self, request: BaseRequest, trace: Trace) -> web.Response:
        given, cookie = await self._posted_page(request), cookies.read(request, cookies.LOGIN)
        step: Any = given.get("step")
        sealed, notice = given.get("page", ""), ""
        now_ms = self._runtime.clock.now_ms()
        if cookie is None or step not in _STEPS or not self._is_page_of(sealed, cookie, now_ms):
            return self._show(request, Shown(kind="error", message=STALE))
        answer = Proceed(
            sealed=sealed,
            cookie=cookie,
            step="again" if step == "code" else step,
            enterprise_id=client_id_of(given.get("enterprise")),
        )
        if step == "login":
            try:
                session_id, acr = await self._login(request, trace, given)
                answer = answer.model_copy(update={"session_id": session_id, "acr": acr})
            except (TooManyRequests, Unauthenticated, Forbidden) as error:
                answer, notice = answer.model_copy(update={"step": "again"}), _notice(error)
        elif step == "code":
            notice = await self._send_code(request, trace, normal_login(given.get("login", "")[:64]))
        shown = await self._call(request, trace, answer)
        if notice:
            shown = shown.model_copy(update={"login_hint": given.get("login", "")[:64]})
        return self._show(request, shown, notice)

    def _is_page_of(self, sealed: str, cookie: str, now_ms: int) -> bool:
        return unseal(self._oauth.page_secret, sealed, cookie, now_ms) is not None

    async def _posted_page(self, request: BaseRequest) -> dict[str, str]:
        """What a form of ours says. The edge has refused foreign origins; a browser that posts always names one."""
        if "Origin" not in request.headers:
            raise Forbidden("a form is posted by a page of ours")
        try:
            return await self._form(request)
        except Refusal as refusal:
            raise Forbidden(refusal.description) from None

    async def _login(self, request: BaseRequest, trace: Trace, given: dict[str, str]) -> tuple[int, int]:
        """The session that begins, and how strongly the person has proved who they are."""
        device = digest(cookies.read(request, cookies.DEVICE) or "").hex()[:20]
        login, code = given.get("login", "")[:64], given.get("code", "")
        fields = {
            "password": given.get("password", "")[:128] or "-",
            "device": f"web-{device}",
            "platform": "browser",
        }
        phone = normal_login(login)
        if _SIX.fullmatch(code) and _PHONE.fullmatch(phone):
            action, fields = "gateway.registration.login", fields | {"phone": phone, "code": code}
        else:
            action, fields = "gateway.identity.login", fields | {"login": login or "-"}
        answer = await self._runtime.calls.perform(
            action, fields, principal=None, source=self._source(request), trace=trace
        )
        principal = self._tokens.verify(answer.value["access_token"])
        return principal.session_id, principal.acr

    async def _send_code(self, request: BaseRequest, trace: Trace, phone: str) -> str:
        """Send a code to a phone; what the page says of it, which is the same for numbers that nobody has."""
        if not _PHONE.fullmatch(phone):
            return "请先填写手机号"
        fields, source = {"phone": phone, "purpose": "login"}, self._source(request)
        try:
            await self._runtime.calls.perform(
                "gateway.codes.send", fields, principal=None, source=source, trace=trace
            )
        except TooManyRequests as error:
            return _notice(error)
        return "验证码已发送，两分钟内有效"

    async def _logout(self, request: BaseRequest, trace: Trace) -> web.Response:
        cookie = cookies.read(request, cookies.LOGIN)
        agreed = request.method == "POST"
        try:
            query = await self._asked_before(request) if agreed else request.rel_url.raw_query_string
            given = parameters(query)
        except Refusal:
            return self._show(request, Shown(kind="error", message="请求参数有误。"))
        shown = await self._call(request, trace, Leave(parameters=given, cookie=cookie, agreed=agreed))
        if shown.kind == "leave":  # the page gives back what was asked; what may be done is decided again
            shown = shown.model_copy(
                update={"sealed": query, "redirect": given.get("post_logout_redirect_uri")}
            )
        return self._show(request, shown)

    async def _asked_before(self, request: BaseRequest) -> str:
        return (await self._posted_page(request)).get("page", "")

    def _show(self, request: BaseRequest, shown: Shown, notice: str = "") -> web.Response:
        if shown.kind == "redirect" and shown.redirect is not None:
            answer = web.Response(status=303, headers={"Location": shown.redirect})
        else:
            answer = web.Response(
                status=400 if shown.kind == "error" else 200,
                text=pages.render(shown, self._oauth.scopes, notice),
                content_type="text/html",
                charset="utf-8",
                headers={
                    "Content-Security-Policy": pages.policy(shown),
                    "Content-Language": "zh-CN",
                    # with no-referrer browsers would post our own forms with the origin "null"
                    "Referrer-Policy": "same-origin",
                },
            )
        if shown.cookie is not None:
            cookies.write(answer, cookies.LOGIN, shown.cookie)
        if shown.cookie and cookies.read(request, cookies.DEVICE) is None:
            cookies.write(answer, cookies.DEVICE, self._runtime.rng.token())
        return answer

    # --- for clients ----------------------------------------------------------------------------------------------

    async def _par(self, request: BaseRequest, trace: Trace) -> web.Response:
        def command(proof: Proof, given: dict[str, str], jkt: str | None) -> Push:
            return Push(proof=proof, parameters=given, jkt=jkt)

        return await self._client(request, trace, command)

    async def _token(self, request: BaseRequest, trace: Trace) -> web.Response:
        def command(proof: Proof, given: dict[str, str], jkt: str | None) -> Exchange:
            return Exchange(proof=proof, parameters=given, jkt=jkt)

        return await self._client(request, trace, command)

    async def _revoke(self, request: BaseRequest, trace: Trace) -> web.Response:
        return await self._client(
            request, trace, lambda proof, given, _: Revoke(proof=proof, token=_secret(given, "token"))
        )

    async def _introspect(self, request: BaseRequest, trace: Trace) -> web.Response:
        return await self._client(
            request, trace, lambda proof, given, _: Introspect(proof=proof, token=_secret(given, "token"))
        )

    async def _bridge(self, request: BaseRequest, trace: Trace) -> web.Response:
        def command(proof: Proof, given: dict[str, str], jkt: str | None) -> BeginBridge:
            token = _secret(given, "access_token")
            return BeginBridge(proof=proof, token=token, parameters=given)

        return await self._client(request, trace, command)

    async def _client(
        self,
        request: BaseRequest,
        trace: Trace,
        command: Callable[[Proof, dict[str, str], str | None], Command[Reply]],
    ) -> web.Response:
        try:
            given = await self._form(request)
            asked = command(_proof(request, given), given, await self._key(request))
        except Refusal as refusal:
            reply = _refused(refusal)
        else:
            reply = await self._call(request, trace, asked)
        return _replied(reply, "Basic" if "Authorization" in request.headers else None)

    async def _key(self, request: BaseRequest) -> str | None:
        """The key that the client proves to have; None: it does not say so. Raises `Refusal`."""
        proofs = request.headers.getall("DPoP", [])
        if not proofs:
            return None
        try:
            return await self._oauth.tokens.proved(proofs, request.method, request.rel_url.raw_path)
        except BadProof as error:
            raise Refusal("invalid_dpop_proof", error.message) from None

    async def _userinfo(self, request: BaseRequest, trace: Trace) -> web.Response:
        given = request.headers.getall("Authorization", [])
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        token, proofs = token.strip(), request.headers.getall("DPoP", [])
        try:
            await self._oauth.tokens.admit(scheme, token, proofs, request.method, request.rel_url.raw_path)
        except Unauthenticated as error:
            kind = "invalid_dpop_proof" if isinstance(error, BadProof) else "invalid_token"
            reply = _refused(Refusal(kind, error.message, 401))
        else:
            reply = await self._call(request, trace, UserInfo(token=SecretStr(token)))
        return _replied(reply, "DPoP" if scheme.lower() == "dpop" else "Bearer")

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _form(self, request: BaseRequest) -> dict[str, str]:
        settings = self._runtime.settings
        body = await read_body(request, settings, _FORM, settings.oauth_form_bytes)
        try:
            return parameters(body.decode("ascii"))
        except UnicodeDecodeError:
            raise Refusal("invalid_request", "the parameters cannot be read") from None

    async def _call(self, request: BaseRequest, trace: Trace, command: Command[Any]) -> Any:
        return await self._runtime.calls.call(command, source=self._source(request), trace=trace)

    def _source(self, request: BaseRequest) -> Source:
        return Source(self.address_of(request), "http", request.headers.get("User-Agent", "")[:200])


# --- parameters of clients --------------------------------------------------------------------------------------------


def _proof(request: BaseRequest, given: dict[str, str]) -> Proof:
    """How the client says who it is; taken out of its parameters. Raises `Refusal` for two ways at once or none."""
    headers, assertion = request.headers.getall("Authorization", []), given.pop("client_assertion", None)
    kind, named = given.pop("client_assertion_type", None), given.pop("client_id", None)
    if "client_secret" in given or len(headers) + (assertion is not None) > 1:
        raise Refusal("invalid_request", "one way of proving who one is, and no secret in the body")
    secret: str | None = None
    method: Literal["none", "private_key_jwt", "client_secret_basic"] = "none"
    if headers:
        method, (client_id, secret) = "client_secret_basic", _basic(headers[0])
        if named is not None and named != client_id:
            raise Refusal("invalid_request", "two client_ids")
    elif assertion is not None:
        method, secret = "private_key_jwt", assertion
        client_id = named or _subject(assertion)
        if kind != _ASSERTION:
            raise Refusal("invalid_request", "this type of assertion is not known")
    else:
        client_id = named or ""
    if not _CLIENT_ID.fullmatch(client_id):
        raise Refusal("invalid_client", "there is no such client", 401)
    return Proof(method=method, client_id=client_id, secret=None if secret is None else SecretStr(secret))


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError("another scheme")
        name, colon, secret = b64decode(encoded.strip(), validate=True).decode("ascii").partition(":")
        if not colon:
            raise ValueError("no secret")
    except ValueError:
        raise Refusal("invalid_client", "HTTP Basic, please", 401) from None
    return unquote_plus(name), unquote_plus(secret)


def _subject(assertion: str) -> str:
    """Who the assertion says it is of; believed only once it is verified."""
    try:
        payload = assertion.split(".")[1]
        return str(orjson.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"])
    except (IndexError, ValueError, KeyError, TypeError):
        return ""


def _secret(given: dict[str, str], name: str) -> SecretStr:
    if name not in given:
        raise Refusal("invalid_request", f"{name} is missing")
    return SecretStr(given[name])


# --- answers ----------------------------------------------------------------------------------------------------------


def _notice(error: BankhubError) -> str:
    if isinstance(error, TooManyRequests):
        wait_s = max(1, -(-(error.retry_ms or 1000) // 1000))
        return f"尝试次数过多，请 {wait_s} 秒后再试"
    return "账号、密码或验证码不正确" if isinstance(error, Unauthenticated) else "此账号暂时无法登录"


def _refused(refusal: Refusal) -> Reply:
    body = {"error": refusal.error, "error_description": refusal.description}
    return Reply(status=refusal.status, body=body)


def _replied(reply: Reply, scheme: str | None) -> web.Response:
    answer = _json(reply.body, reply.status) if reply.body is not None else web.Response(status=reply.status)
    answer.headers["Pragma"] = "no-cache"
    answer.headers.setdefault("Cache-Control", "no-store")
    if reply.status in (401, 403) and scheme is not None:
        error = "" if scheme == "Basic" or reply.body is None else f', error="{reply.body["error"]}"'
        answer.headers["WWW-Authenticate"] = f'{scheme} realm="bankhub"{error}'
    return answer


def _json(value: Any, status: int = 200, *, cache_s: int = 0) -> web.Response:
    headers = {"Cache-Control": f"public, max-age={cache_s}" if cache_s else "no-store"}
    return web.Response(
        status=status, body=orjson.dumps(value), content_type="application/json", headers=headers
    )
