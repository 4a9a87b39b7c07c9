"""The receiving end of calls between processes: POST /internal/v1/<action>, msgpack, a service token each.

It listens on its own port (``BANKHUB_INTERNAL_PORT``), which no proxy of the DMZ reaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiohttp import web

from core.calls import CONTENT_TYPE, PATH, REPLAYED, read_up_to
from core.codec import pack, unpack
from core.context import Source
from core.dispatch import Call, Dispatcher
from core.errors import BankhubError, Invalid, Unauthenticated
from core.telemetry import new_trace, parse_trace
from core.tokens import ServiceCall, ServiceTokens
from core.values import WIRE

if TYPE_CHECKING:
    from core.runtime import Runtime
    from core.service import Service


class InternalServer:
    """Listens for other processes of this installation."""

    def __init__(
        self, runtime: Runtime, dispatcher: Dispatcher, tokens: ServiceTokens, services: Mapping[str, Service]
    ) -> None:
        self._runtime = runtime
        self._dispatcher = dispatcher
        self._tokens = tokens
        self._services = services
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._runner is not None, "it listens after start"
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Listen. Raises `OSError` when the port is taken."""
        settings = self._runtime.settings
        app = web.Application()
        app.router.add_post(PATH + "{action}", self._handle)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=settings.call_timeout_s, keepalive_timeout=75.0
        )
        await self._runner.setup()
        await web.TCPSite(
            self._runner, settings.internal_host, settings.internal_port, reuse_port=True
        ).start()

    async def stop(self) -> None:
        """Stop listening, let running calls finish."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            return await self._answer(request)
        except BankhubError as error:
            refusal = {
                "code": error.code,
                "message": error.message,
                "detail": error.detail,
                "retry_ms": error.retry_ms,
                "replayed": error.replayed,
            }
            return web.Response(status=error.http_status, body=pack(refusal), content_type=CONTENT_TYPE)

    async def _answer(self, request: web.Request) -> web.Response:
        runtime, name = self._runtime, request.match_info["action"]
        try:
            vouched, body = await self._vouched(request, name)
        except Unauthenticated as error:
            runtime.refusals.note("core.calls.receive", error.code, Source(request.remote or "", "internal"))
            raise
        call = Call(
            principal=vouched.principal,
            deadline=runtime.clock.monotonic_s() + vouched.deadline_s,
            trace=parse_trace(vouched.traceparent) or new_trace(runtime.rng),
            source=Source(*vouched.source),
            key=vouched.key,
            internal=vouched.internal,
            step_up=vouched.step_up,
        )
        fields = unpack(body)
        outcome = await self._dispatcher.run(name, fields if isinstance(fields, dict) else {"": fields}, call)
        action = runtime.registry.get(name)
        value = action.command.result.dump_python(outcome.result, context=WIRE)
        headers = {REPLAYED: "true"} if outcome.replayed else None
        return web.Response(body=pack(value), content_type=CONTENT_TYPE, headers=headers)

    async def _vouched(self, request: web.Request, name: str) -> tuple[ServiceCall, bytes]:
        """What the token says of this very body, and the body. Raises `Unauthenticated` and `Invalid`."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            raise Unauthenticated("a service token is missing")
        limit = self._runtime.settings.call_body_bytes
        if (request.content_length or 0) > limit:
            raise Invalid("the request is too large")
        body = await read_up_to(request.content, limit)
        if body is None:
            raise Invalid("the request is too large")
        service = name.partition(".")[0]
        vouched = self._tokens.verify(token, service, name, body)
        if service not in self._services:
            raise Unauthenticated("the service token is for another process")
        return vouched, body
