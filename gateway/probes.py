"""What machines ask of a gateway: is it alive, is it ready, its metrics."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.web_request import BaseRequest

from core.addresses import FORWARDING
from core.errors import BankhubError, NotFound, Unauthenticated
from core.telemetry import Trace, render_metrics

if TYPE_CHECKING:
    from core.runtime import Runtime
    from gateway.http import Handler

HOSTLESS: Final = frozenset({"/livez", "/readyz"})
"""What an orchestrator asks by the address of the pod: answered whatever the Host, and telling nothing."""
_READY_S: Final = 1.0  # a probe that takes longer counts as not ready; one answer serves a second


class Probes:
    """See the module."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._ready: tuple[float, str | None] = (-_READY_S, "starting")
        self.routes: dict[tuple[str, str], Handler] = {
            ("GET", "/livez"): self._livez,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/metrics"): self._metrics,
        }

    async def _livez(self, request: BaseRequest, trace: Trace) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: BaseRequest, trace: Trace) -> web.Response:
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

    async def _metrics(self, request: BaseRequest, trace: Trace) -> web.Response:
        token = self._runtime.settings.gateway_metrics_token
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token is not None:
            secret = token.get_secret_value().encode()
            if not hmac.compare_digest(given.encode(errors="surrogateescape"), secret):
                raise Unauthenticated("the metrics token, please")
        elif not FORWARDING.isdisjoint(name.lower() for name in request.headers) or not _is_loopback(
            request.remote
        ):
            raise NotFound
        return web.Response(body=render_metrics(), headers={"Content-Type": "text/plain; version=0.0.4"})


def _is_loopback(address: str | None) -> bool:
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
