"""A session: one authenticated connection and what its person may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from core.actions import Principal
from hub.streams.store import Subscription

if TYPE_CHECKING:
    from hub.server.connection import Connection

INBOX: Final = "inbox"


class Person:
    """A person of one enterprise with their connections on this node; limits of a person are counted here."""

    __slots__ = ("conns", "enterprise_id", "person_id", "tokens", "tokens_at_s")

    def __init__(self, person_id: int, enterprise_id: int, burst: float, now_s: float) -> None:
        self.person_id, self.enterprise_id = person_id, enterprise_id
        self.conns: dict[str, Connection] = {}  # by device
        self.tokens, self.tokens_at_s = burst, now_s

    def take(self, per_s: float, burst: float, now_s: float) -> int:
        """Takes one SEND; returns 0, or how many ms to wait."""
        self.tokens = min(burst, self.tokens + (now_s - self.tokens_at_s) * per_s)
        self.tokens_at_s = now_s
        if self.tokens >= 1:
            self.tokens -= 1
            return 0
        return max(1, int((1 - self.tokens) / per_s * 1000))


class Session:
    """Set on a connection once HELLO was accepted."""

    __slots__ = (
        "calls",
        "device",
        "entered",
        "expires_ms",
        "floors",
        "inbox",
        "person",
        "principal",
        "signalled_s",
        "watching",
    )

    def __init__(self, principal: Principal, person: Person, device: str) -> None:
        self.principal = principal
        self.person = person
        self.device = device
        self.entered = 0  # an id drawn at HELLO: of two connections of a device the later one stays
        self.expires_ms = principal.expires_at_ms
        self.floors: dict[int, int] = {}  # stream -> entries up to here are not for this person
        self.inbox = 0
        self.watching: frozenset[int] | None = None
        self.calls = 0
        self.signalled_s = 0.0

    def stream_id(self, name: str) -> int | None:
        """The stream that a wire name means, None if it is not this session's."""
        if name == INBOX:
            return self.inbox or None
        if not (name.isascii() and name.isdigit()):
            return None
        stream_id = int(name)
        return stream_id if stream_id in self.floors and stream_id != self.inbox else None

    def name_of(self, stream_id: int) -> str:
        """What this session calls a stream."""
        return INBOX if stream_id == self.inbox else str(stream_id)

    def subscribe(self, subscription: Subscription) -> None:
        """Adds a stream."""
        self.floors[subscription.stream_id] = subscription.floor
        if subscription.kind == INBOX:
            self.inbox = subscription.stream_id
