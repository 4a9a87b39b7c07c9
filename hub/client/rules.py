"""What a client decides, without I/O: what is due of a stream, when to come back, what a key looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hub.client.wire import BadServer, Bye, Entry, Page

EARLY_MAX: Final = 256  # entries kept while the one before them is pulled; beyond it they are pulled as well
STEADY_S: Final = 5.0  # a session that lasted so long resets the back-off
MEMBERSHIP: Final = "membership"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about a stream that is not an entry, at its place in the order.

    `floor`: entries `first` to `last` are not for this person. `reset`: the stream was rebuilt, it begins again.
    `left`: nothing comes any more, this person is out. `broken`: the digest of entry `first` does not follow.
    """

    stream: str
    what: Literal["floor", "reset", "left", "broken"]
    first: int = 0
    last: int = 0


@dataclass(slots=True)
class Cursor:
    """How far a client is in one stream. `seq` was handed on, `used` was taken by the application."""

    stream: str
    seq: int = 0
    epoch: int = 0
    head: int = 0  # the newest seq known to exist
    left: bool = False
    doubt: bool = False  # the hub says that we have more than there is: a SYNC decides
    used: int = 0
    chain: tuple[int, bytes] | None = None  # (seq, digest) of the newest entry seen, for checking the next
    early: dict[int, Entry] = field(default_factory=dict)

    @property
    def behind(self) -> bool:
        """Whether something must be pulled."""
        return (self.doubt or self.seq < self.head) and not self.left

    def pushed(self, entry: Entry, *, room: bool) -> list[Entry]:
        """An ENTRY came; returns what is due, in order. Without `room` it is only remembered that it exists."""
        self.head = max(self.head, entry.seq)
        if entry.seq <= self.seq or not room:
            return []
        if entry.seq > self.seq + 1:
            if len(self.early) < EARLY_MAX:
                self.early[entry.seq] = entry
            return []
        return [entry, *self._take(entry)]

    def paged(self, page: Page, after: int, head: int) -> list[Entry]:
        """A PAGE answered SYNC after `after`, asked for when `head` was known; returns what is due.

        Raises `BadServer` for a page with a hole.
        """
        expected = after + 1
        for index, entry in enumerate(page.entries):
            if entry.seq != expected and (
                after or index or entry.seq < expected
            ):  # only 0 means "from the floor"
                raise BadServer(f"a page has {entry.seq} where {expected} belongs")
            expected = entry.seq + 1
        if not page.done and not page.entries:
            raise BadServer("an empty page that is not done")
        due: list[Entry] = []
        for entry in page.entries:
            if entry.seq > self.seq:
                due += [entry, *self._take(entry)]
        if page.done and after == 0 and not page.entries:
            self.jump(max(self.seq, page.next))
        if page.done and self.head == head:
            self.head = max(self.seq, page.head)  # the database knows better, unless something came meanwhile
        else:
            self.head = max(self.head, page.head)
        self.epoch, self.doubt = page.epoch, False
        self.early = {at: entry for at, entry in self.early.items() if at > self.seq}
        return due

    def jump(self, seq: int) -> list[Entry]:
        """Entries up to `seq` will not come; returns what is due behind them."""
        due: list[Entry] = []
        if seq > self.seq:
            self.seq = seq
            self.head = max(self.head, seq)
            following = self.early.pop(seq + 1, None)
            if following is not None:
                due = [following, *self._take(following)]
            self.early = {at: entry for at, entry in self.early.items() if at > self.seq}
        return due

    def restart(self, head: int, epoch: int) -> None:
        """The stream was rebuilt: what we had of it counts no more."""
        self.seq = self.used = 0
        self.doubt = False
        self.head, self.epoch = head, epoch
        self.chain = None
        self.early.clear()

    def _take(self, entry: Entry) -> list[Entry]:
        self.seq = entry.seq
        due: list[Entry] = []
        while self.early and (following := self.early.pop(self.seq + 1, None)) is not None:
            due.append(following)
            self.seq = following.seq
        return due


def leaves(entry: Entry, user: str) -> bool | None:
    """Whether a membership entry takes `user` out (True) or in (False); None if it is about others."""
    if entry.kind != MEMBERSHIP or entry.sender != "0" or not isinstance(entry.body, Mapping):
        return None
    if user in (entry.body.get("removed") or ()):
        return True
    return False if user in (entry.body.get("added") or ()) else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a connection ended."""

    come_back: bool
    wait_s: float
    reason: str


def verdict(
    *, code: int, reason: str, bye: Bye | None, welcomed: bool, failures: int, base_ms: int, cap_ms: int, chance: float
) -> Verdict:  # fmt: skip
    """When to come back, if at all: BYE's word, else the close code's class, else back-off with full jitter.

    `failures` counts attempts since the last session that lasted, `chance` is in [0, 1). A token that was good once
    and is not any more (4500) is worth one more try, with a new one.
    """
    if bye is not None:
        code, reason = bye.code, bye.reason
    come_back = bye.reconnect if bye is not None else not 4500 <= code <= 4999
    if code == 4500 and welcomed:
        come_back = True
    jitter_s = chance * min(cap_ms, base_ms * 2 ** min(failures, 20)) / 1000
    after_s = bye.after_ms / 1000 if bye is not None and bye.reconnect else 0.0
    return Verdict(come_back, after_s + jitter_s, reason or f"closed with {code}")


def uuid7(now_ms: int, random: bytes) -> str:
    """A UUID version 7 (RFC 9562) of this time and these ten random bytes."""
    number = (now_ms & (1 << 48) - 1) << 80 | int.from_bytes(random[:10], "big")
    number = number & ~(0xF << 76) | 7 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def batches(frames: Sequence[tuple[Any, int]], count_max: int, bytes_max: int) -> list[list[Any]]:
    """Frames, each with its size, as messages of at most so many frames and bytes, in order."""
    made: list[list[Any]] = []
    size = 0
    for frame, bytes_ in frames:
        if not made or len(made[-1]) >= count_max or size + bytes_ > bytes_max:
            made.append([])
            size = 5  # the array's own head
        made[-1].append(frame)
        size += bytes_
    return made
