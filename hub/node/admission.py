"""HELLO to WELCOME, in batches: one query for everybody who came in meanwhile, and a bounded queue before it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from core.dpop import BadProof, Shown
from core.errors import BankhubError
from hub.node.rooms import RING_ENTRIES, Room, entry_frame, event_of
from hub.node.session import INBOX, Person, Session
from hub.server.connection import Connection, State
from hub.streams.store import Subscription
from hub.wire.close import Bye
from hub.wire.frames import Hello, Op

if TYPE_CHECKING:
    from hub.node.node import Node

log = structlog.get_logger(__name__)

QUEUE_MAX: Final = 10_000  # HELLOs waiting: a few seconds of work; later ones are told when to come back
BATCH_MAX: Final = 256
REREADS: Final = (
    3  # of subscriptions that a room had overtaken; if it still has, the sweep of memberships finds out
)

REFUSALS: Final = {
    "left": Bye.LEFT_ENTERPRISE, "revoked": Bye.DEVICE_REVOKED, "forbidden": Bye.FORBIDDEN,
    "too_many": Bye.TOO_MANY_REQUESTS, "replayed": Bye.BAD_TOKEN,
}  # fmt: skip


def shown(conn: Connection, method: str, proof: str | None) -> Shown | None:
    """A proof of possession as it came in a frame: for this method, at the hub's address."""
    return None if proof is None else Shown(proof, method, conn.url)


