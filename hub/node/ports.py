"""What the hub asks of the packages above it; the composition root hands the implementations in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from core.actions import Principal
from core.dpop import Shown
from hub.streams.files import Asked, Attached, Files
from hub.streams.store import Entry

__all__ = ["Asked", "Attached", "Door", "Files", "Gate", "Inboxes", "StreamPolicy"]


class Gate(Protocol):
    """Unified authorization as the hub needs it."""

    def authenticate(self, token: str, shown: Shown | None = None) -> Principal:
        """Who the access token belongs to; one that is bound to a key needs its proof. No I/O.

        Raises `Unauthenticated`.
        """

    async def admit(self, principals: Sequence[Principal]) -> list[str | None]:
        """For each, None if the membership and the session are still good, else why not.

        One of "left", "revoked", "forbidden".
        """


class Door(Gate, Protocol):
    """A gate that also keeps those out who knock too often."""

    async def greet(self, coming: Sequence[tuple[Principal, Shown | None]]) -> list[str | None]:
        """For each HELLO, None if it may go on, else "too_many", or "replayed" for a proof that was used before."""


class Refused(Protocol):
    """Where refusals go to be recorded. No I/O."""

    def __call__(
        self, what: str, outcome: str, address: str, who: Principal | None = None, device: str = ""
    ) -> None:
        """`what` (hub.connect, hub.hello, hub.refresh) was refused; `who`: whose token it was, if that is known."""


def unheard(what: str, outcome: str, address: str, who: Principal | None = None, device: str = "") -> None:
    """Of a node that nobody keeps records of: benchmarks and simulations."""


class StreamPolicy(Protocol):
    """What may be said in a conversation. No I/O; both raise a `BankhubError` for a refusal."""

    def check_send(self, kind: str, body: Any) -> None:
        """Whether a client may send this."""

    def check_amend(self, change: str, value: Any, target: Entry, sender_id: int, now_ms: int) -> None:
        """Whether `sender_id` may recall, edit, react to or pin `target`."""

    def carried(self, kind: str, body: Any) -> tuple[int, ...]:
        """The files that a message carries whose shape `check_send` has let pass; called for every SEND."""


class Inboxes(Protocol):
    """Opens inbox streams."""

    async def ensure(self, members: Sequence[tuple[int, int]]) -> None:
        """Every (enterprise, person) has an inbox afterwards."""
