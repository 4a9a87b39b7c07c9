"""The HTTP edge: POST /v1/<action>, GET /openapi.json, /livez, /readyz, /metrics, and the routes of features.

Every answer carries a trace id and the security headers; every refusal is problem details (RFC 9457). Callers prove
who they are by `Authorization: Bearer` only: without cookies there is no cross-site request forgery.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson
import structlog
from aiohttp import HttpVersion10, web
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict

from core.actions import PUBLIC, Principal
from core.addresses import Proxies
from core.calls import REPLAYED, read_up_to
from core.context import Source
from core.errors import BankhubError, Forbidden, Internal, Invalid, NotFound, Unauthenticated, problem
from core.limits import CallerLimits, Exhausted, headers
from core.telemetry import Trace, new_trace, parse_trace, render_metrics
from gateway import openapi

if TYPE_CHECKING:
    from core.runtime import Runtime
    from core.settings import Settings
    from core.tokens import AccessTokens
    from gateway.oauth.tokens import AppTokens

log = structlog.get_logger(__name__)

ACTIONS: Final = "/v1/"
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_KEY: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
_DEADLINE: Final = re.compile(r"[1-9][0-9]{0,6}")
_READY_S: Final = 1.0  # a probe that takes longer counts as not ready; one answer serves a second

_HEADERS: Final = {
    "Server": "bankhub",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), camera=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ACTION_HEADERS: Final = CIMultiDict({**_HEADERS, "Content-Type": _JSON})
Handler = Callable[[BaseRequest, Trace], Awaitable[web.Response]]
"""Answers one (method, path); its own headers win over the edge's, its errors become problem details."""

_EXPOSED: Final = "Trace-Id, Idempotent-Replayed, Retry-After, RateLimit, RateLimit-Policy"
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "authorization, content-type, deadline-ms, dpop, idempotency-key, traceparent",
    "Access-Control-Max-Age": "600",
}


