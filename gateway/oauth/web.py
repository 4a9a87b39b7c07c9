"""HTTP in and out of the flows. What is decided is decided there; here are parameters, headers and cookies."""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import unquote_plus, urlencode

import orjson
from aiohttp import web
from aiohttp.web_request import BaseRequest
from pydantic import SecretStr

from core.access import SECOND_FACTOR
from core.actions import Command
from core.context import Source
from core.dpop import BadProof
from core.errors import BankhubError, Conflict, Forbidden, Invalid, TooManyRequests, Unauthenticated
from core.telemetry import Trace
from gateway.answers import Refusal as HttpRefusal
from gateway.answers import read_body
from gateway.http import Handler
from gateway.oauth import cookies, metadata, pages
from gateway.oauth.authorize import STALE
from gateway.oauth.commands import (
    SENT,
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
from gateway.oauth.sealing import Interaction, unseal
from gateway.sessions.tries import PAGE

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

SENT_TO: Final = frozenset({metadata.AUTHORIZE, metadata.LOGOUT})
"""Paths that pages of any origin may send a browser to with a form: a POST there does nothing but go on to the GET."""

_QUERY_BYTES: Final = 6000  # of an address that every server takes

_FORM: Final = "application/x-www-form-urlencoded"
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CLIENT_ID: Final = re.compile(r"[0-9]{1,19}")
_WAYS: Final = ("totp", "sms", "recovery")  # of second factors, the best first
_HOW: Final = 'Bearer realm="bankhub", DPoP algs="ES256"'
_STEPS: Final = ("login", "factor", *_WAYS, "restart", "other", "select", "allow", "deny")
_BY: Final = {"totp": "pwd otp mfa", "sms": "pwd sms mfa", "recovery": "pwd mfa"}
"""The claim amr (RFC 8176, which has no word for recovery codes) after a second factor."""
_OURS: Final = ("login", "factor", *_WAYS)  # steps that are about logging in


class SecondFactor(Exception):
    """The password was right and is half of it."""

    def __init__(self, ticket: str, ways: tuple[str, ...], until_ms: int) -> None:
        self.ticket, self.ways, self.until_ms = ticket, ways, until_ms
        super().__init__()


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
            ("POST", metadata.AUTHORIZE): self._posted,
            ("POST", pages.PAGE): self._page,
            ("GET", metadata.LOGOUT): self._logout,
            ("POST", metadata.LOGOUT): self._posted,
            ("POST", pages.LEAVE): self._logout,
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

    async def _posted(self, request: BaseRequest, trace: Trace) -> web.Response:
        """A page of an app sends a browser here with a form (OpenID Connect Core, 3.1.2.1): the same as with a link.

        Nothing is done for a POST, whoever it is of, and no cookie is looked at."""
        try:
            given = urlencode(await self._form(request))
        except Refusal:
            return self._show(request, Shown(kind="error", message="请求参数有误。"))
        if len(given) > _QUERY_BYTES:
            return self._show(request, Shown(kind="error", message="请求参数过长。"))
        return web.Response(status=303, headers={"Location": f"{request.rel_url.raw_path}?{given}"})

    async def _page(self, request: BaseRequest, trace: Trace) -> web.Response:
        given, cookie = await self._posted_page(request), cookies.read(request, cookies.LOGIN)
        step: Any = given.get("step")
        sealed, now_ms = given.get("page", ""), self._runtime.clock.now_ms()
        page = None if cookie is None else unseal(self._oauth.page_secret, sealed, cookie, now_ms)
        if page is None or cookie is None or step not in _STEPS:
            return self._show(request, Shown(kind="error", message=STALE))
        change, notice = await self._answered(request, trace, page, step, given)
        answer = Proceed(
            sealed=sealed, cookie=cookie, step=step if step not in _OURS else "again",
            enterprise_id=client_id_of(given.get("enterprise")),
        )  # fmt: skip
        shown = await self._call(request, trace, answer.model_copy(update=change))
        if shown.kind == "login" and "login" in given:
            shown = shown.model_copy(update={"login_hint": given["login"][:64]})
        return self._show(request, shown, notice)

    async def _answered(
        self, request: BaseRequest, trace: Trace, page: Interaction, step: str, given: dict[str, str]
    ) -> tuple[dict[str, Any], str]:
        """What an answer about logging in has come to, and what the next page says of it."""
        if step not in _OURS:
            return {}, ""
        try:
            if step == "login":
                return await self._login(request, trace, page, given), ""
            if step == "factor":
                return await self._second(request, trace, page, given), ""
            if step not in page.ways:
                return {}, ""
            return {"step": "way", "way": step}, await self._sent(request, trace, page.ticket, step)
        except SecondFactor as half:
            if not half.ways:
                return {}, "此账号必须两步验证，但还没有可用的方式，请联系本行或企业管理员"
            way = half.ways[0]
            update: dict[str, Any] = {
                "step": "half",
                "ticket": SecretStr(half.ticket),
                "ways": half.ways,
                "way": way,
            }
            update["ticket_until_ms"] = half.until_ms
            return update, await self._sent(request, trace, half.ticket, way)
        except (TooManyRequests, Unauthenticated, Forbidden, Conflict, Invalid) as error:
            if (error.detail or {}).get("code") == "login_again":
                return {"step": "restart"}, "等待验证的时间过长，请重新输入密码"
            return {}, _notice(error, factor=step != "login")

    async def _posted_page(self, request: BaseRequest) -> dict[str, str]:
        """What a form of ours says. The edge has refused foreign origins; a browser that posts always names one."""
        if "Origin" not in request.headers:
            raise Forbidden("a form is posted by a page of ours")
        try:
            return await self._form(request)
        except Refusal as refusal:
            raise Forbidden(refusal.description) from None

    async def _login(
        self, request: BaseRequest, trace: Trace, page: Interaction, given: dict[str, str]
    ) -> dict[str, Any]:
        """The session that begins with a password. Raises `SecondFactor` where that is half of it."""
        fields = {
            "login": given.get("login", "")[:64] or "-",
            "password": given.get("password", "")[:128] or "-",
            "second_factor": page.request.least_acr >= SECOND_FACTOR,
        }
        try:
            return await self._begun(request, trace, "gateway.identity.login", fields, "pwd")
        except Unauthenticated as error:
            detail: dict[str, Any] = error.detail or {}
            if detail.get("code") != "second_factor_required":
                raise
            ways = tuple(one for one in _WAYS if one in detail["ways"])
            raise SecondFactor(detail["ticket"], ways, detail["expires_ms"]) from None

    async def _second(
        self, request: BaseRequest, trace: Trace, page: Interaction, given: dict[str, str]
    ) -> dict[str, Any]:
        """The session that begins with the second factor."""
        if not page.ticket or self._runtime.clock.now_ms() >= page.ticket_until_ms:
            raise Unauthenticated(detail={"code": "login_again"})
        code = given.get("code", "")
        if page.way != "recovery":
            code = "".join(code.split())
        fields = {"ticket": page.ticket, "way": page.way, "code": code}
        return await self._begun(request, trace, "gateway.factors.complete_login", fields, _BY[page.way])

    async def _begun(
        self, request: BaseRequest, trace: Trace, action: str, fields: dict[str, Any], amr: str
    ) -> dict[str, Any]:
        fields = fields | {"device": self._device(request), "platform": "browser"}
        answer = await self._runtime.calls.perform(
            action, fields, principal=None, source=self._source(request, PAGE), trace=trace
        )
        who = self._tokens.verify(answer.value["access_token"])
        return {"step": "login", "session_id": who.session_id, "acr": who.acr, "amr": amr}

    def _device(self, request: BaseRequest) -> str:
        """The browser by its cookie, which cannot be found from it; one that has none yet is new each time."""
        cookie = cookies.read(request, cookies.DEVICE) or self._runtime.rng.token()
        return f"web-{digest(cookie).hex()[:20]}"

    async def _sent(self, request: BaseRequest, trace: Trace, ticket: str, way: str) -> str:
        """Send a code, where that is the way; what the page says of it."""
        if way != "sms":
            return ""
        fields = {"ticket": ticket, "device": self._device(request)}
        try:
            await self._runtime.calls.perform(
                "gateway.factors.send_login_code",
                fields,
                principal=None,
                source=self._source(request, PAGE),
                trace=trace,
            )
        except TooManyRequests as error:
            return _notice(error)
        return SENT

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
        headers: Mapping[str, str] = {}
        try:
            given = await self._form(request)
            asked = command(_proof(request, given), given, await self._key(request))
            reply = await self._call(request, trace, asked)
        except Refusal as refusal:
            if refusal.status == 401 or refusal.error == "invalid_dpop_proof":
                self._note(request, trace, refusal.error)
            reply = _refused(refusal)
        except (HttpRefusal, BankhubError) as error:
            reply, headers = _failed(error)
        answer = _replied(reply, "Basic" if "Authorization" in request.headers else None)
        answer.headers.update(headers)
        return answer

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
        if not given:  # RFC 6750, 3.1: who says nothing is told nothing but how
            how = {"WWW-Authenticate": _HOW, "Cache-Control": "no-store"}
            return web.Response(status=401, headers=how)
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        token, proofs = token.strip(), request.headers.getall("DPoP", [])
        try:
            await self._oauth.tokens.admit(scheme, token, proofs, request.method, request.rel_url.raw_path)
        except Unauthenticated as error:
            kind = "invalid_dpop_proof" if isinstance(error, BadProof) else "invalid_token"
            self._note(request, trace, kind)
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

    def _note(self, request: BaseRequest, trace: Trace, outcome: str) -> None:
        """Have a refusal recorded that no action was asked for."""
        what = "gateway.oauth." + request.rel_url.raw_path.rpartition("/")[2]  # one of our routes
        self._runtime.refusals.note(what, outcome, self._source(request), trace_id=trace.trace_id)

    def _source(self, request: BaseRequest, edge: str = "http") -> Source:
        return Source(self.address_of(request), edge, request.headers.get("User-Agent", "")[:200])


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


def _notice(error: BankhubError, *, factor: bool = False) -> str:
    if isinstance(error, TooManyRequests):
        wait_s = max(1, -(-(error.retry_ms or 1000) // 1000))
        return f"尝试次数过多，请 {wait_s} 秒后再试"
    if isinstance(error, Conflict):
        return "此账号在其他设备上的登录过多，请先退出一个"
    if isinstance(error, Unauthenticated | Invalid):
        return "验证码不正确或已失效" if factor else "账号或密码不正确"
    return "此账号暂时无法登录"


def _failed(error: HttpRefusal | BankhubError) -> tuple[Reply, Mapping[str, str]]:
    """What is not about OAuth, in the form that OAuth clients read."""
    inner = error.error if isinstance(error, HttpRefusal) else error
    status = error.status if isinstance(error, HttpRefusal) else inner.http_status
    headers = dict(error.headers) if isinstance(error, HttpRefusal) else {}
    if inner.retry_ms is not None:
        headers["Retry-After"] = str(max(1, -(-inner.retry_ms // 1000)))
    later = status >= 500 or isinstance(inner, TooManyRequests)
    kind = "invalid_request" if not later else "server_error" if status == 500 else "temporarily_unavailable"
    return _refused(Refusal(kind, inner.message, status)), headers


def _refused(refusal: Refusal) -> Reply:
    body = {"error": refusal.error, "error_description": refusal.description}
    return Reply(status=refusal.status, body=body)


def _replied(reply: Reply, scheme: str | None) -> web.Response:
    answer = _json(reply.body, reply.status) if reply.body is not None else web.Response(status=reply.status)
    answer.headers["Pragma"] = "no-cache"
    answer.headers.setdefault("Cache-Control", "no-store")
    if reply.status in (401, 403) and scheme is not None:
        error = "" if scheme == "Basic" or reply.body is None else f', error="{reply.body["error"]}"'
        error += ', algs="ES256"' if scheme == "DPoP" else ""
        answer.headers["WWW-Authenticate"] = f'{scheme} realm="bankhub"{error}'
    return answer


def _json(value: Any, status: int = 200, *, cache_s: int = 0) -> web.Response:
    headers = {"Cache-Control": f"public, max-age={cache_s}" if cache_s else "no-store"}
    return web.Response(
        status=status, body=orjson.dumps(value), content_type="application/json", headers=headers
    )
