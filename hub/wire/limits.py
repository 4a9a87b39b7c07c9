"""Every limit of the wire, with its default and its reason. WELCOME tells them to the client."""

from __future__ import annotations

import msgspec

FRAMES_PER_MESSAGE = 64  # a batch is decoded in one go; more would hold the loop
FRAME_BYTES = 64 * 1024  # chat bodies are text; files go to object storage
MESSAGE_BYTES = 256 * 1024  # one WebSocket message, fragments together
GREETING_BYTES = 64 * 1024  # one WebSocket message before WELCOME: what a stranger may make us hold
FRAGMENTS_PER_MESSAGE = 64  # a fragment costs a call of the slow parser
BODY_DEPTH = 16  # nesting of a body; msgpack itself has no limit
KEY_CHARS = 64  # a UUIDv7 has 36
PAGE_ENTRIES = 200  # entries of one PAGE
PAGE_BYTES = 192 * 1024  # a PAGE ends early rather than pass MESSAGE_BYTES
RESUME_STREAMS = 2_000  # streams in one HELLO
WATCHED_USERS = 500  # presence of one session
MARKS_MEMBERS = 500  # above it MARKS are asked for, not pushed, and signals are dropped
SIGNAL_S = 0.2  # a session's signals in between are dropped: nobody types faster than that is worth knowing
SIGNAL_BYTES = 1024  # of a signal to a person: a few numbers; what has to be read in full is an entry
SIGNAL_CHARS = 32  # of its name
OWN_SIGNALS = frozenset({"typing", "presence"})  # names of signals that the hub itself gives a meaning


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one session that operations may change: each is the setting `hub_` and its name."""

    frames_per_s: float = (
        100.0  # per connection; a person types 5 messages a second at most, the rest is marks
    )
    frames_burst: float = 200.0  # a reconnecting client syncs many streams at once
    sends_per_s: float = 20.0  # per person, over all devices of a node
    sends_burst: float = 40.0
    refusals_before_bye: int = (
        200  # "again and again": so many refused frames in a row of seconds end the session
    )
    soft_queue_bytes: int = 256 * 1024  # over it signals are dropped and chat collapses into GAPs
    hard_queue_bytes: int = 1024 * 1024  # over it the session is told to come back
    stall_s: float = 30.0  # no byte taken for so long is as good as gone
    hello_s: float = 5.0  # from the TCP connection to HELLO: a stranger's socket is a stranger's memory
    undecided_per_source: int = 20  # connections of one address without an accepted HELLO
    ping_s: float = 25.0  # below the idle cut of mobile carriers' NAT (30 s and more)
    pong_s: float = 8.0
    connections_per_person: int = 10  # devices at once on one node
    calls_in_flight: int = 16  # CALLs of one session that wait for an answer

    def told(self) -> dict[str, int | float]:
        """What WELCOME says: the limits a client can act upon."""
        return {
            "frame_bytes": FRAME_BYTES,
            "message_bytes": MESSAGE_BYTES,
            "frames_per_message": FRAMES_PER_MESSAGE,
            "page_entries": PAGE_ENTRIES,
            "frames_per_s": self.frames_per_s,
            "sends_per_s": self.sends_per_s,
            "watched_users": WATCHED_USERS,
        }
