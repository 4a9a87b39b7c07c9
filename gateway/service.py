"""The gateway as a service: the HTTP edge and the identities behind it."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from core.access import Permission
from core.actions import Action, actions_in, handlers_in
from core.doors import Door
from core.jobs import Every, Job, JobRun
from core.service import Service
from core.stepup import store as stepups
from core.tokens import AccessTokens
from gateway import events
from gateway.access import actions as access
from gateway.codes import actions as code_actions
from gateway.codes import store as codes
from gateway.contracts import actions as contracts
from gateway.departments import actions as departments
from gateway.devices import actions as devices
from gateway.enterprises import actions as enterprises
from gateway.factors import actions as factors
from gateway.factors import store as factor_store
from gateway.guard import GuardedServer
from gateway.http import Edge
from gateway.identity import actions as identity
from gateway.invitations import actions as invitations
from gateway.members import actions as members
from gateway.oauth import authorize, backchannel, exchange, inquiries, leaving, sign_in
from gateway.oauth import store as oauth_store
from gateway.oauth.apps import actions as apps
from gateway.oauth.parts import ENDED as APPS_ENDED
from gateway.oauth.parts import REGISTERED as APPS_REGISTERED
from gateway.oauth.parts import OAuth
from gateway.oauth.web import SENT_TO, SHARED, Provider
from gateway.parts import ENDED, Parts
from gateway.people.reseal import resealing
from gateway.privacy import actions as privacy
from gateway.privacy import store as privacy_store
from gateway.privacy.jobs import jobs as privacy_jobs
from gateway.registration import actions as registration
from gateway.registration import credentials
from gateway.sessions import actions as sessions
from gateway.sessions import store
from gateway.staff import actions as staff
from gateway.stepup import actions as stepup
from gateway.support import actions as support
from gateway.webhooks import actions as webhooks

if TYPE_CHECKING:
    from core.runtime import Runtime

log = structlog.get_logger(__name__)


async def purge(run: JobRun) -> None:
    """Forget refresh tokens, codes, counts and copies of data that no longer mean anything."""
    await store.purge(run.db, run.clock.now())
    await codes.purge(run.db, run.clock.now())
    await factor_store.purge(run.db, run.clock.now())
    await stepups.purge(run.db, run.clock.now() - timedelta(days=1))
    await oauth_store.purge(run.db, run.clock.now())
    await privacy_store.drop_old(run.db, run.clock.now())


class GatewayService(Service):
    """Identity, and (unless `listen` is false) the HTTP edge of this process.

    `tokens` are the same object that the hub of this process authenticates with, so that both learn of revocations.
    `permissions` and `actions` are those of all services, also of those that run elsewhere; default: of those in this
    process. `doors`: behind which bytes stream.
    """

    name = "gateway"
    actions = (
        *actions_in(sessions, code_actions, registration, credentials, identity, members, departments),
        *actions_in(enterprises, contracts, invitations, support, staff, privacy),
        *actions_in(access, devices, factors, webhooks, stepup),
        *actions_in(apps, authorize, exchange, inquiries, leaving, sign_in),
    )
    handlers = (*handlers_in(events, backchannel), *webhooks.handlers())
    jobs: Sequence[Job] = (Job("gateway.sessions.purge", purge, schedule=Every(3600)),)

    def __init__(
        self,
        tokens: AccessTokens,
        *,
        permissions: Mapping[str, Permission] | None = None,
        actions: Mapping[str, Action[Any, Any]] | None = None,
        listen: bool = True,
        sock: socket.socket | None = None,
        doors: Sequence[Door] = (),
    ) -> None:
        self._tokens = tokens
        self._permissions, self._all_actions = permissions, actions
        self._listen = listen
        self._sock = sock
        self._doors = doors
        self._parts: Parts | None = None
        self._oauth: OAuth | None = None
        self._runner: web.ServerRunner | None = None

    @property
    def parts(self) -> Parts:
        """What handlers share. There between start and stop."""
        assert self._parts is not None, "the gateway has not been started"
        return self._parts

    @property
    def oauth(self) -> OAuth:
        """What the provider's handlers share. There between start and stop."""
        assert self._oauth is not None, "the gateway has not been started"
        return self._oauth

    @property
    def port(self) -> int | None:
        """Where it listens."""
        return int(self._runner.addresses[0][1]) if self._runner is not None else None

    async def start(self, runtime: Runtime) -> None:
        """Hear of ended sessions, then open the door. Raises `OSError` where the port is taken."""
        parts = self._parts = Parts(runtime, self._tokens, self._permissions, self._all_actions)
        oauth = self._oauth = OAuth(runtime, self._tokens, parts.permissions)
        told = backchannel.BackChannel(runtime, oauth, parts.webhooks.egress)
        mine = (resealing(runtime.columns), parts.webhooks.job(), parts.webhooks.purge(), told.job())
        self.jobs = (*type(self).jobs, *mine, *privacy_jobs(runtime.columns))
        parts.learn(oauth.catch_up)
        await runtime.bus.subscribe(ENDED, parts.hear)
        await runtime.bus.subscribe(APPS_ENDED, oauth.hear)
        await runtime.bus.subscribe(APPS_REGISTERED, oauth.hear_registered)
        runtime.bus.on_state(parts.bus_changed)
        await parts.start()
        if not self._listen:
            return
        settings, provider = runtime.settings, Provider(runtime, self._tokens, oauth)
        edge = Edge(
            runtime,
            self._tokens,
            provider.routes,
            shared=SHARED,
            sent_to=SENT_TO,
            apps=oauth.tokens,
            doors=self._doors,
        )
        provider.address_of = edge.address_of
        server = GuardedServer(edge.handle, settings, edge.malformed)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=settings.drain_s)
        await runner.setup()
        self._runner = runner
        site: web.BaseSite
        if self._sock is not None:
            site = web.SockSite(runner, self._sock, backlog=1024)
        else:
            site = web.TCPSite(
                runner, settings.gateway_host, settings.gateway_port, backlog=1024, reuse_port=True
            )
        await site.start()
        anywhere = settings.gateway_host in ("0.0.0.0", "::")
        oauth.listens_at = f"http://{'127.0.0.1' if anywhere else settings.gateway_host}:{self.port}"
        log.info("gateway.listening", port=self.port)

    async def stop(self) -> None:
        """Close the door, let running requests finish."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._oauth is not None:
            self._oauth.close()
            self._oauth = None
        if self._parts is not None:
            await self._parts.close()
            self._parts = None
