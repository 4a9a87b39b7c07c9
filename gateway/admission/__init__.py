"""Who may be on the hub: the gateway's implementation of `hub.api.Gate`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core import dpop
from core.actions import Principal
from core.clock import Clock
from core.db import Database
from core.errors import Unauthenticated
from core.tokens import AccessTokens
from gateway.admission import store


class HubGate:
    """Checks tokens without I/O, memberships and sessions in one query each for everybody who comes in."""

    def __init__(
        self, tokens: AccessTokens, db: Database, clock: Clock, window: dpop.Window = dpop.WINDOW
    ) -> None:
        self._tokens, self._db, self._clock, self._window = tokens, db, clock, window

    def authenticate(self, token: str, shown: dpop.Shown | None = None) -> Principal:
        """See `hub.api.Gate`. Raises `Unauthenticated`."""
        principal = self._tokens.verify(token)
        if principal.scopes is not None:
            raise Unauthenticated("apps are not on the hub")
        dpop.bind(principal, token, shown, self._clock.now_ms() / 1000, self._window)
        return principal

    async def admit(self, principals: Sequence[Principal]) -> list[str | None]:
        """See `hub.api.Gate`: a good token is not enough once its membership or session has ended."""
        members, sessions = await asyncio.gather(
            store.active_members(self._db, {p.person_id for p in principals}),
            store.open_sessions(self._db, {p.session_id for p in principals}),
        )
        return [_verdict(p, members, sessions) for p in principals]


def _verdict(principal: Principal, members: set[tuple[int, int]], sessions: set[int]) -> str | None:
    if (principal.enterprise_id, principal.person_id) not in members:
        return "left"
    return None if principal.session_id in sessions else "revoked"
