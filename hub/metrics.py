"""What /metrics says of the hub. Four stages are kept apart: committed, delivered, acknowledged by the device, read."""

from __future__ import annotations

from functools import partial

from core.telemetry import gauge
from hub.node.node import Node

CONNECTIONS = gauge("hub_connections", "Open sockets of this node")
SESSIONS = gauge("hub_sessions", "Sessions after HELLO")
UNDECIDED = gauge("hub_undecided_connections", "Open sockets that have not said HELLO")
ROOMS = gauge("hub_rooms", "Streams that this node follows")
SLOW = gauge("hub_slow_connections", "Connections whose socket takes less than they are sent")
WAITING = gauge("hub_waiting_messages", "Messages waiting for their group commit")
DELIVERED = gauge("hub_delivered_entries", "Entries handed to sockets since the start")


def watch(node: Node) -> None:
    """Reads the node's figures whenever /metrics is asked for."""
    for metric, name in (
        (CONNECTIONS, "connections"),
        (SESSIONS, "sessions"),
        (UNDECIDED, "undecided"),
        (ROOMS, "rooms"),
        (SLOW, "slow"),
        (WAITING, "waiting"),
        (DELIVERED, "delivered"),
    ):
        metric.set_function(partial(_figure, node, name))


def _figure(node: Node, name: str) -> float:
    return node.stats()[name]
