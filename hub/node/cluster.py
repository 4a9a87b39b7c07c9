"""The bus between nodes: one packed message per tick and interested node; a counter shows what was lost.

Every message is msgpack `[kind, node, counter, payload]`. A node counts what it sends to each channel and repeats the
counters in its heartbeat; a receiver that finds a hole reads the heads of its rooms from the database. So the bus may
lose, repeat and reorder anything: it only makes delivery early.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog
from msgspec import Struct

from hub.node.rooms import Event, Membership
from hub.wire import codec
from hub.wire.close import Bye

if TYPE_CHECKING:
    from hub.node.node import Node

log = structlog.get_logger(__name__)

ALL: Final = "hub:all"
BEAT_S: Final = 0.5
GONE_S: Final = 4.0  # a node that was not heard for so long has no sessions


class Peer(Struct):
    """What we know of another node."""

    heard_s: float
    interest: set[int] | None = None  # None: not told yet, so everything
    seen: dict[str, int] = {}  # channel -> newest counter of theirs
    sent: int = 0  # our counter towards them


def channel_of(node: str) -> str:
    """The channel that only this node reads."""
    return f"hub:node:{node}"


class Cluster:
    """This node's place among its peers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._peers: dict[str, Peer] = {}
        self._sent_all = 0
        self._opened: set[int] = set()
        self._closed: set[int] = set()
        self._presence: dict[tuple[int, int], bool] = {}
        self._devices: list[tuple[int, int, str, int]] = []
        self._signals: dict[str, list[Any]] = {}
        self._doubted: set[str] = set()  # peers of whom something was lost
        self._handlers: dict[str, Callable[[str, Any], None]] = {
            "hello": self._on_hello, "ask": self._on_ask, "state": self._on_state, "leave": self._on_leave,
            "beat": self._on_beat, "interest": self._on_interest, "presence": self._on_presence,
            "events": self._on_events, "marks": self._on_marks, "signals": self._on_signals,
            "devices": self._on_devices, "changed": self._on_changed, "close": self._on_close,
            "signal": self._on_signal,
        }  # fmt: skip

    @property
    def peers(self) -> list[str]:
        """Names of the nodes heard lately."""
        return list(self._peers)

    async def start(self) -> None:
        """Listens, and asks the others for what they have."""
        bus = self._node.bus
        await bus.subscribe(ALL, self._on_all)
        await bus.subscribe(channel_of(self._node.name), self._on_direct)
        bus.on_state(self._bus_state)
        self._all("hello", None)

    # --- out ------------------------------------------------------------------------------------------------------

    def _all(self, kind: str, payload: Any) -> None:
        self._sent_all += 1
        self._node.bus.publish(ALL, codec.pack([kind, self._node.name, self._sent_all, payload]))

    def _to(self, name: str, kind: str, payload: Any) -> None:
        peer = self._peers[name]
        peer.sent += 1
        self._node.bus.publish(channel_of(name), codec.pack([kind, self._node.name, peer.sent, payload]))

    def events(self, events: list[Event]) -> None:
        """Entries committed here, to every node that follows their streams."""
        for name, peer in self._peers.items():
            wanted = [e for e in events if peer.interest is None or e.stream_id in peer.interest]
            if wanted:
                self._to(name, "events", [_pack_event(e) for e in wanted])

    def marks(self, marks: list[tuple[int, int, int, int]]) -> None:
        """Watermarks saved here."""
        for name, peer in self._peers.items():
            wanted = [m for m in marks if peer.interest is None or m[0] in peer.interest]
            if wanted:
                self._to(name, "marks", wanted)

    def signal(self, stream_id: int, what: str, value: Any, user: int) -> None:
        """A signal to the stream's sessions elsewhere."""
        for name, peer in self._peers.items():
            if peer.interest is None or stream_id in peer.interest:
                self._signals.setdefault(name, []).append([stream_id, what, value, user])

    def room_opened(self, stream_id: int) -> None:
        """From now on this node follows a stream."""
        self._closed.discard(stream_id)
        self._opened.add(stream_id)

    def room_closed(self, stream_id: int) -> None:
        """No session here follows the stream any more."""
        self._opened.discard(stream_id)
        self._closed.add(stream_id)

    def presence(self, member: tuple[int, int], *, online: bool) -> None:
        """A member came online here, or left."""
        self._presence[member] = online

    def device(self, enterprise_id: int, person_id: int, device: str, entered: int) -> None:
        """A device said HELLO here: an older connection of it elsewhere is replaced."""
        self._devices.append((enterprise_id, person_id, device, entered))

    def tick(self) -> None:
        """Sends what gathered since the last tick."""
        if self._opened or self._closed:
            self._all("interest", [list(self._opened), list(self._closed)])
            self._opened, self._closed = set(), set()
        if self._presence:
            self._all("presence", [[*member, online] for member, online in self._presence.items()])
            self._presence = {}
        if self._devices:
            self._all("devices", self._devices)
            self._devices = []
        if self._signals:
            signals, self._signals = self._signals, {}
            for name, payload in signals.items():
                if name in self._peers:
                    self._to(name, "signals", payload)

    def beat(self) -> None:
        """Heartbeat with our counters; forgets nodes that are silent, asks those of whom something was lost."""
        doubted, self._doubted = self._doubted, set()
        for name in doubted & self._peers.keys():
            log.info("hub.bus_loss", peer=name)
            self._to(name, "ask", None)
        now_s = self._node.clock.monotonic_s()
        self._all("beat", {name: peer.sent for name, peer in self._peers.items()})
        for name in [n for n, peer in self._peers.items() if now_s - peer.heard_s > GONE_S]:
            log.info("hub.peer_gone", peer=name)
            del self._peers[name]
            self._node.presence.replace(name, set())

    def leave(self) -> None:
        """Draining: the others need not wait for our silence."""
        self._all("leave", None)

    # --- in -------------------------------------------------------------------------------------------------------

    def _bus_state(self, up: bool) -> None:
        log.info("hub.bus_state", up=up)
        if up:
            for peer in self._peers.values():
                peer.interest = None
                peer.seen = {}
            self._all("hello", None)
        self._node.recovery.poll_soon()

    def _on_all(self, payload: bytes) -> None:
        self._on(ALL, payload)

    def _on_direct(self, payload: bytes) -> None:
        self._on("direct", payload)

    def _on(self, channel: str, data: bytes) -> None:
        try:
            kind, name, counter, payload = codec.unpack(data)
            if name == self._node.name:
                return
            if name:
                self._count(name, channel, counter, kind)
            handler = self._handlers.get(kind)
            if handler is not None:
                handler(name, payload)
        except Exception:
            log.exception("hub.bus_message_failed")

    def _count(self, name: str, channel: str, counter: int, kind: str) -> None:
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = Peer(self._node.clock.monotonic_s())
            log.info("hub.peer_found", peer=name)
            if kind != "hello":
                self._to(name, "ask", None)
            self._send_state(name)
        peer.heard_s = self._node.clock.monotonic_s()
        seen = peer.seen.get(channel)
        if seen is not None and counter > seen + 1:
            self._lost(name)
        peer.seen[channel] = counter if seen is None else max(seen, counter)

    def _lost(self, name: str) -> None:
        """Something of theirs did not come. They are asked once a beat, or questions would beget questions."""
        self._node.recovery.poll_soon()
        self._doubted.add(name)

    def _send_state(self, name: str) -> None:
        node = self._node
        self._to(name, "state", [list(node.rooms), [list(m) for m in node.presence.local(node.name)]])

    def _on_hello(self, name: str, payload: Any) -> None:
        peer = self._peers[name]
        peer.interest = None
        peer.seen = {}
        self._send_state(name)

    def _on_ask(self, name: str, payload: Any) -> None:
        self._send_state(name)

    def _on_state(self, name: str, payload: Any) -> None:
        self._peers[name].interest = set(payload[0])
        self._node.presence.replace(name, {(enterprise, person) for enterprise, person in payload[1]})

    def _on_leave(self, name: str, payload: Any) -> None:
        self._peers.pop(name, None)
        self._node.presence.replace(name, set())

    def _on_beat(self, name: str, payload: dict[str, int]) -> None:
        told = payload.get(self._node.name)
        peer = self._peers[name]
        seen = peer.seen.get("direct")
        if told is not None and told > (seen or 0):
            if seen is not None or told > 0:
                self._lost(name)
            peer.seen["direct"] = told

    def _on_interest(self, name: str, payload: Any) -> None:
        interest = self._peers[name].interest
        if interest is not None:
            interest.update(payload[0])
            interest.difference_update(payload[1])

    def _on_presence(self, name: str, payload: Any) -> None:
        for enterprise, person, online in payload:
            self._node.presence.mark(name, (enterprise, person), online=online)

    def _on_events(self, name: str, payload: Any) -> None:
        node = self._node
        for fields in payload:
            event = _unpack_event(fields)
            room = node.rooms.get(event.stream_id)
            if room is not None:
                node.delivery.accept(room, event)
                if room.hole():
                    node.recovery.hole(room)

    def _on_marks(self, name: str, payload: Any) -> None:
        for stream_id, person, delivered, read in payload:
            if stream_id in self._node.rooms:
                self._node.marks.learn(stream_id, person, delivered, read)

    def _on_signals(self, name: str, payload: Any) -> None:
        for stream_id, what, value, user in payload:
            self._node.signal_local(stream_id, what, value, user, None)

    def _on_devices(self, name: str, payload: Any) -> None:
        for enterprise, person, device, entered in payload:
            self._node.replaced_elsewhere(enterprise, person, device, entered)

    # from `hub.api`, by any process, without a node's name

    def _on_changed(self, name: str, payload: Any) -> None:
        self._node.recovery.changed(payload)

    def _on_close(self, name: str, payload: Any) -> None:
        for enterprise, person, session, code, reason in payload:
            self._node.close_sessions(enterprise, person, session, Bye(code), reason)

    def _on_signal(self, name: str, payload: Any) -> None:
        enterprise, person, what, value = payload
        self._node.signal_person(enterprise, person, what, value)


def _pack_event(event: Event) -> list[Any]:
    membership = event.membership
    return [
        event.stream_id, event.seq, event.packed, event.target,
        None if membership is None else [membership.added, membership.removed],
    ]  # fmt: skip


def _unpack_event(fields: list[Any]) -> Event:
    stream_id, seq, packed, target, membership = fields
    return Event(stream_id, seq, packed, target, None if membership is None else Membership(*membership))
