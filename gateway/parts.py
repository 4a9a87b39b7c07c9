"""What the gateway's handlers share in this process: password threads, token keys, thresholds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from core.access import Permission, permissions_of
from core.actions import Action
from core.codec import pack, unpack
from core.context import Context
from core.errors import BankhubError
from core.keys import cluster_secret, derive
from core.runtime import Runtime
from core.tokens import AccessTokens
from gateway.access.grantor import CHANGED, changed
from gateway.contracts.core_check import EmbeddedCore
from gateway.identity import store as people
from gateway.ports import CoreCheck
from gateway.sessions import store
from gateway.sessions.passwords import Passwords
from gateway.sessions.rules import Lifetime, Throttle
from gateway.sms import sender
from gateway.sms.messenger import Messenger
from gateway.webhooks.sender import Webhooks

if TYPE_CHECKING:
    from gateway.service import GatewayService

log = structlog.get_logger(__name__)

ENDED: Final = "gateway.ended"
"""Bus channel on which every edge learns at once which sessions have ended."""
_OVERLAP: Final = timedelta(seconds=60)  # a commit is later than what it says, and clocks differ


class Parts:
    """Made when the gateway starts. Handlers get them by `parts(ctx)`."""

    def __init__(
        self,
        runtime: Runtime,
        tokens: AccessTokens,
        permissions: Mapping[str, Permission] | None = None,
        actions: Mapping[str, Action[Any, Any]] | None = None,
    ) -> None:
        settings, secret = runtime.settings, cluster_secret(runtime.settings)
        self._runtime = runtime
        self.tokens = tokens
        self._poll: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._read_up_to: datetime | None = None
        self._learn: list[Callable[[datetime], Awaitable[None]]] = []
        here = permissions_of(action.needs for action in runtime.registry.actions.values())
        self.permissions = here if permissions is None else permissions
        self.actions = runtime.registry.actions if actions is None else actions
        self.passwords = Passwords(settings)
        self.refresh_secret = derive(secret, "refresh tokens")
        self.attempt_secret = derive(secret, "login attempts")
        self.code_secret = derive(secret, "one-time codes")
        self.core: CoreCheck = EmbeddedCore()  # until there is a core banking system to ask
        self.webhooks = Webhooks(runtime)
        self.sms = Messenger(sender(settings, runtime.clock, runtime.rng), settings.sms_waiting)
        self.account_throttle = Throttle(
            settings.login_free_failures,
            settings.login_delay_s,
            settings.login_delay_max_s,
            settings.login_forget_s,
        )
        self.bound_life = Lifetime(settings.session_idle_s, settings.session_absolute_s)
        self.bearer_life = Lifetime(settings.session_bearer_idle_s, settings.session_bearer_absolute_s)
        self.source_throttle = Throttle(
            settings.login_source_failures,
            settings.login_delay_s,
            settings.login_delay_max_s,
            settings.login_forget_s,
        )

    def life(self, jkt: str) -> Lifetime:
        """How long a session lasts whose tokens are bound to this key, or to none ("")."""
        return self.bound_life if jkt else self.bearer_life

    def end(
        self,
        ctx: Context,
        sessions: list[int],
        memberships: list[tuple[int, int]] | None = None,
        *,
        renewed: list[tuple[int, int]] | None = None,
    ) -> None:
        """After the commit, let no edge accept tokens of these sessions, or of these (person, enterprise) any more.

        `renewed`: (session, ms since the epoch) of sessions of which only the older tokens are worth nothing now.
        """
        what = (sessions, memberships or [], renewed or [])

        async def announce() -> None:
            self._refuse(*what)
            await self._runtime.bus.publish(ENDED, pack(what))

        ctx.after_commit(announce)

    def regrant(self, ctx: Context, members: list[tuple[int, int]]) -> None:
        """After the commit, let every process read the grants of these (person, enterprise) anew; person 0: of all."""

        async def announce() -> None:
            for person_id, enterprise_id in members:
                self._runtime.access.forget(person_id, enterprise_id)
            await self._runtime.bus.publish(CHANGED, changed(members))

        ctx.after_commit(announce)

    def hear(self, payload: bytes) -> None:
        """Another process ended sessions or memberships."""
        try:
            self._refuse(*unpack(payload))
        except (BankhubError, TypeError, ValueError):
            log.warning("gateway.ended_unreadable", payload_bytes=len(payload))

    async def catch_up(self) -> None:
        """Learn from the database what the bus may not have brought; the first time, all that matters still."""
        now, db = self._runtime.clock.now(), self._runtime.db
        since = now - timedelta(seconds=self._runtime.settings.access_token_s)
        if self._read_up_to is not None:
            since = max(since, min(now, self._read_up_to) - _OVERLAP)
        self._refuse(
            await store.ended_since(db, since),
            await people.left_since(db, since),
            await store.renewed_since(db, since),
        )
        for learn in self._learn:
            await learn(since)
        self._read_up_to = now

    def learn(self, what: Callable[[datetime], Awaitable[None]]) -> None:
        """Call `what(since)` too whenever the database has to be asked for what the bus may not have brought."""
        self._learn.append(what)

    def bus_changed(self, up: bool) -> None:
        """The bus went or came back: look now, something may have been lost."""
        self._look.set()

    async def start(self) -> None:
        """Read what has ended, and go on reading, whatever is heard.

        A process whose bus is well learns nothing of what another one ended whose bus was not. Raises what the
        database says the first time.
        """
        await self.catch_up()
        self._poll = asyncio.get_running_loop().create_task(self._keep_up(), name="gateway.revocations")
        self.sms.start()

    async def close(self) -> None:
        """Send what is to be sent; let the threads end."""
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        await self.sms.close()
        await self.webhooks.close()
        self.passwords.close()

    def _refuse(
        self,
        sessions: Iterable[int],
        memberships: Iterable[tuple[int, int]],
        renewed: Iterable[tuple[int, int]] = (),  # a process of the version before says nothing of them
    ) -> None:
        revocations = self.tokens.revocations
        for session_id in sessions:
            revocations.end_session(int(session_id))
        for person_id, enterprise_id in memberships:
            revocations.end_membership(int(person_id), int(enterprise_id))
        for session_id, since_ms in renewed:
            revocations.renew_session(int(session_id), int(since_ms))

    async def _keep_up(self) -> None:
        while True:
            with suppress(TimeoutError):  # not wait_for: before Python 3.12 it may swallow a cancellation
                async with asyncio.timeout(self._runtime.settings.revocation_poll_s):
                    await self._look.wait()
            self._look.clear()
            try:
                await self.catch_up()
            except BankhubError as error:
                log.warning("gateway.catch_up_failed", code=error.code)
            except Exception:
                log.exception("gateway.catch_up_broken")


def parts(ctx: Context) -> Parts:
    """The gateway's parts, from inside one of its handlers."""
    return cast("GatewayService", ctx.service).parts
