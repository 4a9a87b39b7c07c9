"""Whether a whole file may come, before its body is read.

`files.uploads.check` decides, in a transaction. For a small body that question would cost as much as what it protects,
so it is asked once in some seconds for an enterprise; meanwhile the door decides what needs no database: name, size,
permission (as old as `core.access.Grantor.grants` allows) and pace. The rest is decided where the file is made, which
reads permission, room and policy in its transaction: what the door does not know can cost a PUT, never a rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from core.access import Principal, decide
from core.context import Source
from core.dispatch import command_of
from core.errors import TooManyRequests
from files import api
from files.uploads import rules

if TYPE_CHECKING:
    from core.runtime import Runtime

AT_ONCE_BYTES: Final = 64 << 10
"""Up to here a body is taken in whole before the store is asked: one write instead of a stream."""
KNOWN_S: Final = 5.0
"""How long it is believed whether an enterprise's files are encrypted: a change costs the first one after it a PUT."""
_KNOWN_MAX: Final = 10_000  # enterprises; then all of it is forgotten


class Admission:
    """See the module. One instance a process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: dict[int, tuple[float, bool]] = {}  # (until, whether it seals) by enterprise

    async def ask(self, who: Principal, name: str, size_bytes: int, source: Source) -> tuple[str, bool]:
        """(the name as it is kept, whether to encrypt). Raises what speaks against the file."""
        asked = command_of(api.CheckUpload, {"name": name, "size_bytes": size_bytes})
        own_key = self._remembered(who.enterprise_id) if size_bytes <= AT_ONCE_BYTES else None
        if own_key is None or not await self._permitted(who):
            allowed = await self._runtime.calls.call(asked, principal=who, source=source)
            self._remember(who.enterprise_id, allowed.own_key)
            return allowed.name, allowed.own_key
        settings = self._runtime.settings
        rate = rules.CHECK.scaled(settings.rate_actions_scale)
        caller = who.person_id or source.address  # as the dispatcher counts: an app is no person
        try:
            await self._runtime.limits.take(asked.action_name, caller, rate)
        except TooManyRequests as refusal:
            self._runtime.refusals.note(asked.action_name, refusal.code, source, who=who)
            raise
        clean, max_bytes = rules.named(asked.name, settings.files_max_bytes)
        rules.fits(size_bytes, max_bytes)
        return clean, own_key

    def seals(self, enterprise_id: int) -> None:
        """It encrypts its files, as was just found."""
        self._remember(enterprise_id, True)

    async def _permitted(self, who: Principal) -> bool:
        """False: let the action refuse, which records it."""
        if who.is_service:
            return False
        grants = await self._runtime.access.grants(who)
        return decide(api.FILES_SEND, who, grants, internal=True).refusal is None

    def _remembered(self, enterprise_id: int) -> bool | None:
        """None: to be asked. Where it was known once, by one caller; the others go on with that meanwhile."""
        known = self._known.get(enterprise_id)
        if known is None:
            return None
        if self._runtime.clock.monotonic_s() < known[0]:
            return known[1]
        self._remember(enterprise_id, known[1])
        return None

    def _remember(self, enterprise_id: int, own_key: bool) -> None:
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[enterprise_id] = (self._runtime.clock.monotonic_s() + KNOWN_S, own_key)
