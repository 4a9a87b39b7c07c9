"""The wire as a client reads it (docs/protocol.md), with `msgpack`. No line of this is shared with the hub's codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

SUBPROTOCOL: Final = "bankhub.v1.msgpack"
FRAMES_PER_MESSAGE: Final = 64
MESSAGE_BYTES: Final = 256 * 1024  # what we send; WELCOME may say less
RECEIVE_BYTES: Final = 1024 * 1024  # what we take: the largest PAGE has a fifth of it

HELLO: Final = 1
WELCOME: Final = 2
SYNC: Final = 3
PAGE: Final = 4
SEND: Final = 5
SENT: Final = 6
ENTRY: Final = 7
ACK: Final = 8
READ: Final = 9
AMEND: Final = 10
MARKS: Final = 11
GAP: Final = 12
CALL: Final = 15
RESULT: Final = 16
SIGNAL: Final = 17
WATCH: Final = 18
PING: Final = 19
REFRESH: Final = 20
ERROR: Final = 21
BYE: Final = 22

PUSHES: Final = frozenset({ENTRY, MARKS, GAP, SIGNAL, BYE})


class BadServer(Exception):
    """The server sent what docs/protocol.md does not allow."""


class HubError(Exception):
    """The hub refused a frame. `code` is stable, `message` is for people.

    `uncertain`: an earlier attempt with the same key was never answered, so it may have been done nevertheless.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        temporary: bool = False,
        retry_ms: int = 0,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        self.code, self.message = code, message
        self.temporary, self.retry_ms = temporary, retry_ms
        self.detail = detail or {}
        self.uncertain = False
        super().__init__(f"{code}: {message}" if message else code)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream. `body` is None once it was removed (recall, retention); ids are decimal strings."""

    stream: str
    seq: int
    entry_id: str
    sender: str
    kind: str
    time_ms: int
    body: Any
    digest: bytes
    options: Mapping[str, Any] | None = None

    @property
    def text(self) -> str | None:
        """What is said by a text message, in either of its two forms."""
        said = self.body.get("text") if isinstance(self.body, dict) else self.body
        return said if isinstance(said, str) else None


@dataclass(frozen=True, slots=True)
class Sent:
    """The hub's answer to SEND and AMEND: this is committed."""

    conversation: str
    key: str
    seq: int
    entry_id: str
    time_ms: int
    duplicate: bool
    digest: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Entries of one stream; the next ones follow after `next` unless `done`."""

    stream: str
    epoch: int
    head: int
    entries: Sequence[Entry]
    done: bool
    next: int


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One of the caller's streams as the hub lists it."""

    stream: str
    kind: str
    epoch: int
    head: int
    delivered: int
    read: int
    floor: int
    unread: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to HELLO."""

    session: str
    user: str
    enterprise: str
    roles: Sequence[str]
    time_ms: int
    inbox: Mapping[str, int]
    ping_s: float
    limits: Mapping[str, float] = field(default_factory=dict)
    retry: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Marks:
    """Watermarks of others: user → (delivered, read)."""

    stream: str
    of: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that is never stored: `typing` in a conversation, `upload` and others of the bank's in `inbox`.

    A program ignores a `what` that it does not know.
    """

    conversation: str
    what: str
    value: Any
    user: str


@dataclass(frozen=True, slots=True)
class Presence:
    """A watched user came or went."""

    user: str
    online: bool
    time_ms: int


@dataclass(frozen=True, slots=True)
class Bye:
    """Why the hub ends the session."""

    code: int
    reason: str
    reconnect: bool
    after_ms: int


def pack(frames: Sequence[Sequence[Any]]) -> bytes:
    """One WebSocket message."""
    data: bytes = msgpack.packb(frames)
    return data


def frame_size(frame: Sequence[Any]) -> int:
    """Bytes of one frame. Raises `HubError` for what msgpack cannot say."""
    try:
        return len(msgpack.packb(frame))
    except (TypeError, ValueError, OverflowError) as error:
        raise HubError("invalid", f"not sendable: {error}") from error


def unpack(message: bytes | str) -> list[list[Any]]:
    """The frames of a message. Raises `BadServer`."""
    if isinstance(message, str):
        raise BadServer("a text message on the msgpack subprotocol")
    try:
        frames = msgpack.unpackb(message)
    except (ValueError, msgpack.UnpackException) as error:
        raise BadServer("a message that is not msgpack") from error
    if not isinstance(frames, list) or not frames:
        raise BadServer("a message is an array of frames")
    for frame in frames:
        if not isinstance(frame, list) or len(frame) < 2 or not all(type(x) is int for x in frame[:2]):
            raise BadServer("a frame is an array that starts with op and id")
    return frames


def entry(fields: Sequence[Any]) -> Entry:
    """An entry from its fields `[stream, seq, …, options]`."""
    stream, seq, entry_id, sender, kind, time_ms, body, digest, options = padded(fields, 9)
    if type(seq) is not int or seq < 1 or not isinstance(stream, str):
        raise BadServer("an entry without stream and seq")
    return Entry(stream, seq, entry_id, sender, kind, time_ms, body, digest, options)


def page(frame: Sequence[Any]) -> Page:
    """A PAGE of entries."""
    stream, epoch, head, entries, done, next_ = padded(frame[2:], 6)
    return Page(stream, epoch, head, [entry(fields) for fields in entries], bool(done), next_ or 0)


def stream_info(fields: Mapping[str, Any]) -> StreamInfo:
    """One line of the list of streams."""
    names = ("epoch", "head", "delivered", "read", "floor", "unread")
    numbers = (int(fields.get(name) or 0) for name in names)
    return StreamInfo(fields["stream"], fields.get("kind") or "", *numbers)


def welcome(frame: Sequence[Any]) -> Welcome:
    """WELCOME."""
    session, user, enterprise, roles, time_ms, inbox, ping_s, limits, retry = padded(frame[2:], 9)
    return Welcome(
        session, user, enterprise, roles or (), time_ms or 0, inbox or {}, ping_s or 25, limits or {}, retry or {}
    )  # fmt: skip


def sent(frame: Sequence[Any]) -> Sent:
    """SENT."""
    conversation, key, seq, entry_id, time_ms, duplicate, digest = padded(frame[2:], 7)
    return Sent(conversation, key, seq, entry_id, time_ms, bool(duplicate), digest or b"")


def error(frame: Sequence[Any]) -> HubError:
    """ERROR."""
    code, message, temporary, retry_ms, detail = padded(frame[2:], 5)
    return HubError(
        code or "internal", message or "", temporary=bool(temporary), retry_ms=retry_ms or 0, detail=detail
    )


def signal(fields: Sequence[Any]) -> Signal | Presence | None:
    """A SIGNAL; None for one that is of a later version."""
    conversation, what, value, user = padded(fields, 4)
    if not isinstance(what, str):
        return None
    if what != "presence":
        return Signal(conversation or "", what, value, user or "")
    if not isinstance(value, Mapping) or "user" not in value:
        return None
    return Presence(str(value["user"]), bool(value.get("online")), value.get("time_ms") or 0)


def bye(frame: Sequence[Any]) -> Bye:
    """BYE."""
    code, reason, reconnect, after_ms = padded(frame[2:], 4)
    return Bye(code or 0, reason or "", bool(reconnect), after_ms or 0)


def padded(fields: Sequence[Any], count: int) -> Sequence[Any]:
    """The first `count` fields: missing ones are None, later ones are of a later version."""
    return [*fields[:count], *[None] * (count - len(fields))]