class Admission:
    """The door of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: list[tuple[Connection, Hello]] = []
        self._task: asyncio.Task[None] | None = None

    def hello(self, conn: Connection, frame: Hello) -> None:
        """Checks the token at once and queues the rest."""
        node = self._node
        if len(self._waiting) >= QUEUE_MAX:
            conn.bye(Bye.TOO_MANY_REQUESTS, "too many clients are coming in", node.rng.randint(500, 5_000))
            return
        try:
            principal = node.gate.authenticate(frame.token, shown(conn, "HELLO", frame.proof))
        except BankhubError as error:
            who = error.holder if isinstance(error, BadProof) else None
            outcome = "bad_proof" if isinstance(error, BadProof) else error.code
            node.refused("hub.hello", outcome, conn.address, who, frame.device)
            conn.bye(Bye.BAD_TOKEN, error.message)
            return
        node.undecided.leave(conn)
        now_s = node.clock.monotonic_s()
        person = Person(principal.person_id, principal.enterprise_id, node.limits.sends_burst, now_s)
        conn.session = Session(principal, person, frame.device)
        self._waiting.append((conn, frame))
        if self._task is None:
            self._task = node.spawn(self._run(), "hub.admission")

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
                batch = [(conn, frame) for conn, frame in batch if conn.state is State.GREETING]
                try:
                    await self._admit(batch)
                except Exception:
                    log.exception("hub.admission_failed", batch=len(batch))
                    for conn, _ in batch:
                        conn.bye(
                            Bye.STATE_LOST,
                            "the hub cannot look you up now",
                            self._node.rng.randint(200, 2_000),
                        )
        finally:
            self._task = None
            if self._waiting:
                self._task = self._node.spawn(self._run(), "hub.admission")

    async def _admit(self, batch: list[tuple[Connection, Hello]]) -> None:
        node = self._node
        coming = [
            (conn.session.principal, shown(conn, "HELLO", frame.proof))
            for conn, frame in batch
            if conn.session is not None
        ]
        greeted, admitted = await asyncio.gather(
            node.gate.greet(coming), node.gate.admit([principal for principal, _ in coming])
        )
        verdicts = [one or other for one, other in zip(admitted, greeted, strict=True)]
        entering: list[tuple[Connection, Hello]] = []
        for (conn, frame), verdict in zip(batch, verdicts, strict=True):
            if verdict is None:
                entering.append((conn, frame))
            else:
                code = REFUSALS.get(verdict, Bye.FORBIDDEN)
                who = conn.session.principal if conn.session is not None else None
                node.refused("hub.hello", verdict, conn.address, who, frame.device)
                conn.bye(
                    code, f"not admitted: {verdict}", node.rng.randint(2_000, 10_000) if code.reconnect else 0
                )
        if not entering:
            return
        await node.open_inboxes([conn.session.principal for conn, _ in entering if conn.session is not None])
        by_member = await self._subscriptions(entering)
        await self._load_rings(entering, by_member)
        for _ in range(REREADS):
            if not any(node.outdated(sub) for subscriptions in by_member.values() for sub in subscriptions):
                break
            by_member = await self._subscriptions(entering)
        for conn, frame in entering:
            session = conn.session
            if conn.state is State.GREETING and session is not None:
                key = (session.principal.enterprise_id, session.principal.person_id)
                self._enter(conn, session, frame, by_member.get(key, []))

    async def _subscriptions(
        self, entering: list[tuple[Connection, Hello]]
    ) -> dict[tuple[int, int], list[Subscription]]:
        persons = {conn.session.principal.person_id for conn, _ in entering if conn.session is not None}
        by_member: dict[tuple[int, int], list[Subscription]] = {}
        for sub in await self._node.store.subscriptions(list(persons)):
            by_member.setdefault((sub.enterprise_id, sub.person_id), []).append(sub)
        return by_member

    async def _load_rings(
        self, entering: list[tuple[Connection, Hello]], by_member: dict[tuple[int, int], list[Subscription]]
    ) -> None:
        """Fetches the newest entries of rooms that several of these clients have missed a little of."""
        wanted: dict[int, tuple[Subscription, int]] = {}
        for conn, frame in entering:
            if not frame.resume or conn.session is None:
                continue
            principal = conn.session.principal
            for sub in by_member.get((principal.enterprise_id, principal.person_id), ()):
                seq = frame.resume.get(INBOX if sub.kind == INBOX else str(sub.stream_id))
                if seq is not None and 0 < sub.head - seq <= RING_ENTRIES:
                    after = min(seq, wanted[sub.stream_id][1]) if sub.stream_id in wanted else seq
                    wanted[sub.stream_id] = (sub, after)
        for sub, after in wanted.values():
            room = self._node.room_of(sub)
            if room.since(after) is None:
                await self.load_ring(room, after)

    async def load_ring(self, room: Room, after: int) -> None:
        """Reads entries into the room's ring from the database, behind what came in meanwhile."""
        removals = room.removals
        entries = await self._node.store.entries(room.stream_id, after, 2 * RING_ENTRIES)
        if room.removals != removals:
            return
        room.refill(
            after,
            {e.seq: entry_frame(event_of(e, room.name).packed) for e in entries if e.seq <= room.head},
        )

    def _enter(
        self, conn: Connection, session: Session, frame: Hello, subscriptions: list[Subscription]
    ) -> None:
        """Everything from here to the last line happens in one turn of the loop: no entry can slip between."""
        node = self._node
        person = node.person(session.principal)
        earlier = person.conns.get(session.device)
        if earlier is not None:
            earlier.bye(Bye.REPLACED, "this device has a newer connection")
            node.forget(earlier)
            person = node.person(session.principal)
        if len(person.conns) >= node.limits.connections_per_person:
            conn.bye(Bye.TOO_MANY_CONNECTIONS, "too many devices are connected")
            return
        session.person = person
        inbox_read = 0
        for sub in subscriptions:
            session.subscribe(sub)
            if sub.kind == INBOX:
                inbox_read = sub.read
        conn.state = State.READY
        node.entered(conn, session)
        rooms = [node.room_of(sub) for sub in subscriptions]
        conn.push(self._welcome(frame, session, node.rooms.get(session.inbox), inbox_read))
        for room, sub in zip(rooms, subscriptions, strict=True):
            if frame.resume:
                self._resume(conn, session, room, frame.resume, head=max(room.head, sub.head))
            room.add(conn)
        for name in frame.resume or ():
            if session.stream_id(name) is None:
                conn.push((Op.GAP, 0, name, 0, 0, "forbidden"))

    def _welcome(self, frame: Hello, session: Session, inbox: Room | None, read: int) -> tuple[object, ...]:
        node, principal = self._node, session.principal
        epoch, head = (0, 0) if inbox is None else (inbox.epoch, inbox.head)
        return (
            Op.WELCOME, frame.id, str(principal.session_id), str(principal.person_id), str(principal.enterprise_id),
            sorted(principal.roles), node.clock.now_ms(),
            {"epoch": epoch, "head": head, "read": read},
            int(node.limits.ping_s), node.limits.told(), {"base_ms": node.retry_base_ms, "cap_ms": node.retry_cap_ms},
        )  # fmt: skip

    def _resume(
        self, conn: Connection, session: Session, room: Room, resume: dict[str, int], *, head: int
    ) -> None:
        """What the client missed of one stream: the entries if they are at hand, else a GAP that makes it SYNC."""
        seq = resume.get(room.name)
        if seq is None:
            return
        if seq > room.head:
            if seq > head:
                conn.push((Op.GAP, 0, room.name, 0, head, "reset"))
            return
        floor = session.floors.get(room.stream_id, 0)
        if 0 < seq < floor:
            conn.push((Op.GAP, 0, room.name, seq + 1, floor, "floor"))
        seq = max(seq, floor)
        frames = None if conn.text else room.since(seq)
        if frames:
            conn.send(b"".join(frames))
        elif seq < room.head:
            conn.push((Op.GAP, 0, room.name, seq + 1, room.head, "resume"))
