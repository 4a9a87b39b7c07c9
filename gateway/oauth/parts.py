"""What the provider's handlers share in this process: secrets of their own, and what has ended before its time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

import structlog

from core.access import Permission
from core.clock import to_ms
from core.codec import pack, unpack
from core.context import Context
from core.errors import BankhubError
from core.keys import cluster_secret, derive
from core.runtime import Runtime
from core.tokens import AccessTokens
from gateway.oauth import store
from gateway.oauth.apps import store as apps
from gateway.oauth.apps.rules import IDENTITY_SCOPES, origin_of, scope_table
from gateway.oauth.tokens import AppTokens

if TYPE_CHECKING:
    from gateway.service import GatewayService

log = structlog.get_logger(__name__)

ENDED: Final = "gateway.apps.ended"
"""Bus channel on which every edge learns which apps, installations, grants and families have ended."""

REGISTERED: Final = "gateway.apps.registered"
"""Bus channel: an app was registered, stopped or let go on."""

Thing = tuple[str, int, int]
"""(app | installation | grant | family, its id, the enterprise or 0)."""


class OAuth:
    """Made when the gateway starts. Handlers get it by `oauth(ctx)`."""

    def __init__(self, runtime: Runtime, tokens: AccessTokens, permissions: Mapping[str, Permission]) -> None:
        secret = cluster_secret(runtime.settings)
        self.scopes = scope_table(permissions.values())
        self.all_scopes = frozenset({*self.scopes, *IDENTITY_SCOPES})
        self._runtime = runtime
        self._tokens = tokens
        self.listens_at = ""  # the issuer where none is set
        self._learning: asyncio.Task[None] | None = None
        self.subject_secret = derive(secret, "names of people for apps")
        self.page_secret = derive(secret, "pages of the oauth provider")
        self.tokens = AppTokens(runtime, tokens, derive(secret, "what app tokens hide"), lambda: self.issuer)

    @property
    def issuer(self) -> str:
        """Who we are to clients: an https URL without a slash at its end; on a laptop this machine."""
        return self._runtime.settings.oauth_issuer or self.listens_at

    def is_own(self, uri: str) -> bool:
        """Whether an address is one of our own pages."""
        return origin_of(uri) in {self.issuer, *self._runtime.settings.gateway_origins}

    # --- what has ended -------------------------------------------------------------------------------------------

    def end(self, ctx: Context, *things: Thing) -> None:
        """After the commit, let no edge accept what rests on these any more."""

        async def announce() -> None:
            self._refuse(things)
            await self._runtime.bus.publish(ENDED, pack([list(thing) for thing in things]))

        ctx.after_commit(announce)

    def registered(self, ctx: Context) -> None:
        """After the commit, let every edge learn where pages of apps live now."""

        async def announce() -> None:
            await self.learn_pages()
            await self._runtime.bus.publish(REGISTERED, b"")

        ctx.after_commit(announce)

    def hear_registered(self, payload: bytes) -> None:
        """Another process registered or stopped an app."""
        self._learning = asyncio.get_running_loop().create_task(self._try_learning())

    async def learn_pages(self) -> None:
        """Read where pages of apps live."""
        origins: dict[str, set[int]] = {}
        for app_id, uris in await apps.pages(self._runtime.db):
            for uri in uris:
                origins.setdefault(origin_of(uri), set()).add(app_id)
        self.tokens.origins = {origin: frozenset(found) for origin, found in origins.items()}

    async def _try_learning(self) -> None:
        try:
            await self.learn_pages()
        except BankhubError as error:
            log.warning("gateway.apps_not_learned", code=error.code)

    def hear(self, payload: bytes) -> None:
        """Another process ended something."""
        try:
            self._refuse((str(kind), int(one), int(enterprise)) for kind, one, enterprise in unpack(payload))
        except (BankhubError, TypeError, ValueError):
            log.warning("gateway.apps_ended_unreadable", payload_bytes=len(payload))

    async def catch_up(self, since: datetime) -> None:
        """Learn from the database what has ended since then, and which apps there are."""
        db = self._runtime.db
        await self.learn_pages()
        for one, at in await apps.ended_since(db, since):
            self._tokens.revocations.end("app", one, at_ms=to_ms(at))
        self._refuse(("installation", one, there) for one, there in await apps.uninstalled_since(db, since))
        self._refuse(("grant", one, 0) for one in await apps.revoked_since(db, since))
        self._refuse(("family", one, 0) for one in await store.ended_since(db, since))

    def close(self) -> None:
        """End what is under way."""
        if self._learning is not None:
            self._learning.cancel()

    def _refuse(self, things: Iterable[Thing]) -> None:
        for thing in things:
            self._tokens.revocations.end(*thing)


def oauth(ctx: Context) -> OAuth:
    """The provider's parts, from inside one of the gateway's handlers."""
    return cast("GatewayService", ctx.service).oauth
