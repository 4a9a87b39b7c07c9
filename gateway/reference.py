"""What the gateway says about itself: openapi.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web
from aiohttp.web_request import BaseRequest

from core.telemetry import Trace
from gateway import openapi

if TYPE_CHECKING:
    from core.runtime import Runtime
    from gateway.http import Handler


class Reference:
    """See the module. Made when it is first asked for, then kept."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._document: bytes | None = None
        self.routes: dict[tuple[str, str], Handler] = {("GET", "/openapi.json"): self._openapi}

    async def _openapi(self, request: BaseRequest, trace: Trace) -> web.Response:
        if self._document is None:
            made = openapi.document(self._runtime.registry.public(), version="1")
            self._document = orjson.dumps(made)
        return web.Response(body=self._document, content_type="application/json")
