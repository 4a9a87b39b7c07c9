"""What a node does with each client frame. Synchronous where nothing has to be waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from core.errors import (
    BankhubError,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    Internal,
    Invalid,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from hub.node.admission import shown
from hub.node.session import Session
from hub.server.connection import Connection, State
from hub.streams.rules import content_digest, storable
from hub.streams.writer import Sent, Submission
from hub.wire import codec, limits
from hub.wire.close import Bye
from hub.wire.frames import (
    Ack,
    Act,
    Amend,
    BadFrame,
    Call,
    ClientFrame,
    Hello,
    Op,
    Ping,
    Read,
    Refresh,
    Send,
    Signal,
    Sync,
    Watch,
)  # fmt: skip

if TYPE_CHECKING:
    from hub.node.node import Node

log = structlog.get_logger(__name__)

NOT_STORABLE: Final = f"a body has at most {limits.BODY_DEPTH} levels, string keys and 64-bit integers"


class Handlers:
    """Dispatch by frame type; `handle` is the entry."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._of: dict[type, Callable[[Connection, Session, Any], None]] = {
            Send: self._send, Ack: self._ack, Read: self._read, Sync: self._sync, Amend: self._amend, Act: self._act,
            Call: self._call, Signal: self._signal, Watch: self._watch, Ping: self._ping, Refresh: self._refresh,
            Hello: self._second_hello, BadFrame: self._bad,
        }  # fmt: skip

    def handle(self, conn: Connection, frames: list[ClientFrame | BadFrame]) -> None:
        """Takes the frames of one message in order."""
        node = self._node
        for frame in frames:
            if conn.state is State.CLOSING:
                return
            if not node.admit_frame(conn):
                node.refuse(conn, frame.id)
                continue
            if conn.state is State.GREETING:
                self._greet(conn, frame)
                continue
            session = conn.session
            assert session is not None
            try:
                self._of[type(frame)](conn, session, frame)
            except BankhubError as error:
                self._refuse(conn, frame, error)
            except Exception as error:
                log.exception("hub.frame_failed", frame=type(frame).__name__)
                internal = Internal()
                internal.__cause__ = error
                error_to(conn, frame.id, internal)

    def _refuse(self, conn: Connection, frame: ClientFrame | BadFrame, error: BankhubError) -> None:
        """Say so, and have it recorded where somebody wanted what is not theirs."""
        error_to(conn, frame.id, error)
        writes = isinstance(frame, Send | Amend)
        if conn.session is not None and (
            isinstance(error, Forbidden | Unauthenticated) or (writes and isinstance(error, NotFound))
        ):
            what, who = f"hub.{type(frame).__name__.lower()}", conn.session.principal
            self._node.refused(what, error.code, conn.address, who)

    def _greet(self, conn: Connection, frame: ClientFrame | BadFrame) -> None:
        if isinstance(frame, Hello) and conn.session is None:
            self._node.admission.hello(conn, frame)
        elif isinstance(frame, Ping) and frame.id:
            conn.push((Op.PING, frame.id, self._node.clock.now_ms()))
        elif isinstance(frame, BadFrame):
            conn.bye(Bye.BAD_FRAME, frame.message)
        else:
            conn.bye(Bye.BAD_FRAME, "HELLO comes first, and once")

    # --- SEND, AMEND ----------------------------------------------------------------------------------------------

    def _send(self, conn: Connection, session: Session, frame: Send) -> None:
        node = self._node
        stream_id = session.stream_id(frame.conversation)
        if stream_id is None:
            self._unknown_stream(conn, session, frame, frame.conversation)
            return
        self._take_send(session, stream_id)
        body = frame.body
        if type(body) is not str and not storable(body):
            raise Invalid(NOT_STORABLE)
        node.policy.check_send(frame.kind, body)
        who = session.principal
        files = node.carrier.asked(who.enterprise_id, who.person_id, frame.kind, body)
        packed = codec.pack(body)
        options = frame.options
        packed_options, reply_to = None, 0
        if options is not None:
            reply_to = options.reply_to or 0
            if 0 < reply_to <= session.floors[stream_id]:
                raise Invalid("there is no such message to reply to")
            packed_options = codec.pack(options)
            if packed_options == b"\x80":
                packed_options = None
        self._submit(
            conn,
            Submission(
                conn, frame.id, stream_id, who.enterprise_id, who.person_id,
                node.rooms[stream_id].members_version, frame.key, frame.kind, packed, packed_options,
                content_digest(frame.kind, packed, packed_options), target_seq=reply_to, files=files,
            ),
        )  # fmt: skip

    def _amend(self, conn: Connection, session: Session, frame: Amend) -> None:
        stream_id = session.stream_id(frame.conversation)
        if stream_id is None:
            self._unknown_stream(conn, session, frame, frame.conversation)
            return
        self._take_send(session, stream_id)
        if frame.seq <= session.floors[stream_id]:  # from before this person's time
            raise NotFound("no such message in this conversation")
        if not storable(frame.value):
            raise Invalid(NOT_STORABLE)
        value = None if frame.change == "recall" else frame.value
        body = codec.pack({"seq": frame.seq, "value": value})
        self._submit(
            conn,
            Submission(
                conn, frame.id, stream_id, session.principal.enterprise_id, session.principal.person_id,
                self._node.rooms[stream_id].members_version, frame.key, frame.change, body, None,
                content_digest(frame.change, body, None), frame.change, frame.seq, value,
            ),
        )  # fmt: skip

    def _take_send(self, session: Session, stream_id: int) -> None:
        if stream_id == session.inbox:
            raise Forbidden("an inbox is written by the bank only")
        node = self._node
        wait_ms = session.person.take(
            node.limits.sends_per_s, node.limits.sends_burst, node.clock.monotonic_s()
        )
        if wait_ms:
            raise node.too_many(wait_ms)

    def _submit(self, conn: Connection, submission: Submission) -> None:
        sent = self._node.writer.submit(submission)
        if sent is not None:
            conn.push(sent_frame(submission.frame_id, sent))

    def _unknown_stream(self, conn: Connection, session: Session, frame: ClientFrame, name: str) -> None:
        """Perhaps the person was added a moment ago on another node: look once, then say that there is none."""
        node = self._node
        if not (name.isascii() and name.isdigit() and len(name) < 20):
            raise NotFound("no such conversation", detail={"stream": name})
        if session.calls >= node.limits.calls_in_flight:
            raise node.too_many(200)
        session.calls += 1

        async def look() -> None:
            try:
                await node.recovery.load_person(session)
                if conn.state is State.READY:
                    if session.stream_id(name) is None:
                        raise NotFound("no such conversation", detail={"stream": name})
                    self._of[type(frame)](conn, session, frame)
            except BankhubError as error:
                self._refuse(conn, frame, error)
            except Exception as error:
                log.warning("hub.look_up_failed", error=type(error).__name__)
                error_to(conn, frame.id, Unavailable("conversations cannot be looked up now", retry_ms=500))
            finally:
                session.calls -= 1

        node.spawn(look(), "hub.look_up")

    # --- marks, signals, presence ---------------------------------------------------------------------------------

    def _ack(self, conn: Connection, session: Session, frame: Ack) -> None:
        self._mark(session, frame.marks, read=False)

    def _read(self, conn: Connection, session: Session, frame: Read) -> None:
        self._mark(session, frame.marks, read=True)

    def _mark(self, session: Session, marks: list[tuple[str, int]], *, read: bool) -> None:
        node = self._node
        for name, seq in marks:
            stream_id = session.stream_id(name)
            room = None if stream_id is None else node.rooms.get(stream_id)
            if room is not None:  # a stream just left is no error: the mark crossed the removal
                node.marks.move(room, session.principal.person_id, seq, read=read)

    def _signal(self, conn: Connection, session: Session, frame: Signal) -> None:
        stream_id = session.stream_id(frame.conversation)
        if stream_id is None or stream_id == session.inbox:
            raise NotFound("no such conversation", detail={"stream": frame.conversation})
        if conn.last_in_s - session.signalled_s >= limits.SIGNAL_S:
            session.signalled_s = conn.last_in_s
            self._node.signal(stream_id, frame.what, frame.value, session.principal.person_id, conn)

    def _watch(self, conn: Connection, session: Session, frame: Watch) -> None:
        users = [int(user) for user in frame.users if user.isascii() and user.isdigit()]
        states = self._node.presence.watch(conn, session, users)
        conn.push((Op.RESULT, frame.id, [[str(user), online] for user, online in states]))

    # --- the rest -------------------------------------------------------------------------------------------------

    def _sync(self, conn: Connection, session: Session, frame: Sync) -> None:
        node = self._node
        if frame.stream != "streams" and session.stream_id(frame.stream) is None:
            self._unknown_stream(conn, session, frame, frame.stream)
            return
        if session.calls >= node.limits.calls_in_flight:
            raise node.too_many(200)
        session.calls += 1
        node.spawn(self._answer_sync(conn, session, frame), "hub.sync")

    async def _answer_sync(self, conn: Connection, session: Session, frame: Sync) -> None:
        try:
            await self._node.pages.answer(conn, session, frame)
        except BankhubError as error:
            error_to(conn, frame.id, error)
        except Exception as error:
            log.warning("hub.sync_failed", error=type(error).__name__)
            error_to(conn, frame.id, Unavailable("the history cannot be read now", retry_ms=500))
        finally:
            session.calls -= 1

    def _call(self, conn: Connection, session: Session, frame: Call) -> None:
        node = self._node
        if session.calls >= node.limits.calls_in_flight:
            raise node.too_many(200)
        session.calls += 1
        node.spawn(self._answer_call(conn, session, frame), "hub.call")

    async def _answer_call(self, conn: Connection, session: Session, frame: Call) -> None:
        try:
            value = await self._node.call(session.principal, frame, conn.address)
            conn.push((Op.RESULT, frame.id, value))
        except BankhubError as error:
            error_to(conn, frame.id, error)
        except TimeoutError:
            error_to(conn, frame.id, DeadlineExceeded())
        except Exception:
            log.exception("hub.call_failed", action=frame.action)
            error_to(conn, frame.id, Internal())
        finally:
            session.calls -= 1

    def _act(self, conn: Connection, session: Session, frame: Act) -> None:
        conn.push(
            (
                Op.ERROR,
                frame.id,
                Unavailable.code,
                "approval cards are not served yet",
                False,
                0,
                {"op": int(Op.ACT)},
            )
        )

    def _ping(self, conn: Connection, session: Session, frame: Ping) -> None:
        if frame.id:
            conn.push((Op.PING, frame.id, self._node.clock.now_ms()))

    def _refresh(self, conn: Connection, session: Session, frame: Refresh) -> None:
        principal = self._node.gate.authenticate(frame.token, shown(conn, "REFRESH", frame.proof))
        mine = session.principal
        if (principal.person_id, principal.enterprise_id) != (mine.person_id, mine.enterprise_id):
            raise Forbidden("the token is another person's or another enterprise's")
        session.principal = principal
        session.expires_ms = principal.expires_at_ms
        self._node.look_again(conn, session)
        conn.push((Op.RESULT, frame.id, {"expires_ms": session.expires_ms}))

    def _second_hello(self, conn: Connection, session: Session, frame: Hello) -> None:
        raise Conflict("this session has said HELLO already")

    def _bad(self, conn: Connection, session: Session, frame: BadFrame) -> None:
        conn.push((Op.ERROR, frame.id, frame.code, frame.message, False, 0, None))


def sent_frame(frame_id: int, sent: Sent) -> tuple[Any, ...]:
    """SENT."""
    return (
        Op.SENT, frame_id, str(sent.stream_id), sent.key, sent.seq, str(sent.entry_id), sent.time_ms, sent.duplicate,
        sent.digest,
    )  # fmt: skip


def error_to(conn: Connection, frame_id: int, error: BankhubError) -> None:
    """ERROR for one frame. Clients that were refused together are not told to come back together."""
    retry_ms = error.retry_ms or 0
    if retry_ms and error.code == Unavailable.code:
        retry_ms += conn.node.rng.randint(0, retry_ms)
    conn.push(
        (Op.ERROR, frame_id, error.code, error.message, error.temporary, retry_ms, error.detail or None)
    )
