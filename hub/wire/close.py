"""Close codes. 4000-4499: come back. 4500-4999: do not (the reason must be mended first)."""

from __future__ import annotations

from enum import IntEnum


class Bye(IntEnum):
    """Why the server ends a session; sent in BYE and again in the close frame."""

    DRAINING = 4001
    TOO_SLOW = 4008
    STATE_LOST = 4010
    NO_PONG = 4012
    TOO_MANY_REQUESTS = 4013
    BAD_TOKEN = 4500
    BAD_FRAME = 4501
    NO_HELLO = 4502
    REPLACED = 4503
    TOO_MANY_CONNECTIONS = 4504
    FORBIDDEN = 4507
    LEFT_ENTERPRISE = 4511
    DEVICE_REVOKED = 4512

    @property
    def reconnect(self) -> bool:
        """Whether the client should come back by itself."""
        return self < 4500
