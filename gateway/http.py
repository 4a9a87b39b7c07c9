"""The HTTP edge: POST /v1/<action>, and the routes of features: (method, path) as they are, nothing is rewritten.

Every answer carries a trace id and the security headers; every refusal is problem details (RFC 9457). Callers prove
who they are by `Authorization: Bearer` only: without cookies there is no cross-site request forgery. A request for
a host that is not ours is not answered, so a page whose name was made to point here gets nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from aiohttp import HttpVersion10, web
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict

from core.actions import ID_MAX, PUBLIC, Principal
from core.addresses import Asked, Hosts, Origins, Proxies
from core.calls import REPLAYED
from core.context import Source
from core.doors import Door, Visit
from core.dpop import BadProof
from core.errors import BankhubError, Forbidden, Internal, Invalid, NotFound, TooManyRequests, Unauthenticated
from core.limits import CallerLimits, headers
from core.telemetry import Trace, new_trace, parse_trace
from core.tokens import Ended
from gateway.answers import ACTION_HEADERS, HEADERS, JSON, Refusal, finished, plain, read_body, refused
from gateway.credentials import Credentials
from gateway.probes import HOSTLESS, Probes
from gateway.reference import Reference

if TYPE_CHECKING:
    from core.runtime import Runtime
    from core.tokens import AccessTokens
    from gateway.oauth.tokens import AppTokens

log = structlog.get_logger(__name__)

ACTIONS: Final = "/v1/"
_UNKNOWN: Final = "gateway.unknown"  # what the audit calls an action that is not there
_KEY: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
_CHALLENGE: Final = re.compile(r"[1-9][0-9]{0,18}")
_DEADLINE: Final = re.compile(r"[1-9][0-9]{0,6}")

Handler = Callable[[BaseRequest, Trace], Awaitable[web.Response]]
"""Answers one (method, path); its own headers win over the edge's, its errors become problem details."""

_EXPOSED: Final = "Trace-Id, Idempotent-Replayed, Retry-After, RateLimit, RateLimit-Policy"
_ALLOWED: Final = "authorization, content-type, deadline-ms, dpop, idempotency-key, step-up, traceparent"
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": _ALLOWED,
    "Access-Control-Max-Age": "600",
}