class _Status(Exception):
    """A refusal with a finer HTTP status than its code has."""

    def __init__(self, status: int, error: BankhubError, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.error = error
        self.headers = headers or {}
        super().__init__(status)


class Edge:
    """Turns HTTP requests into calls and answers. One instance a process."""

    def __init__(
        self,
        runtime: Runtime,
        tokens: AccessTokens,
        routes: Mapping[tuple[str, str], Handler] | None = None,
        *,
        shared: Collection[str] = (),
        apps: AppTokens | None = None,
    ) -> None:
        """`routes`: what features serve, by method and path. Pages of any origin may call the `shared` paths, which
        must not look at cookies. `apps` knows the tokens of apps that are not ours, for actions only."""
        settings = runtime.settings
        self._routes = dict(routes or {})
        self._shared = frozenset(shared)
        self._apps = apps
        self._runtime = runtime
        self._tokens = tokens
        self._limits = CallerLimits(runtime.limits, settings)
        self._origins = frozenset(settings.gateway_origins)
        self._proxies = Proxies(settings.gateway_trusted_proxies)
        self._document: bytes | None = None
        self._ready: tuple[float, str | None] = (-_READY_S, "starting")
        self._gets: dict[str, Callable[[BaseRequest], Awaitable[web.Response]]] = {
            "/openapi.json": self._openapi,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
        }

    async def handle(self, request: BaseRequest) -> web.Response:
        """Answer one request, whatever happens."""
        if request.version < HttpVersion10:
            return self.malformed(400)
        trace = parse_trace(request.headers.get("traceparent")) or new_trace(self._runtime.rng)
        try:
            allowed = self._cors(request)
            answer = await self._route(request, trace)
            answer.headers.update(allowed)
        except _Status as refusal:
            answer = refused(refusal.error, trace, refusal.status)
            answer.headers.update(refusal.headers)
        except BankhubError as error:
            answer = refused(error, trace)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("http.failed")
            answer = refused(Internal(), trace)
        return finished(answer, trace)

    def malformed(self, status: int) -> web.Response:
        """The answer to bytes that are not a request, or to a fault outside `handle`."""
        trace = new_trace(self._runtime.rng)
        error: BankhubError = Internal() if status >= 500 else Invalid("this is not a valid HTTP request")
        return finished(refused(error, trace, status), trace)

    # --- routing ------------------------------------------------------------------------------------------------------

    async def _route(self, request: BaseRequest, trace: Trace) -> web.Response:
        path = request.rel_url.raw_path
        if path.startswith(ACTIONS):
            if request.method == "OPTIONS":
                return web.Response(status=204, headers=_PREFLIGHT)
            if request.method != "POST":
                raise _Status(405, Invalid("actions are called with POST"), {"Allow": "POST"})
            return await self._action(request, path.removeprefix(ACTIONS), trace)
        if route := self._routes.get(("GET" if request.method == "HEAD" else request.method, path)):
            await self._limits.address(self.address_of(request))
            return await route(request, trace)
        if methods := [method for method, known in self._routes if known == path]:
            if request.method == "OPTIONS" and path in self._shared:
                return web.Response(status=204, headers=_PREFLIGHT)
            raise _Status(405, Invalid("not with this method"), {"Allow": ", ".join(sorted(methods))})
        get = self._gets.get(path)
        if get is None:
            raise NotFound
        if request.method not in ("GET", "HEAD"):
            raise _Status(405, Invalid("this is read with GET"), {"Allow": "GET, HEAD"})
        return await get(request)

    def _cors(self, request: BaseRequest) -> dict[str, str]:
        """Headers for a page of another origin that may call us; a page that may not is refused."""
        origin = request.headers.get("Origin")
        if origin is None:
            return {}
        if origin in self._origins:
            return {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Expose-Headers": _EXPOSED,
                "Vary": "Origin",
            }
        if request.rel_url.raw_path in self._shared:
            return {
                "Access-Control-Allow-Origin": "*",
                "Access-Control-Expose-Headers": _EXPOSED,
            }
        if urlsplit(origin).netloc == request.headers.get("Host") and origin.startswith(
            ("https://", "http://")
        ):
            return {}
        raise _Status(403, Forbidden("this origin may not call"), {"Vary": "Origin"})

    # --- actions ------------------------------------------------------------------------------------------------------

    async def _action(self, request: BaseRequest, name: str, trace: Trace) -> web.Response:
        address = self.address_of(request)
        quota = await self._limits.address(address)
        key = request.headers.get("Idempotency-Key")
        if key is not None and not _KEY.fullmatch(key):
            raise Invalid("an Idempotency-Key has 1 to 64 characters of 0-9 A-Z a-z _ -")
        principal = await self._principal(request, name)
        if principal is not None:
            quota = await self._limits.caller(principal)
        fields = await self._json(request)
        answer = await self._runtime.calls.perform(
            name,
            fields,
            principal=principal,
            source=Source(address, "http", request.headers.get("User-Agent", "")[:200]),
            deadline_s=self._deadline_s(request),
            key=key,
            trace=trace,
        )
        given = CIMultiDict(_ACTION_HEADERS)
        given.update(headers([quota]))
        if answer.replayed:
            given[REPLAYED] = "true"
        return web.Response(body=orjson.dumps(answer.value, default=_plain), headers=given)

    async def _principal(self, request: BaseRequest, name: str) -> Principal | None:
        given = request.headers.getall("Authorization", [])
        if not given:
            return None
        action = self._runtime.registry.actions.get(name)
        if action is not None and action.needs is PUBLIC:
            return None  # an old token must not keep anybody from logging in
        scheme, _, token = given[0].partition(" ")
        token = token.strip()
        if len(given) == 1 and self._apps is not None and self._apps.is_ours(token):
            proofs, path = request.headers.getall("DPoP", ()), request.rel_url.raw_path
            return (await self._apps.admit(scheme, token, proofs, request.method, path)).principal
        if len(given) > 1 or scheme.lower() != "bearer":
            raise Unauthenticated("one bearer token, please")
        return self._tokens.verify(token)

    def _deadline_s(self, request: BaseRequest) -> float:
        most_s = self._runtime.settings.call_timeout_s
        given = request.headers.get("Deadline-Ms")
        if given is None:
            return most_s
        if not _DEADLINE.fullmatch(given):
            raise Invalid("Deadline-Ms is a number of milliseconds")
        return min(most_s, int(given) / 1000)

    async def _json(self, request: BaseRequest) -> dict[str, Any]:
        body = await read_body(request, self._runtime.settings, _JSON)
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise _Status(400, Invalid("the body is not JSON")) from None
        if not isinstance(fields, dict):
            raise _Status(400, Invalid("the body is a JSON object"))
        return fields

    def address_of(self, request: BaseRequest) -> str:
        """The client's address: what the nearest trusted proxies say, never what the client says."""
        given = request.headers
        return self._proxies.asked(
            request.remote or "",
            "",
            forwarded_for=given.getall("X-Forwarded-For", ()),
            forwarded=given.getall("Forwarded", ()),
        ).address

    # --- the rest -----------------------------------------------------------------------------------------------------

    async def _openapi(self, request: BaseRequest) -> web.Response:
        if self._document is None:
            made = openapi.document(self._runtime.registry.public(), version="1")
            self._document = orjson.dumps(made)
        return web.Response(body=self._document, content_type=_JSON)

    async def _livez(self, request: BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: BaseRequest) -> web.Response:
        now_s = self._runtime.clock.monotonic_s()
        if now_s - self._ready[0] >= _READY_S:
            self._ready = (now_s, await self._not_ready())
        why = self._ready[1]
        return web.Response(status=503 if why else 200, text=f"{why or 'ok'}\n")

    async def _not_ready(self) -> str | None:
        # the bus is not asked for: without it everything is later, nothing is lost
        try:
            async with asyncio.timeout(_READY_S):
                async with self._runtime.db.transaction():
                    return None
        except (BankhubError, TimeoutError):
            return "the database does not answer"

    async def _metrics(self, request: BaseRequest) -> web.Response:
        token = self._runtime.settings.gateway_metrics_token
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token is not None:
            if not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
                raise Unauthenticated("the metrics token, please")
        elif "X-Forwarded-For" in request.headers or not _is_loopback(request.remote):
            raise NotFound
        return web.Response(body=render_metrics(), headers={"Content-Type": "text/plain; version=0.0.4"})


async def read_body(
    request: BaseRequest, settings: Settings, content_type: str, most_bytes: int | None = None
) -> bytes:
    """The body, if it has this type, is small enough (by default `gateway_body_bytes`) and comes in time.

    Raises refusals with the statuses 408, 413 and 415.
    """
    most_bytes = most_bytes or settings.gateway_body_bytes
    if request.content_type != content_type or (request.charset or "utf-8").lower() != "utf-8":
        raise _Status(415, Invalid(f"the body is {content_type} in UTF-8"))
    if "Content-Encoding" in request.headers:
        raise _Status(415, Invalid("the body is not compressed"))
    too_large = _Status(413, Invalid(f"the body is at most {most_bytes} bytes"))
    if (request.content_length or 0) > most_bytes:
        raise too_large
    if request.content.is_eof():  # all of it came with the head
        whole = request.content.read_nowait()
        if len(whole) > most_bytes:
            raise too_large
        return whole
    try:
        async with asyncio.timeout(settings.gateway_body_timeout_s):
            body = await read_up_to(request.content, most_bytes)
    except TimeoutError:
        raise _Status(408, Invalid("the body came too slowly"), {"Connection": "close"}) from None
    if body is None:
        raise too_large
    return body


def refused(error: BankhubError, trace: Trace, status: int | None = None) -> web.Response:
    """Problem details of an error."""
    body = problem(error, trace_id=trace.trace_id, status=status)
    answer = web.Response(
        status=status or error.http_status, body=orjson.dumps(body, default=str), content_type=_PROBLEM
    )
    if error.replayed:
        answer.headers[REPLAYED] = "true"
    if error.retry_ms is not None:
        answer.headers["Retry-After"] = str(max(1, -(-error.retry_ms // 1000)))
    if isinstance(error, Exhausted):
        answer.headers.update(headers([error.quota]))
    if isinstance(error, Unauthenticated):
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def finished(answer: web.Response, trace: Trace) -> web.Response:
    """The answer with what every answer has."""
    if "Server" not in answer.headers:
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
    answer.headers["Trace-Id"] = trace.trace_id
    return answer


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def _is_loopback(address: str | None) -> bool:
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
