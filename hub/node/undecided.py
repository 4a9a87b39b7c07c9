"""How many connections of each source have not said who they are. One source cannot hold all the places at the door.

A connection counts from its first byte to its accepted HELLO, or to its end. A trusted proxy's sockets count as their
clients', so from when their handshake names them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.addresses import source_of

if TYPE_CHECKING:
    from hub.server.connection import Connection


class Undecided:
    """Counted by source; only sources that have such connections are remembered."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str, int] = {}

    def enter(self, conn: Connection) -> bool:
        """Count this connection as its address's; False, and nothing is changed, where that has its fill."""
        if conn.source:
            return True
        source = source_of(conn.address)
        count = self._counts.get(source, 0)
        if count >= self._most:
            return False
        self._counts[source], conn.source = count + 1, source
        return True

    def leave(self, conn: Connection) -> None:
        """It has said who it is, or is gone."""
        source, conn.source = conn.source, ""
        if not source:
            return
        left = self._counts[source] - 1
        if left:
            self._counts[source] = left
        else:
            del self._counts[source]

    def __len__(self) -> int:
        return sum(self._counts.values())
