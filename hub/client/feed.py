"""What comes in: each entry once and in order per stream, holes pulled, a bounded queue to the application."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import structlog

from hub.client import chain, wire
from hub.client.cursors import Saved
from hub.client.link import Disconnected, Link
from hub.client.rules import Cursor, Notice, leaves
from hub.client.wire import BadServer, Entry, HubError, StreamInfo

log = structlog.get_logger(__name__)

INBOX: Final = "inbox"
PULLS_MAX: Final = 4  # streams pulled at once
PAGE_ENTRIES: Final = 200
PAUSE_S: Final = 0.25
RESUME_MAX: Final = 2_000  # streams in HELLO; those beyond are found by their heads

Item = Entry | Notice


class Feed:
    """The streams of one person. `start`: where one that was never seen begins, at its floor or at its head."""

    def __init__(
        self, places: Mapping[str, Saved], *, start: Literal["floor", "head"], queue_entries: int, verify: bool,
        on_used: Callable[[Cursor], None],
    ) -> None:  # fmt: skip
        self.cursors = {
            name: Cursor(name, seq=at.seq, epoch=at.epoch, head=at.seq, left=at.left, used=at.seq)
            for name, at in places.items()
        }
        self.user = ""
        self._start = start
        self._verify = verify
        self._queue_entries = queue_entries
        self._on_used = on_used
        self._queue: deque[Item] = deque()
        self._taken: Item | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._link: Link | None = None
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._heard: set[str] = set()  # streams that were heard of since the list was asked for

    # --- to the application ---------------------------------------------------------------------------------------

    async def next(self) -> Item | None:
        """The next entry or notice, None at the end. Asking for one says that the one before was taken care of."""
        taken, self._taken = self._taken, None
        if isinstance(taken, Entry):
            cursor = self.cursors[taken.stream]
            cursor.used = max(cursor.used, taken.seq)
            self._on_used(cursor)
        while not self._queue:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        self._taken = self._queue.popleft()
        self._room.set()
        return self._taken

    def end(self) -> None:
        """Nothing comes any more; what is queued can still be taken."""
        self._ended = True
        self._news.set()

    def places(self) -> dict[str, Saved]:
        """What is to be remembered."""
        return {c.stream: Saved(c.used, c.epoch, c.left) for c in self.cursors.values()}

    # --- a connection ---------------------------------------------------------------------------------------------

    def resume(self) -> dict[str, int]:
        """HELLO's `resume`."""
        active = [c for c in self.cursors.values() if not c.left]
        return {c.stream: c.seq for c in active[:RESUME_MAX]}

    def attach(self, link: Link) -> None:
        """A new connection. `listed` is called once the list of streams is there."""
        self._link, self.user = link, link.welcome.user
        self._heard.clear()

    async def detach(self) -> None:
        """The connection is gone."""
        self._link = None
        pulls = list(self._pulls.values())
        for task in pulls:
            task.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)

    # --- in -------------------------------------------------------------------------------------------------------

    def pushed(self, fields: Sequence[Any]) -> None:
        """ENTRY."""
        entry = wire.entry(fields)
        self._heard.add(entry.stream)
        cursor = self.cursors.get(entry.stream)
        if cursor is None:
            first = 0 if self._start == "floor" else entry.seq - 1
            cursor = self.cursors[entry.stream] = Cursor(entry.stream, seq=first, used=first)
        if cursor.left and leaves(entry, self.user) is False:
            cursor.left = False
        self._hand_on(cursor, cursor.pushed(entry, room=len(self._queue) < self._queue_entries))
        self._pull(cursor)

    def gap(self, fields: Sequence[Any]) -> None:
        """GAP: pushes that were not sent, or entries that are not ours."""
        stream, first, last, why = wire.padded(fields, 4)
        self._heard.add(stream)
        cursor = self.cursors.get(stream)
        if cursor is None:
            if why == "forbidden":
                return
            cursor = self.cursors[stream] = Cursor(stream, seq=first - 1, used=first - 1)
        if why == "forbidden":
            self._left(cursor)
        elif why == "reset":
            cursor.doubt = True  # perhaps that node only lags behind: a refused PAGE is what counts
        elif why == "floor":
            if first <= cursor.seq + 1 <= last:
                self._jump(cursor, last)
        else:
            cursor.left = cursor.left and why != "joined"
            cursor.head = max(cursor.head, last)
        self._pull(cursor)

    def listed(self, streams: Iterable[StreamInfo]) -> None:
        """All streams that the hub says are ours; what was heard since it was asked is newer than its answer."""
        known = {info.stream: info for info in streams}
        for info in known.values():
            cursor = self.cursors.get(info.stream)
            if cursor is None:
                first = 0 if self._start == "floor" else info.head
                cursor = self.cursors[info.stream] = Cursor(info.stream, seq=first, used=first)
            if info.stream not in self._heard:
                cursor.left = False
            if cursor.epoch not in (0, info.epoch):
                self._reset(cursor, info.head, info.epoch)
            cursor.epoch = info.epoch
            cursor.head = max(cursor.head, info.head)
            self._pull(cursor)
        for cursor in self.cursors.values():
            if cursor.stream not in known and cursor.stream not in self._heard and not cursor.left:
                self._left(cursor)

    # --- decisions ------------------------------------------------------------------------------------------------

    def _hand_on(self, cursor: Cursor, due: Sequence[Item]) -> None:
        for item in due:
            if isinstance(item, Entry):
                if self._verify and not self._follows(cursor, item):
                    log.warning("client.digest_broken", stream=item.stream, seq=item.seq)
                    self._queue.append(Notice(item.stream, "broken", item.seq, item.seq))
                cursor.chain = (item.seq, item.digest)
                out = leaves(item, self.user)
                if out is not None:
                    cursor.left = out
            self._queue.append(item)
        if due:
            self._news.set()

    @staticmethod
    def _follows(cursor: Cursor, entry: Entry) -> bool:
        if entry.seq == 1:
            return chain.follows(chain.START, entry)
        before = cursor.chain
        return before is None or before[0] != entry.seq - 1 or chain.follows(before[1], entry)

    def _jump(self, cursor: Cursor, floor: int) -> None:
        notice = Notice(cursor.stream, "floor", cursor.seq + 1, floor)
        due = cursor.jump(floor)
        self._hand_on(cursor, [notice, *due])

    def _reset(self, cursor: Cursor, head: int, epoch: int) -> None:
        self._hand_on(cursor, [Notice(cursor.stream, "reset", 1, head)])
        cursor.restart(head, epoch)

    def _left(self, cursor: Cursor) -> None:
        cursor.left = True
        self._hand_on(cursor, [Notice(cursor.stream, "left", cursor.seq + 1)])

    # --- pulling --------------------------------------------------------------------------------------------------

    def _pull(self, cursor: Cursor) -> None:
        """Starts to pull a stream that is behind, if there is a place."""
        link = self._link
        if link is None or not link.alive or not cursor.behind:
            return
        if cursor.stream in self._pulls or len(self._pulls) >= PULLS_MAX:
            return
        task = asyncio.get_running_loop().create_task(self._pull_one(link, cursor))
        self._pulls[cursor.stream] = task
        task.add_done_callback(lambda done: self._pulled(cursor.stream, done))

    def _pulled(self, stream: str, done: asyncio.Task[None]) -> None:
        self._pulls.pop(stream, None)
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("client.pull_failed", stream=stream, error=type(error).__name__, exc_info=error)
            if self._link is not None:
                self._link.abort()
            return
        for cursor in self.cursors.values():
            if cursor.behind:
                self._pull(cursor)

    async def _pull_one(self, link: Link, cursor: Cursor) -> None:
        while cursor.behind and link.alive:
            while len(self._queue) >= self._queue_entries:
                self._room.clear()
                await self._room.wait()
            after, head = cursor.seq, cursor.head
            limit = min(PAGE_ENTRIES, self._queue_entries - len(self._queue))
            try:
                frame = await link.ask(wire.SYNC, cursor.stream, after, limit)
                if frame[0] != wire.PAGE:
                    raise BadServer(f"SYNC was answered by {frame[0]}")
                page = wire.page(frame)
                if cursor.epoch not in (0, page.epoch):
                    self._reset(cursor, page.head, page.epoch)
                else:
                    self._hand_on(cursor, cursor.paged(page, after, head))
            except HubError as error:
                if not await self._refused(cursor, error):
                    return
            except (Disconnected, TimeoutError):
                return

    async def _refused(self, cursor: Cursor, error: HubError) -> bool:
        """Whether to go on pulling."""
        if error.code == "reset":
            head, floor = int(error.detail.get("head", 0)), int(error.detail.get("floor", 0))
            if cursor.seq > head:
                self._reset(cursor, head, int(error.detail.get("epoch", 0)))
            elif cursor.seq < floor:
                self._jump(cursor, floor)
            else:
                raise BadServer(f"reset without a reason at {cursor.seq} of {cursor.stream}")
            return True
        if error.code in ("not_found", "forbidden"):
            self._left(cursor)
            return False
        if not error.temporary:
            raise BadServer(f"SYNC was refused: {error.code}")
        await asyncio.sleep((error.retry_ms / 1000) or PAUSE_S)
        return True
