"""The group commit: what came in during a tick becomes one transaction, then one answer each.

Order of events for every message: locked stream, decided, inserted, **committed**, answered (SENT), delivered. The key
of a message is unique in the database for as long as the message exists. The common batch has no repeated key, so it
is inserted without looking; only when the unique constraint refuses it is the batch decided again with a look-up.

Messages that carry files (`hub/streams/files.py`) are looked up before anything is asked of their files: what was
committed once is answered as it was, whatever has become of the file. A batch without them pays nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from typing import Any, Final, Protocol

import structlog
from msgspec import Struct
from msgspec.structs import replace

from core.clock import Clock
from core.db import CommitUnknown, UniqueViolation
from core.errors import BankhubError, Conflict, Forbidden, Internal, Invalid, NotFound, Unavailable
from core.failpoints import failpoint
from core.ids import Ids
from hub.streams.files import Asked, Attached, Carrier, attached, no_files
from hub.streams.rules import chain_digest
from hub.streams.store import CommitTx, Entry, Store, StreamHead

log = structlog.get_logger(__name__)

BATCH_MAX: Final = 1_000  # entries of one transaction: about 10 ms of PostgreSQL
PENDING_MAX: Final = 20_000  # two seconds of the aimed rate; beyond it the sender is asked to wait
BUSY_BATCH: Final = 8  # from here on a batch waits for its tick, so that more share a write
RECENT_KEYS: Final = 20_000  # answers kept to repeat without the database
ATTEMPTS: Final = 5  # of a batch against races with other nodes


class Submission(Struct, eq=False):
    """One SEND or AMEND on its way into a stream."""

    origin: Any  # the connection that asked; opaque here
    frame_id: int
    stream_id: int
    enterprise_id: int
    sender_id: int
    members_version: int  # of the room when the sender's membership was checked
    key: str
    kind: str
    body: bytes
    options: bytes | None
    content: bytes
    change: str | None = None
    target_seq: int = 0  # what is amended, or replied to; 0: nothing
    value: Any = None
    files: Asked | None = None  # what it carries; None: nothing


class Sent(Struct, frozen=True):
    """The answer: what was committed, or what the same key had committed before."""

    stream_id: int
    key: str
    seq: int
    entry_id: int
    time_ms: int
    duplicate: bool
    digest: bytes


Outcome = tuple[Submission, "Sent | BankhubError"]


class AmendPolicy(Protocol):
    """Decides whether an entry may be amended; raises a `BankhubError` if not."""

    def __call__(self, submission: Submission, target: Entry, now_ms: int) -> None: ...


class GroupCommit:
    """Collects submissions and commits them; `on_batch(new entries, outcomes)` runs after each commit.

    `on_unsure()` runs when it is not known whether a commit happened: entries may be there that nobody delivered.
    """

    def __init__(
        self, store: Store, clock: Clock, ids: Ids, *, amend_policy: AmendPolicy,
        on_batch: Callable[[list[Entry], list[Outcome]], Any],
        on_unsure: Callable[[], None] = lambda: None, carrier: Carrier | None = None, tick_s: float = 0.008,
    ) -> None:  # fmt: skip
        self._store, self._clock, self._ids = store, clock, ids
        self._amend_policy, self._on_batch, self._tick_s = amend_policy, on_batch, tick_s
        self._on_unsure = on_unsure
        self._carrier = carrier or Carrier(None, no_files)
        self._pending: list[Submission] = []
        self._recent: OrderedDict[tuple[int, str], tuple[bytes, Sent]] = OrderedDict()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        """Starts the writer task."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="hub.group_commit")

    async def stop(self) -> None:
        """Commits what waits, then ends."""
        await self._idle.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def waiting(self) -> int:
        """Submissions not yet taken into a batch."""
        return len(self._pending)

    def submit(self, submission: Submission) -> Sent | None:
        """Queues a submission, or answers at once what its key was answered before.

        Raises `Conflict` (same key, other content) and `Unavailable` (too many wait).
        """
        earlier = self._recent.get((submission.sender_id, submission.key))
        if earlier is not None:
            return repeated(submission, earlier[0], earlier[1])
        if len(self._pending) >= PENDING_MAX:
            raise Unavailable("the hub has too many messages waiting", retry_ms=500)
        self._pending.append(submission)
        self._idle.clear()
        self._wake.set()
        return None

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                batch, self._pending = self._pending[:BATCH_MAX], self._pending[BATCH_MAX:]
                started_s = self._clock.monotonic_s()
                await self._commit(batch)
                if len(batch) >= BUSY_BATCH:
                    rest_s = self._tick_s - (self._clock.monotonic_s() - started_s)
                    if rest_s > 0:
                        await asyncio.sleep(rest_s)
            self._idle.set()

    async def _commit(self, batch: list[Submission]) -> None:
        entries, outcomes = await self._outcomes(batch)
        await failpoint("hub.after_commit_before_ack")
        for submission, outcome in outcomes:
            if isinstance(outcome, Sent):
                self._recent[submission.sender_id, submission.key] = (submission.content, outcome)
        while len(self._recent) > RECENT_KEYS:
            self._recent.popitem(last=False)
        try:
            result = self._on_batch(entries, outcomes)
            if asyncio.iscoroutine(result):
                await result
        except Exception:
            log.exception("hub.delivery_failed", batch=len(batch))

    async def _outcomes(self, batch: list[Submission]) -> tuple[list[Entry], list[Outcome]]:
        """What becomes of a batch.

        One that fails for another reason than that the database cannot be reached is tried again in parts: who keeps
        the files may be at fault, and then the messages without files need not be refused with the others.
        """
        failure: BankhubError
        try:
            return await self._decide_and_commit(batch)
        except BankhubError as error:
            failure = error
            apart = not error.temporary
            if apart:
                log.warning("hub.commit_refused", batch=len(batch), error=type(error).__name__)
        except Exception as error:
            log.exception("hub.commit_failed", batch=len(batch))
            failure = Unavailable("the message could not be stored now", retry_ms=500)
            failure.__cause__ = error
            apart = True
        plain = [s for s in batch if s.files is None and s.change != "recall"]
        if not apart or len(batch) == 1 or len(plain) == len(batch):
            return [], [(s, failure) for s in batch]
        entries: list[Entry] = []
        outcomes: list[Outcome] = []
        for part in (plain, *([s] for s in batch if s.files is not None or s.change == "recall")):
            if part:
                made, answers = await self._outcomes(part)
                entries += made
                outcomes += answers
        return entries, outcomes

    async def _decide_and_commit(self, batch: list[Submission]) -> tuple[list[Entry], list[Outcome]]:
        look_up = False
        for attempt in range(ATTEMPTS):
            try:
                async with self._store.commit() as tx:
                    decided = await self._decide(tx, batch, look_up=look_up)
                    await failpoint("hub.before_commit")
            except UniqueViolation:
                look_up = True
            except (Unavailable, CommitUnknown):
                if attempt == ATTEMPTS - 1:
                    raise
                look_up = (
                    True  # the commit may have happened: then the keys are there, and the answer is theirs
                )
                self._on_unsure()
                await asyncio.sleep(0.02 * 2**attempt)
            else:
                return decided
        raise Internal("a batch of messages met a used key again and again")

    async def _decide(
        self, tx: CommitTx, batch: Sequence[Submission], *, look_up: bool
    ) -> tuple[list[Entry], list[Outcome]]:
        heads = await tx.lock(list({s.stream_id for s in batch}))
        gone = await self._not_members(tx, batch, heads)
        carrying = [s for s in batch if s.files is not None]
        sought = batch if look_up else carrying
        earlier = await tx.by_keys([(s.sender_id, s.key) for s in sought]) if sought else {}
        answered = {k: (e.content, sent_of(e, duplicate=False)) for k, e in earlier.items()}
        refused = await self._unusable(tx, carrying, heads, gone, answered) if carrying else {}
        tails = {h.stream_id: (h.head, h.digest) for h in heads.values()}
        entries: list[Entry] = []
        references: list[Attached] = []
        erased: dict[tuple[int, int], bool] = {}  # whether files were carried
        outcomes: list[Outcome] = []
        now_ms = self._clock.now_ms()
        for s in batch:
            try:
                before = answered.get((s.sender_id, s.key))
                if before is not None:
                    outcomes.append((s, repeated(s, *before)))
                    continue
                head = heads.get(s.stream_id)
                if head is None or head.enterprise_id != s.enterprise_id:
                    raise NotFound("no such conversation")
                if (s.stream_id, s.sender_id) in gone:
                    raise Forbidden("you are no longer a member of this conversation")
                if s.change is not None:
                    place = (s.stream_id, s.target_seq)
                    target = await tx.entry(*place)
                    if target is None:
                        raise NotFound("no such message in this conversation")
                    if place in erased:  # by an earlier one of this batch
                        target = replace(target, body=None, options=None)
                    self._amend_policy(s, target, now_ms)
                    if s.change == "recall" and place not in erased:
                        erased[place] = self._carrier.carries(target)
                elif s.target_seq > tails[s.stream_id][0]:
                    raise Invalid("there is no such message to reply to")
                if s.files is not None and (why := refused.get(s)) is not None:
                    raise why
            except BankhubError as error:
                outcomes.append((s, error))
                continue
            seq, previous = tails[s.stream_id]
            entry = link(s, head, seq + 1, previous, self._ids.next(), now_ms)
            tails[s.stream_id] = (entry.seq, entry.digest)
            entries.append(entry)
            if s.files is not None:
                references += attached(s.files, entry)
            sent = sent_of(entry, duplicate=False)
            answered[s.sender_id, s.key] = (s.content, sent)
            outcomes.append((s, sent))
        if entries:
            await tx.append(entries)
            moved = {e.stream_id for e in entries}
            await tx.advance((stream, *tails[stream]) for stream in sorted(moved))
        if references:
            await self._carrier.files.attach(tx.transaction, references)
        if erased:
            await tx.erase(list(erased))
            if released := [place for place, carried in erased.items() if carried]:
                await self._carrier.files.release(tx.transaction, released)
        return entries, outcomes

    async def _unusable(
        self, tx: CommitTx, carrying: Sequence[Submission], heads: dict[int, StreamHead],
        gone: set[tuple[int, int]], answered: Container[tuple[int, str]],
    ) -> dict[Submission, BankhubError]:  # fmt: skip
        """Submissions whose files speak against them. Nothing is asked for those that end otherwise."""
        asking = [
            (s, s.files)
            for s in carrying
            if s.files is not None
            and (s.sender_id, s.key) not in answered
            and s.stream_id in heads
            and heads[s.stream_id].enterprise_id == s.enterprise_id
            and (s.stream_id, s.sender_id) not in gone
        ]
        if not asking:
            return {}
        verdicts = await self._carrier.files.usable(tx.transaction, [asked for _, asked in asking])
        return {s: why for (s, _), why in zip(asking, verdicts, strict=True) if why is not None}

    async def _not_members(
        self, tx: CommitTx, batch: Sequence[Submission], heads: dict[int, StreamHead]
    ) -> set[tuple[int, int]]:
        """Senders who were members when they sent, in streams whose membership has changed since, and are none now."""
        doubtful: dict[int, set[int]] = {}
        for s in batch:
            head = heads.get(s.stream_id)
            if head is not None and head.members_version != s.members_version:
                doubtful.setdefault(s.stream_id, set()).add(s.sender_id)
        gone: set[tuple[int, int]] = set()
        for stream_id, senders in doubtful.items():
            members = await tx.members(stream_id, sorted(senders))
            gone.update((stream_id, sender) for sender in senders - members)
        return gone


