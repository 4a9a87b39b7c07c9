"""One hub node: what the connections of a worker share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from core.actions import Principal
from core.addresses import Hosts, Origins, Proxies
from core.clock import Clock
from core.errors import Forbidden, TooManyRequests
from core.failpoints import failpoint
from core.ids import Ids
from core.rng import Rng
from hub.node.admission import REFUSALS, Admission
from hub.node.cluster import BEAT_S, Cluster
from hub.node.delivery import Delivery
from hub.node.handlers import Handlers, error_to, sent_frame
from hub.node.marks import SAVE_S, TELL_S, Marks
from hub.node.pages import Pages
from hub.node.ports import Door, Files, Inboxes, Refused, StreamPolicy, unheard
from hub.node.presence import Presence
from hub.node.recovery import Recovery
from hub.node.rooms import Event, Room, entry_frame, event_of
from hub.node.session import INBOX, Person, Session
from hub.node.undecided import Undecided
from hub.server.connection import Connection
from hub.server.wheel import Wheel
from hub.streams.files import Carrier
from hub.streams.store import Entry, Store, Subscription
from hub.streams.writer import GroupCommit, Outcome, Sent, Submission
from hub.wire.close import Bye
from hub.wire.frames import Call, Op
from hub.wire.limits import MARKS_MEMBERS, Limits

if TYPE_CHECKING:
    from core.bus import Bus

log = structlog.get_logger(__name__)

GOODBYE_S: Final = 3.0  # for the clients' close frames when draining
TICK_S: Final = 0.02  # of what only peers need: interest, presence, signals
CallAction = Callable[[Principal, Call, str], Awaitable[Any]]  # who, what, from which address


class Node:
    """Holds the parts together; each part is a module beside this one."""

    retry_base_ms = 250
    retry_cap_ms = 20_000

    def __init__(
        self, *, name: str, store: Store, bus: Bus, clock: Clock, rng: Rng, ids: Ids, gate: Door,
        policy: StreamPolicy, inboxes: Inboxes, call: CallAction, limits: Limits, origins: Sequence[str] = (),
        proxies: Sequence[str] = (), hosts: Sequence[str] = (), connections_max: int = 19_000,
        files: Files | None = None,
        refused: Refused = unheard,
    ) -> None:  # fmt: skip
        self.name, self.store, self.bus = name, store, bus
        self.clock, self.rng, self.ids = clock, rng, ids
        self.gate, self.policy, self.inboxes, self.call = gate, policy, inboxes, call
        self.carrier = Carrier(files, policy.carried)
        self.limits = limits
        self.refused = refused
        self.undecided = Undecided(limits.undecided_per_source)
        self.origins = Origins(origins)  # foreign pages that may connect; our own always may
        self.hosts = Hosts(hosts)  # names by which clients ask for us
        self.proxies = Proxies(proxies)  # whose word about clients' addresses is believed
        self.connections_max = connections_max
        self.loop = asyncio.get_running_loop()
        self.draining = False
        self.rooms: dict[int, Room] = {}
        self.slow: dict[Connection, None] = {}
        self._conns: dict[Connection, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._persons: dict[tuple[int, int], Person] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wheel = Wheel()
        self.delivery = Delivery(self._membership, self.loop.call_soon)
        self.dirty = self.delivery.dirty
        self.writer = GroupCommit(
            store, clock, ids, on_batch=self._committed,
            amend_policy=self._may_amend, carrier=self.carrier,
            on_unsure=lambda: self.recovery.poll_soon(),
        )  # fmt: skip
        self.handlers = Handlers(self)
        self.received = self.handlers.handle
        self.admission = Admission(self)
        self.pages = Pages(self)
        self.marks = Marks(self)
        self.presence = Presence(self)
        self.cluster = Cluster(self)
        self.recovery = Recovery(self)

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins to work; the listener is opened by the caller."""
        self.writer.start()
        await self.cluster.start()
        self.spawn(self.recovery.run(), "hub.recovery")
        self.spawn(self._every(1.0, self._second), "hub.wheel")
        self.spawn(self._every(TICK_S, self.cluster.tick), "hub.cluster_tick")
        self.spawn(self._every(BEAT_S, self.cluster.beat), "hub.beat")
        self.spawn(self._every(TELL_S, self.marks.tell), "hub.marks_tell")
        self.spawn(self._every(SAVE_S, self.marks.save), "hub.marks_save")

    async def drain(self, window_s: float) -> None:
        """Tells every client when to come back, spread over the window, and waits until they are gone."""
        self.draining = True
        window_ms = int(window_s * 1000)
        for conn in list(self._conns):
            conn.bye(Bye.DRAINING, "this node restarts", self.rng.randint(0, max(1, window_ms)))
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._empty.wait()

    async def stop(self) -> None:
        """Commits what was accepted, writes marks, ends every task."""
        await self.writer.stop()
        await self.marks.save()
        self.cluster.leave()
        for conn in list(self._conns):
            conn.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task that `stop` ends. Nobody need wait for it: what it raises is logged."""
        task = self.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("hub.task_failed", task=task.get_name(), error=type(error).__name__)

    async def _every(self, period_s: float, do: Callable[[], Any]) -> None:
        while True:
            await asyncio.sleep(period_s)
            try:
                result = do()
                if result is not None:
                    await result
            except Exception:
                log.exception("hub.clockwork_failed", what=getattr(do, "__qualname__", str(do)))

    def _second(self) -> None:
        now_s = self.clock.monotonic_s()
        self._wheel.turn(now_s)
        for conn in list(self.slow):
            queued = conn.queued_bytes
            if queued < conn.stalled_size:
                conn.stalled_size, conn.stalled_since_s = queued, now_s
            elif now_s - conn.stalled_since_s >= self.limits.stall_s:
                conn.bye(Bye.TOO_SLOW, "this client reads nothing")

    # --- connections ------------------------------------------------------------------------------------------------

    def opened(self, conn: Connection) -> bool:
        """A socket was accepted; False when there is no place."""
        if len(self._conns) >= self.connections_max:
            return False
        if not self.proxies.trusts(conn.address) and not self.placed(conn):
            return False
        self._conns[conn] = None
        self._empty.clear()
        self._wheel.add(conn, self.limits.hello_s)
        return True

    def placed(self, conn: Connection) -> bool:
        """Whether its source may have one more connection that has not said who it is; it counts as one from now on."""
        if self.undecided.enter(conn):
            return True
        self.refused("hub.connect", TooManyRequests.code, conn.address)
        return False

    def closing(self, conn: Connection, grace_s: float) -> None:
        """The connection says good-bye: no more deliveries, and a last look in `grace_s`."""
        self.forget(conn)
        self._wheel.move(conn, grace_s)

    def closed(self, conn: Connection) -> None:
        """The socket is gone."""
        self.forget(conn)
        self.undecided.leave(conn)
        self._wheel.remove(conn)
        self._conns.pop(conn, None)
        if not self._conns:
            self._empty.set()

    def forget(self, conn: Connection) -> None:
        """Takes a connection out of everything that delivers."""
        self.slow.pop(conn, None)
        session, conn.session = conn.session, None
        if session is None:
            return
        self.presence.unwatch(conn, session)
        for stream_id in session.floors:
            self._remove(conn, stream_id)
        person = session.person
        if person.conns.get(session.device) is conn:
            del person.conns[session.device]
            if not person.conns:
                member = (person.enterprise_id, person.person_id)
                self._persons.pop(member, None)
                self.presence.mark(self.name, member, online=False)
                self.cluster.presence(member, online=False)

    def person(self, principal: Principal) -> Person:
        """The person of a principal, with their connections on this node."""
        member = (principal.enterprise_id, principal.person_id)
        person = self._persons.get(member)
        if person is None:
            person = self._persons[member] = Person(
                principal.person_id,
                principal.enterprise_id,
                self.limits.sends_burst,
                self.clock.monotonic_s(),
            )
        return person

    def entered(self, conn: Connection, session: Session) -> None:
        """A session begins."""
        person = session.person
        first = not person.conns
        person.conns[session.device] = conn
        if first:
            member = (person.enterprise_id, person.person_id)
            self.presence.mark(self.name, member, online=True)
            self.cluster.presence(member, online=True)
        session.entered = self.ids.next()
        self.cluster.device(person.enterprise_id, person.person_id, session.device, session.entered)
        self.look_again(conn, session)

    def look_again(self, conn: Connection, session: Session) -> None:
        """The session's token is new: the wheel looks when a ping is due, or when the token ends."""
        token_left_s = (session.expires_ms - self.clock.now_ms()) / 1000
        self._wheel.move(conn, min(self.limits.ping_s, token_left_s))

    def sessions(self) -> Iterator[Connection]:
        """Connections that have a session."""
        return iter([conn for person in self._persons.values() for conn in person.conns.values()])

    def connections_of(self, enterprise_id: int, person_id: int) -> list[Connection]:
        """A person's sessions on this node."""
        person = self._persons.get((enterprise_id, person_id))
        return [] if person is None else list(person.conns.values())

    def check_session(self, conn: Connection, now_s: float) -> float:
        """The wheel's look at a session: token still good, client still there. Returns seconds to the next look."""
        session = conn.session
        if session is None:
            return 1.0
        token_left_s = (session.expires_ms - self.clock.now_ms()) / 1000
        if token_left_s <= 0:
            conn.bye(Bye.BAD_TOKEN, "the access token has expired")
            return 0
        limits = self.limits
        idle_s = now_s - conn.last_in_s
        if idle_s < limits.ping_s - 0.5:
            conn.pinged = False
            next_s = limits.ping_s - idle_s
        elif not conn.pinged:
            conn.pinged = True
            conn.push((Op.PING, 0, self.clock.now_ms()))
            next_s = limits.pong_s
        elif idle_s < limits.ping_s + limits.pong_s - 0.5:
            next_s = limits.ping_s + limits.pong_s - idle_s
        else:
            conn.bye(Bye.NO_PONG, "no answer to ping")
            return 0
        return max(0.5, min(next_s, token_left_s))

    def admit_frame(self, conn: Connection) -> bool:
        """Takes one frame from the connection's bucket."""
        limits = self.limits
        now_s = conn.last_in_s
        tokens = min(limits.frames_burst, conn.tokens + (now_s - conn.tokens_at_s) * limits.frames_per_s)
        conn.tokens_at_s = now_s
        if tokens >= 1.0:
            conn.tokens = tokens - 1.0
            if conn.refused and tokens > limits.frames_burst / 2:
                conn.refused = 0
            return True
        conn.tokens = tokens
        return False

    def refuse(self, conn: Connection, frame_id: int) -> None:
        """A frame over the limit; again and again, and the session ends."""
        conn.refused += 1
        if conn.refused > self.limits.refusals_before_bye:
            conn.bye(
                Bye.TOO_MANY_REQUESTS, "too many frames, again and again", self.rng.randint(1_000, 5_000)
            )
            return
        error_to(conn, frame_id, self.too_many(max(1, int(1000 / self.limits.frames_per_s))))

    @staticmethod
    def too_many(wait_ms: int) -> TooManyRequests:
        """The error for everything that comes too fast."""
        return TooManyRequests(retry_ms=wait_ms)

    # --- rooms ------------------------------------------------------------------------------------------------------

    def room_of(self, sub: Subscription) -> Room:
        """The room of a subscription, opened if this node does not follow it yet."""
        room = self.rooms.get(sub.stream_id)
        if room is None:
            name = INBOX if sub.kind == INBOX else str(sub.stream_id)
            room = Room(
                sub.stream_id, name, sub.enterprise_id, head=sub.head, epoch=sub.epoch,
                members_version=sub.members_version, member_count=sub.member_count,
            )  # fmt: skip
            self._follow(room)
        return room

    def _follow(self, room: Room) -> None:
        self.rooms[room.stream_id] = room
        self.cluster.room_opened(room.stream_id)
        self.recovery.settle(room)

    def outdated(self, sub: Subscription) -> bool:
        """Whether the room here has seen members come or go since this was read: then it may not be true any more."""
        room = self.rooms.get(sub.stream_id)
        return room is not None and room.members_version > sub.members_version

    def leave_room(self, conn: Connection, stream_id: int, *, told: bool = False) -> None:
        """A session no longer follows a stream; `told` if it has just been sent the entry that says so."""
        room = self.rooms.get(stream_id)
        if conn.session is not None:
            conn.session.floors.pop(stream_id, None)
        self._remove(conn, stream_id)
        if room is not None and not told:
            conn.push((Op.GAP, 0, room.name, 0, 0, "forbidden"))

    def _remove(self, conn: Connection, stream_id: int) -> None:
        room = self.rooms.get(stream_id)
        if room is None:
            return
        room.remove(conn)
        if conn.gaps:
            conn.gaps.pop(room.name, None)
        if not room.size:
            del self.rooms[stream_id]
            self.marks.forget(stream_id)
            self.cluster.room_closed(stream_id)

    def _membership(self, room: Room, event: Event) -> None:
        """A membership entry takes effect at its place in the order: behind it, other people listen."""
        membership = event.membership
        assert membership is not None
        room.members_version += 1
        room.member_count += len(membership.added) - len(membership.removed)
        for name in membership.added:
            for conn in self.connections_of(room.enterprise_id, int(name)):
                session = conn.session
                if session is None or room.stream_id in session.floors:
                    continue
                if room.stream_id not in self.rooms:  # an entry before this one took the last person here out
                    self._follow(room)
                session.floors[room.stream_id] = event.seq - 1
                room.add(conn)
                if not conn.text:
                    conn.send(entry_frame(event.packed))
                else:
                    conn.push((Op.GAP, 0, room.name, event.seq, event.seq, "joined"))
        for name in membership.removed:  # last: a room that nobody here follows is closed
            for conn in self.connections_of(room.enterprise_id, int(name)):
                self.leave_room(
                    conn, room.stream_id, told=not conn.slow
                )  # the chat lane of a slow one stands still

    def _may_amend(self, submission: Submission, target: Entry, now_ms: int) -> None:
        self.policy.check_amend(
            submission.change or "", submission.value, target, submission.sender_id, now_ms
        )

    # --- the way of a message ---------------------------------------------------------------------------------------

    async def _committed(self, entries: list[Entry], outcomes: list[Outcome]) -> None:
        """After the commit: answers, then deliveries, all in this tick's one write per connection."""
        for submission, outcome in outcomes:
            conn: Connection = submission.origin
            if isinstance(outcome, Sent):
                conn.push(sent_frame(submission.frame_id, outcome))
                self.marks.sent(submission.stream_id, submission.sender_id, outcome.seq)
            else:
                error_to(conn, submission.frame_id, outcome)
                if isinstance(outcome, Forbidden) and conn.session is not None:
                    self.refused("hub.send", outcome.code, conn.address, conn.session.principal)
        await failpoint("hub.after_ack_before_fanout")
        events = [event_of(entry, str(entry.stream_id)) for entry in entries]
        accept = self.delivery.accept
        for event in events:
            room = self.rooms.get(event.stream_id)
            if room is not None:
                accept(room, event)
                if room.early:
                    self.recovery.hole(room)
        if self.cluster.peers:
            self.cluster.events(events)

    def signal(self, stream_id: int, what: str, value: Any, user: int, origin: Connection) -> None:
        """A signal to the stream's other sessions, here and elsewhere."""
        self.signal_local(stream_id, what, value, user, origin)
        self.cluster.signal(stream_id, what, value, user)

    def signal_local(
        self, stream_id: int, what: str, value: Any, user: int, origin: Connection | None
    ) -> None:
        """A signal to the sessions here."""
        room = self.rooms.get(stream_id)
        if room is None or room.member_count > MARKS_MEMBERS:
            return
        frame = (Op.SIGNAL, 0, room.name, what, value, str(user))
        for conn in room.everyone():
            if conn is not origin and not conn.slow:
                conn.push(frame)

    def signal_person(self, enterprise_id: int, person_id: int, what: str, value: Any) -> None:
        """A signal of the bank's to a member's sessions here; those that are slow do without."""
        frame = (Op.SIGNAL, 0, INBOX, what, value, "0")
        for conn in self.connections_of(enterprise_id, person_id):
            if not conn.slow:
                conn.push(frame)

    # --- ends of sessions -------------------------------------------------------------------------------------------

    def end(self, conn: Connection, verdict: str) -> None:
        """The gate no longer wants this session."""
        conn.bye(REFUSALS.get(verdict, Bye.FORBIDDEN), f"not admitted any more: {verdict}")

    def close_sessions(
        self, enterprise_id: int, person_id: int, session_id: int, code: Bye, reason: str
    ) -> None:
        """Ends a person's sessions in an enterprise (0: in all), or one of them."""
        for person in list(self._persons.values()):
            if person.person_id == person_id and enterprise_id in (0, person.enterprise_id):
                for conn in list(person.conns.values()):
                    if conn.session is not None and session_id in (0, conn.session.principal.session_id):
                        conn.bye(code, reason)

    def replaced_elsewhere(self, enterprise_id: int, person_id: int, device: str, entered: int) -> None:
        """The device has said HELLO on another node; if later than here, this connection is the old one."""
        person = self._persons.get((enterprise_id, person_id))
        conn = None if person is None else person.conns.get(device)
        if conn is not None and conn.session is not None and conn.session.entered < entered:
            conn.bye(Bye.REPLACED, "this device has a newer connection")

    async def open_inboxes(self, principals: Sequence[Principal]) -> None:
        """Every member has an inbox from the first HELLO on."""
        await self.inboxes.ensure([(p.enterprise_id, p.person_id) for p in principals])

    def stats(self) -> dict[str, int]:
        """Figures for /metrics."""
        return {
            "connections": len(self._conns), "sessions": sum(len(p.conns) for p in self._persons.values()),
            "rooms": len(self.rooms), "slow": len(self.slow), "waiting": self.writer.waiting,
            "undecided": len(self.undecided),
            "delivered": self.delivery.delivered,
        }  # fmt: skip
