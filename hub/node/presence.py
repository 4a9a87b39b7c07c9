"""Who is online, over all nodes, and which sessions want to know. Declared loss: presence is never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.node.session import Session
from hub.wire.frames import Op

if TYPE_CHECKING:
    from hub.node.node import Node
    from hub.server.connection import Connection

Member = tuple[int, int]  # (enterprise, person)


class Presence:
    """Presence of the members of all enterprises; asked for within one's own enterprise only."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._nodes: dict[Member, frozenset[str]] = {}
        self._shared: dict[
            frozenset[str], frozenset[str]
        ] = {}  # one object for all who are on the same nodes
        self._watchers: dict[Member, dict[Connection, None]] = {}

    def online(self, member: Member) -> bool:
        """Whether the member has a session on any node."""
        return member in self._nodes

    def local(self, node: str) -> list[Member]:
        """Members online on a node."""
        return [member for member, nodes in self._nodes.items() if node in nodes]

    def mark(self, node: str, member: Member, *, online: bool) -> None:
        """A member has (no longer) a session on a node."""
        before = self._nodes.get(member, frozenset())
        now = before | {node} if online else before - {node}
        if now:
            self._nodes[member] = self._shared.setdefault(now, now)
        else:
            self._nodes.pop(member, None)
        if bool(before) != bool(now):
            self._tell(member, online=online)

    def replace(self, node: str, members: set[Member]) -> None:
        """All that a node has online; empty when the node is gone."""
        for member in self.local(node):
            if member not in members:
                self.mark(node, member, online=False)
        for member in members:
            self.mark(node, member, online=True)

    def watch(self, conn: Connection, session: Session, users: list[int]) -> list[tuple[int, bool]]:
        """Replaces what a session watches; returns the present state."""
        self.unwatch(conn, session)
        enterprise = session.principal.enterprise_id
        session.watching = frozenset(users)
        for user in session.watching:
            self._watchers.setdefault((enterprise, user), {})[conn] = None
        return [(user, (enterprise, user) in self._nodes) for user in users]

    def unwatch(self, conn: Connection, session: Session) -> None:
        """The session ends or watches others."""
        for user in session.watching or ():
            member = (session.principal.enterprise_id, user)
            watchers = self._watchers.get(member)
            if watchers is not None:
                watchers.pop(conn, None)
                if not watchers:
                    del self._watchers[member]
        session.watching = None

    def _tell(self, member: Member, *, online: bool) -> None:
        watchers = self._watchers.get(member)
        if not watchers:
            return
        value = {"user": str(member[1]), "online": online, "time_ms": self._node.clock.now_ms()}
        for conn in watchers:
            if not conn.slow:
                conn.push((Op.SIGNAL, 0, None, "presence", value))