def link(s: Submission, head: StreamHead, seq: int, previous: bytes, entry_id: int, now_ms: int) -> Entry:
    """The entry that a submission becomes at this place of its stream."""
    digest = chain_digest(previous, s.stream_id, seq, entry_id, s.sender_id, now_ms, s.content)
    return Entry(
        stream_id=s.stream_id, seq=seq, entry_id=entry_id, sender_id=s.sender_id, kind=s.kind, time_ms=now_ms,
        body=s.body, options=s.options, content=s.content, digest=digest, enterprise_id=head.enterprise_id, key=s.key,
    )  # fmt: skip


def sent_of(entry: Entry, *, duplicate: bool) -> Sent:
    """The answer that an entry gives to its sender."""
    return Sent(entry.stream_id, entry.key, entry.seq, entry.entry_id, entry.time_ms, duplicate, entry.digest)


def repeated(s: Submission, content: bytes, sent: Sent) -> Sent:
    """The first answer again, marked `duplicate`; raises `Conflict` if the key said something else then."""
    if content != s.content or sent.stream_id != s.stream_id:
        raise Conflict(
            "this key was used for another message", detail={"seq": sent.seq, "stream": str(sent.stream_id)}
        )
    return Sent(sent.stream_id, sent.key, sent.seq, sent.entry_id, sent.time_ms, True, sent.digest)
