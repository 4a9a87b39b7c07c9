"""The reference client: stays connected, delivers each entry once and in order, and sends until it is answered.

    async with Client("ws://127.0.0.1:8081/", token, device="phone") as client:
        sent = await client.send(conversation, "早上好")
        async for item in client.items():
            ...

What it promises rests on docs/protocol.md only; it shares no code with the hub.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import structlog
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from core.clock import Clock, SystemClock
from core.rng import Rng, SystemRng
from hub.client import wire
from hub.client.cursors import CursorStore
from hub.client.feed import INBOX, Feed, Item
from hub.client.link import Disconnected, Link
from hub.client.outbox import Outbox
from hub.client.rules import STEADY_S, Cursor, Verdict, uuid7, verdict
from hub.client.wire import BadServer, HubError, Marks, Page, Presence, Sent, Signal, StreamInfo, Welcome

log = structlog.get_logger(__name__)

OPEN_S: Final = 10.0  # for TCP, TLS, WebSocket and WELCOME, each
CLOSE_S: Final = 3.0
FLUSH_S: Final = 1.0  # marks are coalesced so long
MARKS_MAX: Final = 500  # of one frame
RETRY_BASE_MS: Final = 250  # until WELCOME says otherwise
RETRY_CAP_MS: Final = 20_000
REFRESH_AHEAD_S: Final = 60.0  # before the token expires; half of its life for shorter ones

Prove = Callable[[str, str, str], str]
"""(method, address, access token) to a proof of the key that the token is bound to: a DPoP JWT (RFC 9449)."""
State = Literal["connecting", "online", "waiting", "closed"]
Heard = Marks | Signal | Presence | State


class Token(NamedTuple):
    """An access token and when it expires (ms since the epoch, None: unknown, never refreshed in place)."""

    value: str
    expires_ms: int | None = None


class Closed(Exception):
    """The client has stopped: by `close`, or because the hub does not want it back (`code`)."""

    def __init__(self, code: int, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(f"{reason} ({code})" if code else reason)


class Client:
    """One device of one person in one enterprise.

    `token` is awaited for every connection, and before the token expires; it may raise `Closed`. `store` remembers
    places over restarts. `prove` makes the proofs of a token bound to a key. `start` says where streams begin that
    were never seen. `on_heard` is called with what is
    never stored: marks, signals, presence, and the client's own state. A reader who takes nothing costs
    `queue_entries` of memory at most.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], Awaitable[Token]],
        *,
        device: str,
        prove: Prove | None = None,
        store: CursorStore | None = None,
        start: Literal["floor", "head"] = "floor",
        on_heard: Callable[[Heard], None] | None = None,
        queue_entries: int = 1_000,
        verify: bool = False,
        platform: str = "python",
        version: str = "1",
        clock: Clock | None = None,
        rng: Rng | None = None,
    ) -> None:
        self._url, self._token, self._device, self._prove = url, token, device, prove
        self._store, self._on_heard = store, on_heard
        self._about = {"platform": platform, "version": version}
        self._clock, self._rng = clock or SystemClock(), rng or SystemRng()
        places = store.load() if store is not None else {}
        self._feed = Feed(places, start=start, queue_entries=queue_entries, verify=verify, on_used=self._used)
        self._outbox = Outbox()
        self._link: Link | None = None
        self._online = asyncio.Event()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._acks: dict[str, int] = {}
        self._reads: dict[str, int] = {}
        self._told: tuple[dict[str, int], dict[str, int]] = ({}, {})  # on this connection: acks, reads
        self._watched: list[str] = []
        self._unsaved = False
        self._retry = (RETRY_BASE_MS, RETRY_CAP_MS)
        self._welcomed = False
        self.welcome: Welcome | None = None
        self.state: State = "waiting"
        self.reason = ""
        self.ended: Closed | None = None
        self.connections = 0

    # --- life -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Client:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begins to connect, in the background."""
        assert self._task is None, "a client is started once"
        self._task = asyncio.get_running_loop().create_task(self._run(), name="hub.client")

    async def online(self, timeout_s: float | None = 30.0) -> Welcome:
        """Waits for a session. Raises `TimeoutError` and `Closed`."""
        async with asyncio.timeout(timeout_s):
            while self._link is None:
                if self.ended is not None:
                    raise self.ended
                await self._online.wait()
        assert self.welcome is not None
        return self.welcome

    async def close(self) -> None:
        """Sends the marks that wait, closes, saves. What is not answered by now raises `Closed`."""
        self._closing = True
        if self._link is not None:
            self._flush(self._link)
            await asyncio.sleep(0)  # the writer's turn
            with suppress(TimeoutError):
                await asyncio.wait_for(self._link.close(), CLOSE_S)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._end(Closed(0, "closed by this program"))

    async def drop(self) -> None:
        """Cuts the connection as a bad network would; the client comes back."""
        if self._link is not None:
            self._link.abort()

    # --- what a program does with it ------------------------------------------------------------------------------

    async def items(self) -> AsyncIterator[Item]:
        """Entries and notices, per stream in order and once; each counts as taken when the next is asked for."""
        while (item := await self._feed.next()) is not None:
            yield item

    def new_key(self) -> str:
        """A key for SEND, AMEND or CALL: a UUIDv7."""
        return uuid7(self._clock.now_ms(), self._rng.randbytes(10))

    async def send(
        self, conversation: str, body: Any, *, kind: str = "text", key: str | None = None,
        timeout_s: float | None = None, reply_to: int | None = None, mentions: Sequence[str] = (),
        must_ack: bool = False, expires: int | None = None,
    ) -> Sent:  # fmt: skip
        """Says something; returns once it is committed, over as many connections as that takes.

        Raises `HubError` if it is refused for good, `TimeoutError` if it is unknown by then whether it was committed
        (the same key finds out), `Closed`.
        """
        options: dict[str, Any] = {}
        if reply_to is not None:
            options["reply_to"] = reply_to
        if mentions:
            options["mentions"] = list(mentions)
        if must_ack:
            options["must_ack"] = True
        if expires is not None:
            options["expires"] = expires
        fields = (conversation, key or self.new_key(), kind, body, options or None)
        return await self._outbox.deliver(wire.SEND, fields, timeout_s)

    async def amend(
        self, conversation: str, seq: int, change: Literal["recall", "edit", "react", "pin"], value: Any = None, *,
        key: str | None = None, timeout_s: float | None = None,
    ) -> Sent:  # fmt: skip
        """Recalls, edits, reacts to or pins an entry. As `send`."""
        fields = (conversation, seq, key or self.new_key(), change, value)
        return await self._outbox.deliver(wire.AMEND, fields, timeout_s)

    def read(self, conversation: str, seq: int) -> None:
        """This person has read up to `seq`; told within a second."""
        self._reads[conversation] = max(seq, self._reads.get(conversation, 0))

    def signal(self, conversation: str, what: str = "typing", value: Any = None) -> bool:
        """Something that may be lost; whether it was sent."""
        return self._link is not None and self._link.signal(conversation, what, value)

    async def watch(self, users: Sequence[str]) -> dict[str, bool]:
        """Presence of these users instead of those before, over reconnects; who is online now."""
        self._watched = list(users)
        frame = await self._ask(wire.WATCH, self._watched)
        return {user: bool(online) for user, online in frame[2]}

    async def call(
        self, action: str, params: Mapping[str, Any] | None = None, *, key: str | None = None, deadline_s: float = 15.0,
        again: bool = False,
    ) -> Any:  # fmt: skip
        """Calls an action. With a `key`, or if it may be done `again` (a query), it is repeated over reconnects.

        Raises `HubError`, `TimeoutError`, `Disconnected` (it is unknown whether it was done), `Closed`.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + deadline_s
        while True:
            await self.online(until_s - loop.time())
            link = self._link
            left_s = until_s - loop.time()
            if left_s <= 0:
                raise TimeoutError
            if link is None:
                continue
            fields = (action, dict(params or {}), key, max(1, int(left_s * 1000)))
            try:
                return (await link.ask(wire.CALL, *fields, timeout_s=left_s))[2]
            except Disconnected:
                if key is None and not again:
                    raise
            except HubError as error:
                if not error.temporary or (key is None and not again):
                    raise
                await asyncio.sleep(min(max(error.retry_ms / 1000, 0.05), max(0.0, until_s - loop.time())))

    async def streams(self) -> list[StreamInfo]:
        """The streams of this person with watermarks and unread counts."""
        found: list[StreamInfo] = []
        after = 0
        while True:
            frame = await self._ask(wire.SYNC, "streams", after, 200)
            _, _, _, entries, done, after = wire.padded(frame[2:], 6)
            found += [wire.stream_info(one) for one in entries]
            if done:
                return found

    async def history(self, conversation: str, after: int = 0, limit: int = 50) -> Page:
        """Entries after a seq (0: from the first that is this person's); moves no watermark.

        Raises `HubError` (`reset` with the floor in `detail`, if `after` is before it).
        """
        return wire.page(await self._ask(wire.SYNC, conversation, after, limit))

    def hurry(self) -> None:
        """Somebody is waiting: try to connect now instead of later. Not for programs, which would all do it at once."""
        self._hurry.set()

    # --- connections ----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began_s, self._welcomed = loop.time(), False
            self._state("connecting")
            code, reason, bye = 0, "", None
            try:
                code, reason, bye = await self._connection()
            except Closed as closed:  # the token's provider says that there will be none
                self._end(closed)
                return
            except (OSError, TimeoutError, websockets.WebSocketException, BadServer, HubError) as error:
                reason = f"{type(error).__name__}: {error}"
            except Exception as error:
                log.exception("client.failed")
                reason = f"{type(error).__name__}: {error}"
            if self._closing:
                return
            lasted = self._welcomed and loop.time() - began_s >= STEADY_S
            failures = 0 if lasted else failures + 1
            base_ms, cap_ms = self._retry
            next_: Verdict = verdict(
                code=code, reason=reason, bye=bye, welcomed=self._welcomed, failures=failures,
                base_ms=base_ms, cap_ms=cap_ms, chance=self._rng.random(),
            )  # fmt: skip
            log.info(
                "client.disconnected", code=code, come_back=next_.come_back, wait_s=round(next_.wait_s, 3)
            )
            if not next_.come_back:
                self._end(Closed(bye.code if bye is not None else code, next_.reason))
                return
            self._hurry.clear()
            self._state("waiting", next_.reason)
            with suppress(TimeoutError):
                async with asyncio.timeout(next_.wait_s):
                    await self._hurry.wait()

    async def _connection(self) -> tuple[int, str, wire.Bye | None]:
        """One connection from the token to its end: (close code, reason, BYE)."""
        token = await self._token()
        async with connect(
            self._url, subprotocols=[Subprotocol(wire.SUBPROTOCOL)], compression=None, ping_interval=None,
            max_size=wire.RECEIVE_BYTES, open_timeout=OPEN_S, close_timeout=CLOSE_S, proxy=None,
        ) as ws:  # fmt: skip
            fields = (token.value, self._device, self._about, self._feed.resume())
            await ws.send(wire.pack([(wire.HELLO, 1, *fields, *self._proof("HELLO", token))]))
            first = await self._greeting(ws)
            if isinstance(first, wire.Bye):
                return first.code, first.reason, first
            frames, welcome = first
            link = Link(ws, welcome, self._pushed)
            await self._session(link, frames, token)
            return ws.close_code or 1006, ws.close_reason or "", link.bye

    def _proof(self, method: str, token: Token) -> tuple[str, ...]:
        """The last field of HELLO and REFRESH, where the token is bound to a key."""
        if self._prove is None:
            return ()
        hub = urlsplit(self._url)
        return (self._prove(method, f"{hub.scheme}://{hub.netloc}/", token.value),)

    @staticmethod
    async def _greeting(ws: ClientConnection) -> tuple[list[list[Any]], Welcome] | wire.Bye:
        """WELCOME and the frames behind it, or BYE."""
        async with asyncio.timeout(OPEN_S):
            try:
                frames = wire.unpack(await ws.recv())
            except websockets.ConnectionClosed:
                code = ws.close_code or 1006
                return wire.Bye(code, ws.close_reason or "", not 4500 <= code <= 4999, 0)
        if frames[0][0] == wire.BYE:
            return wire.bye(frames[0])
        if frames[0][0] != wire.WELCOME:
            raise BadServer("the first frame is neither WELCOME nor BYE")
        return frames[1:], wire.welcome(frames[0])

    async def _session(self, link: Link, frames: list[list[Any]], token: Token) -> None:
        self.welcome, self._welcomed = link.welcome, True
        self.connections += 1
        retry = link.welcome.retry
        self._retry = (retry.get("base_ms", RETRY_BASE_MS), retry.get("cap_ms", RETRY_CAP_MS))
        self._link = link
        self._feed.attach(link)
        for frame in frames:
            self._pushed(frame)
        for told, latest in zip(self._told, (self._acks, self._reads), strict=True):
            for stream, seq in told.items():  # the last ones may not have arrived: marks are not answered
                latest.setdefault(stream, seq)
        self._told = ({}, {})
        tasks = [
            asyncio.create_task(work)
            for work in (self._list(link), self._keep_flushing(link), self._keep_token(link, token))
        ]
        self._outbox.attach(link)
        self._state("online")
        self._online.set()
        try:
            await link.run()
        finally:
            self._link = None
            self._online.clear()
            self._outbox.detach()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._feed.detach()
            self._save()

    async def _list(self, link: Link) -> None:
        """What was joined or left meanwhile, and heads beyond what resuming covers."""
        while link.alive:
            try:
                self._feed.listed(await self.streams())
                if self._watched:
                    await link.ask(wire.WATCH, self._watched)
                return
            except HubError as error:
                await asyncio.sleep(max(error.retry_ms / 1000, 0.25))
            except (Disconnected, TimeoutError):
                await asyncio.sleep(0.25)

    async def _keep_flushing(self, link: Link) -> None:
        while link.alive:
            self._flush(link)
            self._save()
            await asyncio.sleep(FLUSH_S)

    async def _keep_token(self, link: Link, token: Token) -> None:
        offset_ms = link.welcome.time_ms - self._clock.now_ms()
        while token.expires_ms is not None:
            left_s = (token.expires_ms - self._clock.now_ms() - offset_ms) / 1000
            await asyncio.sleep(max(left_s - REFRESH_AHEAD_S, left_s / 2, 0.1))
            try:
                token = await self._token()
                await link.ask(wire.REFRESH, token.value, *self._proof("REFRESH", token))
            except Disconnected:
                return
            except (
                Exception
            ) as error:  # whatever the program's provider raises: the old token is good for a while
                log.warning("client.refresh_failed", error=type(error).__name__)
                await asyncio.sleep(1.0)

    # --- in and out -----------------------------------------------------------------------------------------------

    def _pushed(self, frame: Sequence[Any]) -> None:
        op, fields = frame[0], frame[2:]
        if op == wire.ENTRY:
            self._feed.pushed(fields)
        elif op == wire.GAP:
            self._feed.gap(fields)
        elif op == wire.MARKS:
            stream, marks = wire.padded(fields, 2)
            self._hear(Marks(stream, {user: (delivered, read) for user, delivered, read in marks or ()}))
        elif op == wire.SIGNAL:
            heard = wire.signal(fields)
            if heard is not None:
                self._hear(heard)
        elif op == wire.ERROR:
            log.warning("client.refused", code=wire.error(frame).code)

    def _hear(self, what: Heard) -> None:
        if self._on_heard is not None:
            try:
                self._on_heard(what)
            except Exception:
                log.exception("client.listener_failed")

    def _used(self, cursor: Cursor) -> None:
        self._unsaved = True
        self._acks[cursor.stream] = max(cursor.used, self._acks.get(cursor.stream, 0))
        if cursor.stream == INBOX and self._link is not None:  # receipts are evidence: at once
            self._flush_one(self._link, wire.ACK, {INBOX: self._acks.pop(INBOX)})

    def _flush(self, link: Link) -> None:
        for op, latest, told in (
            (wire.ACK, self._acks, self._told[0]),
            (wire.READ, self._reads, self._told[1]),
        ):
            if latest:
                self._flush_one(link, op, latest)
                told.update(latest)
                latest.clear()

    @staticmethod
    def _flush_one(link: Link, op: int, marks: Mapping[str, int]) -> None:
        pairs = [[stream, seq] for stream, seq in marks.items()]
        for first in range(0, len(pairs), MARKS_MAX):
            link.send(op, pairs[first : first + MARKS_MAX])

    async def _ask(self, op: int, *fields: Any) -> Sequence[Any]:
        """Asks a question that may be asked again, until it is answered."""
        while True:
            await self.online()
            if self._link is None:
                continue
            try:
                return await self._link.ask(op, *fields)
            except Disconnected:
                continue
            except HubError as error:
                if not error.temporary:
                    raise
                await asyncio.sleep(max(error.retry_ms / 1000, 0.05))

    def _save(self) -> None:
        if self._store is not None and self._unsaved:
            self._unsaved = False
            self._store.save(self._feed.places())

    def _state(self, state: State, reason: str = "") -> None:
        if (state, reason) != (self.state, self.reason):
            self.state, self.reason = state, reason
            self._hear(state)

    def _end(self, closed: Closed) -> None:
        if self.ended is None:
            self.ended = closed
            self._outbox.close(closed)
            self._feed.end()
            self._online.set()
            self._unsaved = self._store is not None
            self._save()
            self._state("closed", closed.reason)
