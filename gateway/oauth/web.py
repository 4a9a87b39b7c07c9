"""HTTP in and out of the flows. What is decided is decided there; here are parameters, headers and cookies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web
from aiohttp.web_request import BaseRequest

from core.access import permissions_of
from core.telemetry import Trace
from gateway.http import Handler
from gateway.oauth import metadata

if TYPE_CHECKING:
    from core.runtime import Runtime
    from core.tokens import AccessTokens

SHARED: Final = frozenset(
    {
        metadata.OPENID_CONFIGURATION,
        metadata.AUTHORIZATION_SERVER,
        metadata.JWKS,
    }
)
"""Paths that pages of any origin may call: none of them looks at cookies."""


class Provider:
    """The endpoints of one process."""

    def __init__(self, runtime: Runtime, tokens: AccessTokens) -> None:
        self._runtime = runtime
        self._tokens = tokens
        self.listens_at = ""  # the issuer where none is set

    @property
    def issuer(self) -> str:
        """Who we are to clients: an https URL without a slash at its end."""
        return self._runtime.settings.oauth_issuer or self.listens_at

    @property
    def routes(self) -> dict[tuple[str, str], Handler]:
        """What the edge serves for us."""
        return {
            ("GET", metadata.OPENID_CONFIGURATION): self._metadata,
            ("GET", metadata.AUTHORIZATION_SERVER): self._metadata,
            ("GET", metadata.JWKS): self._jwks,
        }

    async def _metadata(self, request: BaseRequest, trace: Trace) -> web.Response:
        table = permissions_of(action.needs for action in self._runtime.registry.public())
        scopes = {name for name, permission in table.items() if permission.scope}
        return _json(metadata.document(self.issuer, scopes | {"openid", "profile"}), cache_s=300)

    async def _jwks(self, request: BaseRequest, trace: Trace) -> web.Response:
        return _json(self._tokens.jwks(), cache_s=300)


def _json(value: Any, status: int = 200, *, cache_s: int = 0) -> web.Response:
    headers = {"Cache-Control": f"public, max-age={cache_s}" if cache_s else "no-store"}
    return web.Response(
        status=status, body=orjson.dumps(value), content_type="application/json", headers=headers
    )