class Edge:
    """Turns HTTP requests into calls and answers. One instance a process."""

    def __init__(
        self,
        runtime: Runtime,
        tokens: AccessTokens,
        routes: Mapping[tuple[str, str], Handler] | None = None,
        *,
        shared: Collection[str] = (),
        sent_to: Collection[str] = (),
        apps: AppTokens | None = None,
        doors: Collection[Door] = (),
    ) -> None:
        """`routes`: what features serve, by method and path. Pages of any origin may call the `shared` paths, which
        must not look at cookies, and may send a browser to `sent_to` with a form, which must do nothing by itself.
        `apps` knows the tokens of apps that are not ours, for actions only. Behind `doors` bytes stream."""
        settings = runtime.settings
        probes = Probes(runtime).routes
        self._routes = {**probes, **Reference(runtime).routes, **(routes or {})}
        self._unlimited = frozenset(path for _, path in probes)
        self._shared = frozenset(shared)
        self._sent_to = frozenset(sent_to)
        self._doors = tuple(doors)
        self._apart = tuple(door.apart for door in doors if door.apart is not None)
        self._runtime = runtime
        self._tokens = tokens
        self._apps = apps
        self._credentials = Credentials(runtime, tokens, apps)
        self._limits = CallerLimits(runtime.limits, settings)
        self._origins = Origins(settings.gateway_origins)
        self._hosts = Hosts(settings.gateway_hosts)
        self._head_bytes = settings.gateway_header_bytes
        self._proxies = Proxies(settings.gateway_trusted_proxies)

    async def handle(self, request: BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever happens."""
        if request.version < HttpVersion10:
            return self.malformed(400)
        trace = parse_trace(request.headers.get("traceparent")) or new_trace(self._runtime.rng)
        allowed: dict[str, str] = {}  # also on refusals: a page that may call may read why not
        answer: web.StreamResponse
        try:
            asked = self._asked(request)
            allowed = self._cors(request, asked, trace)
            door = self._door(request.rel_url.raw_path)
            if door is not None:
                answer = await self._behind(door, request, asked, allowed, trace)
                if answer.prepared:  # its head has gone, with everything in it
                    return answer
            else:
                answer = await self._route(request, asked, trace)
        except Refusal as refusal:
            answer = refused(refusal.error, trace, refusal.status)
            answer.headers.update(refusal.headers)
            if "Connection" in refusal.headers:
                answer.force_close()  # the header alone closes nothing
        except BankhubError as error:
            answer = refused(error, trace)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("http.failed")
            answer = refused(Internal(), trace)
        if allowed:
            answer.headers.update(allowed)
        return finished(answer, trace)

    def malformed(self, status: int) -> web.Response:
        """The answer to bytes that are not a request, or to a fault outside `handle`."""
        trace = new_trace(self._runtime.rng)
        error: BankhubError = Internal() if status >= 500 else Invalid("this is not a valid HTTP request")
        return finished(refused(error, trace, status), trace)

    # --- routing ------------------------------------------------------------------------------------------------------

    async def _route(self, request: BaseRequest, asked: Asked, trace: Trace) -> web.Response:
        path = request.rel_url.raw_path
        if path.startswith(ACTIONS):
            if request.method == "OPTIONS":
                return web.Response(status=204, headers=_PREFLIGHT)
            if request.method != "POST":
                raise Refusal(405, Invalid("actions are called with POST"), {"Allow": "POST"})
            return await self._action(request, path.removeprefix(ACTIONS), asked, trace)
        if route := self._routes.get(("GET" if request.method == "HEAD" else request.method, path)):
            if path not in self._unlimited:
                with self._noting(
                    "gateway" + path.replace("/", "."), Source(asked.address, "http"), None, trace
                ):
                    await self._limits.address(asked.address)
                return await route(request, trace)
            try:
                return await route(request, trace)
            except Unauthenticated as error:
                self._refused(
                    "gateway" + path.replace("/", "."), error, Source(asked.address, "http"), None, trace
                )
                raise
        if methods := [method for method, known in self._routes if known == path]:
            if request.method == "OPTIONS" and path in self._shared:
                return web.Response(status=204, headers=_PREFLIGHT)
            raise Refusal(405, Invalid("not with this method"), {"Allow": ", ".join(sorted(methods))})
        raise NotFound

    def _door(self, path: str) -> Door | None:
        return next((door for door in self._doors if path.startswith(door.prefix)), None)

    async def _behind(
        self, door: Door, request: BaseRequest, asked: Asked, allowed: dict[str, str], trace: Trace
    ) -> web.StreamResponse:
        """What a door answers; who calls is known then, or nobody says so."""
        if allowed and door.exposed:
            allowed["Access-Control-Expose-Headers"] = ", ".join((_EXPOSED, *door.exposed))
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            given = {
                "Access-Control-Allow-Methods": ", ".join(door.methods),
                "Access-Control-Allow-Headers": ", ".join((_ALLOWED, *door.allowed)),
            }
            return web.Response(status=204, headers=_PREFLIGHT | given)
        source = Source(asked.address, "http", request.headers.get("User-Agent", "")[:200])
        with self._noting(door.name, source, None, trace):
            await self._limits.address(asked.address)
        try:
            principal, proved = await self._credentials.read(request, asked, anybody=False)
        except (Unauthenticated, Forbidden) as error:
            self._refused(door.name, error, source, None, trace)
            raise
        if principal is not None:
            with self._noting(door.name, source, principal, trace):
                await self._limits.caller(principal)
        visit = Visit(
            request=request,
            path=request.rel_url.raw_path.removeprefix(door.prefix),
            origin=f"{asked.scheme}://{asked.host}",
            principal=principal,
            source=source._replace(key=proved),
            trace=trace,
            headers={**HEADERS, **allowed, "Trace-Id": trace.trace_id},
        )
        try:
            return await door.handle(visit)
        except BankhubError as error:
            answer = refused(error, trace)
            answer.headers.update(visit.on_refusal)
            return answer

    def _cors(self, request: BaseRequest, asked: Asked, trace: Trace) -> dict[str, str]:
        """Headers for a page of another origin that may call us; a page that may not is refused."""
        given = request.headers.getall("Origin", ())
        if not given:
            return {}
        origin = given[0] if len(given) == 1 else ""
        if self._origins.lists(origin) or self._page_of_app(request, asked):
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
        if self._origins.own(origin, asked):
            return {}
        if request.method == "POST" and request.rel_url.raw_path in self._sent_to:
            return {}
        error = Forbidden("this origin may not call")
        self._refused("gateway.origin", error, Source(asked.address, "http"), None, trace)
        raise Refusal(403, error, {"Vary": "Origin"})

    def _page_of_app(self, request: BaseRequest, asked: Asked) -> str | None:
        """The origin, where a micro app's page calls an action and the page is none of ours."""
        origin = request.headers.get("Origin")
        if origin is None or self._apps is None or not request.rel_url.raw_path.startswith(ACTIONS):
            return None
        return origin if origin in self._apps.origins and not self._origins.may_call(origin, asked) else None

    # --- actions ------------------------------------------------------------------------------------------------------

    async def _action(self, request: BaseRequest, name: str, asked: Asked, trace: Trace) -> web.Response:
        action = self._runtime.registry.actions.get(name)
        what = name if action is not None else _UNKNOWN
        source = Source(asked.address, "http", request.headers.get("User-Agent", "")[:200])
        with self._noting(what, source, None, trace):
            quota = await self._limits.address(asked.address)
        key = request.headers.get("Idempotency-Key")
        if key is not None and not _KEY.fullmatch(key):
            raise Invalid("an Idempotency-Key has 1 to 64 characters of 0-9 A-Z a-z _ -")
        anybody = action is not None and action.needs is PUBLIC
        principal = None
        try:
            principal, proved = await self._credentials.read(request, asked, anybody=anybody)
            page = self._page_of_app(request, asked)
            if page is not None and self._apps is not None:
                self._apps.check_page(page, principal)
        except (Unauthenticated, Forbidden) as error:
            self._refused(what, error, source, principal, trace)
            raise
        if principal is not None:
            with self._noting(what, source, principal, trace):
                quota = await self._limits.caller(principal)
        fields = await self._json(request)
        answer = await self._runtime.calls.perform(
            name,
            fields,
            principal=principal,
            source=source._replace(key=proved),
            deadline_s=self._deadline_s(request),
            key=key,
            trace=trace,
            step_up=_challenge(request),
        )
        given = CIMultiDict(ACTION_HEADERS)
        given.update(headers(quota))
        if answer.replayed:
            given[REPLAYED] = "true"
        return web.Response(body=orjson.dumps(answer.value, default=plain), headers=given)

    @contextmanager
    def _noting(self, what: str, source: Source, who: Principal | None, trace: Trace) -> Iterator[None]:
        """Who asks too much is on record too: the first time, then counted."""
        try:
            yield
        except TooManyRequests as error:
            self._refused(what, error, source, who, trace)
            raise

    def _refused(
        self, what: str, error: BankhubError, source: Source, who: Principal | None, trace: Trace
    ) -> None:
        """Have it recorded: no action has begun that would."""
        outcome = error.code
        if isinstance(error, BadProof):
            outcome, who = "bad_proof", error.holder
        elif isinstance(error, Ended):
            outcome, who = error.outcome, error.holder
        self._runtime.refusals.note(what, outcome, source, who=who, trace_id=trace.trace_id)

    def _deadline_s(self, request: BaseRequest) -> float:
        most_s = self._runtime.settings.call_timeout_s
        given = request.headers.get("Deadline-Ms")
        if given is None:
            return most_s
        if not _DEADLINE.fullmatch(given):
            raise Invalid("Deadline-Ms is a number of milliseconds")
        return min(most_s, int(given) / 1000)

    async def _json(self, request: BaseRequest) -> dict[str, Any]:
        body = await read_body(request, self._runtime.settings, JSON)
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Refusal(400, Invalid("the body is not JSON")) from None
        if not isinstance(fields, dict):
            raise Refusal(400, Invalid("the body is a JSON object"))
        return fields

    # --- who asked, and for which host ----------------------------------------------------------------------------

    def _asked(self, request: BaseRequest) -> Asked:
        """The request as its client made it. Raises a refusal where it is for nobody here, or for two at once."""
        given = request.headers
        if sum(len(name) + len(value) for name, value in request.raw_headers) > self._head_bytes:
            raise Refusal(431, Invalid("the head of the request is too large"), {"Connection": "close"})
        hosts = given.getall("Host", ())
        if len(hosts) != 1 and (hosts or request.version > HttpVersion10):
            raise Refusal(400, Invalid("one Host, please"), {"Connection": "close"})
        if not request.raw_path.startswith("/") or "#" in request.raw_path:
            raise Refusal(400, Invalid("the target of a request is a path"), {"Connection": "close"})
        peer, host = request.remote or "", hosts[0] if hosts else ""
        asked = Asked(peer, "http", host)
        if self._proxies.trusts(peer):
            asked = self._proxies.asked(
                peer,
                host,
                forwarded_for=given.getall("X-Forwarded-For", ()),
                forwarded=given.getall("Forwarded", ()),
                proto=given.getall("X-Forwarded-Proto", ()),
                forwarded_host=given.getall("X-Forwarded-Host", ()),
            )
        path = request.rel_url.raw_path
        if not self._serves(asked.host, path) and path not in HOSTLESS:
            raise Refusal(421, Invalid("this host is not served here"))
        return asked

    def _serves(self, host: str, path: str) -> bool:
        """Whether this host answers this path: some hosts are for some paths alone."""
        for own, prefix in self._apart:
            if (host.lower() == own) or path.startswith(prefix):
                return host.lower() == own and path.startswith(prefix)
        return self._hosts.serves(host)

    def address_of(self, request: BaseRequest) -> str:
        """The client's address: what the nearest trusted proxies say, never what the client says."""
        return self._asked(request).address


def _challenge(request: BaseRequest) -> int | None:
    given = request.headers.get("Step-Up")
    if given is None:
        return None
    if not _CHALLENGE.fullmatch(given) or int(given) > ID_MAX:
        raise Invalid("Step-Up is the decimal id of a challenge")
    return int(given)
