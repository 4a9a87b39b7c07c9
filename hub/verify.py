"""`bankhub verify`: walks streams and says where one breaks. Reads only; safe beside a running hub."""

from __future__ import annotations

from collections.abc import AsyncIterator

from msgspec import Struct

from core.codec import unpack
from core.db import Database
from hub.streams.rules import EMPTY_DIGEST, chain_digest, content_digest
from hub.streams.store import Entry, StreamHead, StreamStore, stream_ids

PAGE = 2_000
RECALL, EDIT = "recall", "edit"  # kinds of docs/protocol.md that take contents away


class Fault(Struct, frozen=True):
    """Where a stream does not hold: the first bad entry, and why."""

    stream_id: int
    seq: int
    why: str


class Verified(Struct):
    """What was walked."""

    streams: int = 0
    entries: int = 0
    removed: int = 0  # bodies that were recalled; their digests still hold
    faults: list[Fault] = []


def check_link(previous: bytes, seq: int, entry: Entry) -> str | None:
    """Why `entry` is not the link number `seq` behind `previous`; None if it is."""
    if entry.seq != seq:
        return f"entry {seq} is missing"
    if entry.body is not None and content_digest(entry.kind, entry.body, entry.options) != entry.content:
        return "the content was changed"
    expected = chain_digest(
        previous, entry.stream_id, entry.seq, entry.entry_id, entry.sender_id, entry.time_ms, entry.content
    )
    return None if expected == entry.digest else "the digest does not follow from the entry before"


class Removals:
    """Contents that are gone from a stream, and the recalls that say so."""

    def __init__(self) -> None:
        self._gone: list[tuple[int, str]] = []
        self._recalls: dict[int, int] = {}  # what was recalled -> the last recall of it

    def see(self, entry: Entry) -> None:
        """The next entry of the stream."""
        if entry.body is None:
            self._gone.append((entry.seq, entry.kind))
        elif entry.kind == RECALL:
            self._recalls[int(unpack(entry.body)["seq"])] = entry.seq

    def unexplained(self) -> int | None:
        """The first entry whose content is gone though nobody recalled it, nor (an edit) anything it could be of."""
        for seq, kind in self._gone:
            of_edit = kind == EDIT and any(target < seq < at for target, at in self._recalls.items())
            if seq not in self._recalls and not of_edit:
                return seq
        return None


async def verify(db: Database, stream_id: int | None = None) -> Verified:
    """Walks one stream, or all of them. A stream that grows meanwhile is walked up to its head at the start."""
    store = StreamStore(db)
    result = Verified()
    if stream_id is not None:
        head = await store.stream(stream_id)
        if head is None:
            result.faults.append(Fault(stream_id, 0, "there is no such stream"))
        else:
            await _walk(store, head, result)
        return result
    async for each in _all_streams(db):
        head = await store.stream(each)
        if head is not None:
            await _walk(store, head, result)
    return result


async def _all_streams(db: Database) -> AsyncIterator[int]:
    after = 0
    while ids := await stream_ids(db, after, PAGE):
        for each in ids:
            yield each
        after = ids[-1]


async def _walk(store: StreamStore, head: StreamHead, result: Verified) -> None:
    result.streams += 1
    previous, seq, removals = EMPTY_DIGEST, 0, Removals()
    while seq < head.head:
        entries = await store.entries(head.stream_id, seq, min(PAGE, head.head - seq))
        if not entries:
            result.faults.append(
                Fault(head.stream_id, seq + 1, f"entries {seq + 1} to {head.head} are missing")
            )
            return
        for entry in entries:
            seq += 1
            why = check_link(previous, seq, entry)
            if why is not None:
                result.faults.append(Fault(head.stream_id, seq, why))
                return
            result.entries += 1
            result.removed += entry.body is None
            removals.see(entry)
            previous = entry.digest
    if previous != head.digest:
        result.faults.append(Fault(head.stream_id, head.head, "the head's digest is not the last entry's"))
        return
    if (gone := removals.unexplained()) is not None:
        result.faults.append(Fault(head.stream_id, gone, "the content is gone, and no recall says so"))
