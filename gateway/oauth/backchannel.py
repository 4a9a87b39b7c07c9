"""Apps are told when a session has ended (OpenID Connect Back-Channel Logout 1.0).

The ending emits an event as it always does; its handler asks for a job for each app that came to tokens by that session
and has an address for it. The job is repeated until the app answers, six times at most: the app's tokens are refused at
once whether it hears of it or not.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import structlog

from core.actions import Context, on
from core.errors import Unavailable
from core.jobs import Job, JobRun, later
from gateway.api import SessionRevoked
from gateway.oauth import store
from gateway.oauth.apps import store as apps
from gateway.oauth.apps.rules import subject
from gateway.oauth.exchange import session_name
from gateway.oauth.parts import OAuth
from gateway.webhooks.egress import Egress

if TYPE_CHECKING:
    from core.runtime import Runtime

log = structlog.get_logger(__name__)

JOB: Final = "gateway.oauth.tell_app"
TRIES: Final = 6
_WAIT_S: Final = 5.0  # an app that thinks longer is asked again: others wait behind it
_HEADERS: Final = {
    "Content-Type": "application/x-www-form-urlencoded",
    "User-Agent": "bankhub-logout/1",
}


@on(SessionRevoked)
async def tell_apps(ctx: Context, event: SessionRevoked) -> None:
    """Ask for the jobs: one for each app."""
    for app_id in await store.told_of_session(ctx.tx, event.session_id):
        params = {"app_id": app_id, "session_id": event.session_id, "person_id": event.person_id}
        await later(
            ctx.tx,
            JOB,
            params,
            ctx.clock.now(),
            ids=ctx.ids,
            clock=ctx.clock,
            dedupe_key=f"{app_id} {event.session_id}",
        )


class BackChannel:
    """Tells them."""

    def __init__(self, runtime: Runtime, oauth: OAuth, egress: Egress) -> None:
        self._runtime, self._oauth, self._egress = runtime, oauth, egress

    def job(self) -> Job:
        """The telling as a job."""
        return Job(JOB, self.tell)

    async def tell(self, run: JobRun) -> None:
        """Post a logout token. Raises `Unavailable` where it should be tried again."""
        app_id, session_id = int(run.params["app_id"]), int(run.params["session_id"])
        client = await apps.client(run.db, app_id)
        if client is None or not client.active or client.backchannel_uri is None:
            return
        secret = self._oauth.subject_secret
        token = self._oauth.tokens.sign_logout(
            client.client_id,
            subject(secret, client.sector, int(run.params["person_id"])),
            session_name(secret, client, session_id),
        )
        body = urlencode({"logout_token": token}).encode()
        status: int | None = None
        error: str | None = None
        try:
            async with asyncio.timeout(_WAIT_S):
                status, error = await self._egress.post(client.backchannel_uri, body, _HEADERS)
        except TimeoutError:
            error = "timeout"
        if status is not None and 200 <= status < 300:
            return
        final = status == 400 or run.attempt >= TRIES  # 400: it does not want this token
        log.info(
            "oauth.app_not_told", app_id=app_id, status=status, reason=error, attempt=run.attempt, final=final
        )
        if not final:
            raise Unavailable("the app did not take its logout token")
