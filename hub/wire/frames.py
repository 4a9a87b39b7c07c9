"""Client frames as typed arrays `[op, id, ...fields]`. docs/protocol.md is the norm.

A frame that does not fit its type becomes a `BadFrame`, which is answered by ERROR; a message that is no array of
arrays at all raises `BadMessage`, which ends the session with 4501.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from hub.wire import limits


class Op(IntEnum):
    """Frame numbers. 13 and 14 are reserved for approval cards."""

    HELLO = 1
    WELCOME = 2
    SYNC = 3
    PAGE = 4
    SEND = 5
    SENT = 6
    ENTRY = 7
    ACK = 8
    READ = 9
    AMEND = 10
    MARKS = 11
    GAP = 12
    ACT = 13
    CARD = 14
    CALL = 15
    RESULT = 16
    SIGNAL = 17
    WATCH = 18
    PING = 19
    REFRESH = 20
    ERROR = 21
    BYE = 22


FrameId = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
Key = Annotated[str, Meta(min_length=1, max_length=limits.KEY_CHARS, pattern=r"^[0-9A-Za-z_-]+$")]
Name = Annotated[str, Meta(min_length=1, max_length=20)]  # a stream: decimal id or "inbox"
Kind = Annotated[str, Meta(min_length=1, max_length=32, pattern=r"^[a-z][a-z0-9_.]*$")]
Seq = Annotated[int, Meta(ge=0, le=2**53)]
Watermarks = Annotated[list[tuple[Name, Seq]], Meta(max_length=500)]


Proof = Annotated[str, Meta(max_length=2048)]  # of the key that the token is bound to (core.dpop)


class Client(Struct, frozen=True):
    """What the client says of itself; for statistics and support only."""

    platform: Annotated[str, Meta(max_length=32)] = ""
    version: Annotated[str, Meta(max_length=32)] = ""


class Hello(Struct, array_like=True, tag=1, frozen=True):
    id: FrameId
    token: Annotated[str, Meta(max_length=8192)]
    device: Annotated[str, Meta(min_length=1, max_length=64)]
    client: Client | None = None
    resume: Annotated[dict[Name, Seq], Meta(max_length=limits.RESUME_STREAMS)] | None = None
    proof: Proof | None = None


class Sync(Struct, array_like=True, tag=3, frozen=True):
    id: FrameId
    stream: Annotated[str, Meta(max_length=20)]
    after_seq: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None


class SendOptions(Struct, omit_defaults=True, frozen=True):
    """What a sender may ask of a message. Unknown keys are ignored."""

    expires: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    mentions: Annotated[list[Annotated[str, Meta(max_length=20)]], Meta(max_length=500)] | None = None
    must_ack: bool = False
    reply_to: Seq | None = None


class Send(Struct, array_like=True, tag=5, frozen=True):
    id: FrameId
    conversation: Name
    key: Key
    kind: Kind
    body: Any
    options: SendOptions | None = None


class Ack(Struct, array_like=True, tag=8, frozen=True):
    id: FrameId
    marks: Watermarks


class Read(Struct, array_like=True, tag=9, frozen=True):
    id: FrameId
    marks: Watermarks


class Amend(Struct, array_like=True, tag=10, frozen=True):
    id: FrameId
    conversation: Name
    seq: Annotated[int, Meta(ge=1, le=2**53)]
    key: Key
    change: Literal["recall", "edit", "react", "pin"]
    value: Any = None


class Act(Struct, array_like=True, tag=13, frozen=True):
    id: FrameId


class Call(Struct, array_like=True, tag=15, frozen=True):
    id: FrameId
    action: Annotated[str, Meta(min_length=1, max_length=128)]
    params: dict[str, Any] | None = None
    key: Key | None = None
    deadline_ms: Annotated[int, Meta(ge=1, le=120_000)] | None = None
    trace: Annotated[str, Meta(max_length=128)] | None = None  # W3C traceparent
    step_up: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,18}$")] | None = None  # a proven challenge


class Signal(Struct, array_like=True, tag=17, frozen=True):
    id: FrameId
    conversation: Name
    what: Literal["typing"]
    value: bool | int | str | None = None


class Watch(Struct, array_like=True, tag=18, frozen=True):
    id: FrameId
    users: Annotated[list[Name], Meta(max_length=limits.WATCHED_USERS)]


class Ping(Struct, array_like=True, tag=19, frozen=True):
    id: FrameId
    time_ms: int | None = None


class Refresh(Struct, array_like=True, tag=20, frozen=True):
    id: FrameId
    token: Annotated[str, Meta(max_length=8192)]
    proof: Proof | None = None


class BadFrame(Struct, frozen=True):
    """A frame that was read but does not fit; `id` is 0 when even that is unknown."""

    id: int
    code: str
    message: str


ClientFrame = (
    Hello | Sync | Send | Ack | Read | Amend | Act | Call | Signal | Watch | Ping | Refresh
)  # the tagged union that the decoders check against


class BadMessage(Exception):
    """The message is not an array of 1 to 64 frames."""
