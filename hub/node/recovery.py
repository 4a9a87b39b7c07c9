"""What makes the bus dispensable: holes, heads and memberships are read from the database.

With the bus up this is a slow sweep that finds what was lost silently; with the bus down it is the way entries travel
between nodes, every `POLL_DOWN_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from hub.node.admission import REREADS
from hub.node.rooms import Room, event_of
from hub.node.session import Session
from hub.server.connection import State
from hub.streams.store import Subscription
from hub.wire.frames import Op

if TYPE_CHECKING:
    from hub.node.node import Node

log = structlog.get_logger(__name__)

POLL_DOWN_S: Final = 0.1  # heads of all rooms while the bus is down
SWEEP_S: Final = 2.0  # heads of all rooms while it is up
MEMBERS_S: Final = 1.0  # changes of membership
RECHECK_S: Final = 20.0  # are the sessions still welcome: nobody stays for 30 s, whatever the bus loses
RECHECK_DOWN_S: Final = 1.0  # the same while it is known to be down
SETTLE_S: Final = 1.5  # a new room is looked at at every turn: the others may not know yet that we follow it
HOLE_GRACE_S: Final = 0.02  # the missing entry is usually on the bus already
MEMBERS_OVERLAP_MS: Final = 5_000  # clocks of nodes may differ by so much
PAGE: Final = 500


class Recovery:
    """Reads what this node missed."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._settling: dict[int, float] = {}
        self._soon = asyncio.Event()
        self._loading: dict[int, asyncio.Task[None]] = {}
        self._members_ms = node.clock.now_ms()

    def poll_soon(self) -> None:
        """Something may be missing: look at all heads now."""
        self._soon.set()

    def settle(self, room: Room) -> None:
        """A room was opened."""
        self._settling[room.stream_id] = self._node.clock.monotonic_s() + SETTLE_S

    def hole(self, room: Room) -> None:
        """An entry came too early: wait a moment for the one before, then read it."""
        if not room.filling:
            room.filling = True
            self._node.spawn(self._fill(room, HOLE_GRACE_S), "hub.fill")

    async def _fill(self, room: Room, grace_s: float) -> None:
        """Reads and delivers from the room's head on, until the database has no more."""
        node = self._node
        try:
            if grace_s:
                await asyncio.sleep(grace_s)
                if not room.hole():
                    return
            while node.rooms.get(room.stream_id) is room:
                entries = await node.store.entries(room.stream_id, room.head, PAGE)
                for entry in entries:
                    node.delivery.accept(room, event_of(entry, room.name))
                if len(entries) < PAGE:
                    return
        except Exception as error:
            log.warning("hub.fill_failed", stream=room.stream_id, error=type(error).__name__)
        finally:
            room.filling = False
            if room.hole():
                node.loop.call_later(0.1, self.hole, room)

    async def run(self) -> None:
        """The node's clockwork for everything that is read instead of heard."""
        node = self._node
        swept_s = members_s = checked_s = node.clock.monotonic_s()
        failing = False
        while True:
            with suppress(TimeoutError):  # not wait_for: before Python 3.12 it may swallow a cancellation
                async with asyncio.timeout(POLL_DOWN_S):
                    await self._soon.wait()
            soon = self._soon.is_set()
            if soon:
                await asyncio.sleep(HOLE_GRACE_S)  # many things go missing together: one look serves them all
            self._soon.clear()
            down = not node.bus.is_up
            now_s = node.clock.monotonic_s()
            try:
                if down or soon or now_s - swept_s >= SWEEP_S:
                    swept_s = now_s
                    await self.poll(node.rooms)
                elif self._settling:
                    await self.poll(list(self._settling))
                self._settling = {s: until for s, until in self._settling.items() if until > now_s}
                if now_s - members_s >= (MEMBERS_S if not down else MEMBERS_S / 2):
                    members_s = now_s
                    await self._memberships()
                if now_s - checked_s >= (RECHECK_DOWN_S if down else RECHECK_S):
                    checked_s = now_s
                    await self._recheck()
                failing = False
            except Exception as error:
                if not failing:  # once, not ten times a second for as long as the database is away
                    log.warning("hub.recovery_failed", error=type(error).__name__)
                failing = True

    async def poll(self, stream_ids: Iterable[int]) -> None:
        """Compares heads with the database and delivers what is missing."""
        node = self._node
        ids = [stream_id for stream_id in stream_ids if stream_id in node.rooms]
        for start in range(0, len(ids), PAGE):
            heads = await node.store.heads(ids[start : start + PAGE])
            for stream_id, head in heads.items():
                room = node.rooms.get(stream_id)
                if room is not None and head > room.head and not room.filling:
                    room.filling = True
                    node.spawn(self._fill(room, 0), "hub.fill")

    # --- membership -------------------------------------------------------------------------------------------------

    def changed(self, changes: list[list[Any]]) -> None:
        """`hub.api` appended to streams: [stream, enterprise, [persons added]], …"""
        node = self._node
        known: list[int] = []
        for stream_id, enterprise, added in changes:
            if stream_id in node.rooms:
                known.append(stream_id)
            for person_id in added:
                for conn in node.connections_of(enterprise, person_id):
                    if conn.session is not None and stream_id not in conn.session.floors:
                        node.spawn(self.load_person(conn.session), "hub.load_person")
        if known:
            node.spawn(self.poll(known), "hub.poll")

    async def load_person(self, session: Session) -> None:
        """Brings a session's streams up to date with the database, as it is after this call began."""
        running = self._loading.get(id(session))
        if running is not None:  # it may have read before what we are called for was written
            await asyncio.shield(running)
        running = self._loading.get(id(session))
        if running is None:
            running = self._node.spawn(self._load_person(session), "hub.load_person")
            self._loading[id(session)] = running
            running.add_done_callback(lambda _: self._loading.pop(id(session), None))
        await asyncio.shield(running)

    async def _load_person(self, session: Session) -> None:
        principal, node = session.principal, self._node
        subscriptions = await node.store.subscriptions([principal.person_id])
        for _ in range(REREADS):
            if not any(node.outdated(sub) for sub in subscriptions):
                break
            subscriptions = await node.store.subscriptions([principal.person_id])
        for sub in subscriptions:
            if sub.enterprise_id == principal.enterprise_id:
                self._join(session, sub)

    def _join(self, session: Session, sub: Subscription) -> None:
        """A stream that the session does not have yet: it follows from now on and is told to read what there is."""
        node = self._node
        conn = session.person.conns.get(session.device)
        if (
            sub.stream_id in session.floors
            or conn is None
            or conn.session is not session
            or conn.state is not State.READY
        ):
            return
        session.subscribe(sub)
        room = node.room_of(sub)
        room.add(conn)
        conn.push((Op.GAP, 0, room.name, sub.floor + 1, max(sub.head, room.head), "joined"))

    async def _memberships(self) -> None:
        """Changes of membership that no entry and no bus message brought."""
        node = self._node
        started_ms = node.clock.now_ms()
        for sub, active in await node.store.changed_since(self._members_ms - MEMBERS_OVERLAP_MS):
            for conn in node.connections_of(sub.enterprise_id, sub.person_id):
                session = conn.session
                if session is None or node.outdated(sub):  # the next look sees it again: they overlap
                    continue
                if active:
                    self._join(session, sub)
                elif sub.stream_id in session.floors:
                    room = node.rooms.get(sub.stream_id)
                    if room is not None and room.head < sub.head:
                        self.poll_soon()  # the entry that says so is delivered first, and does it
                    else:
                        node.leave_room(conn, sub.stream_id)
        self._members_ms = started_ms

    async def _recheck(self) -> None:
        """Asks the gate again about everybody who is here."""
        node = self._node
        conns = [conn for conn in node.sessions() if conn.session is not None]
        for start in range(0, len(conns), PAGE):
            batch = conns[start : start + PAGE]
            verdicts = await node.gate.admit([c.session.principal for c in batch if c.session is not None])
            for conn, verdict in zip(batch, verdicts, strict=True):
                if verdict is not None:
                    node.end(conn, verdict)
