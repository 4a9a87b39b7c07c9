"""The one judge of every fault run: a history and the database's last word against the hub's promises.

P1  no acknowledged message is lost: what was answered SENT is in the database as it was answered, and with everybody
P2  exactly once: a key is stored once, a client gets an entry once; what is unknown is there at most once
P3  order: seq is dense, each client gets them without a hole and in order; what was answered before another was asked
    for stands before it
P6  no ghost: what is stored and delivered was sent, by that person, who was a member at that place
P8  nothing else may be lost: the digest chain holds, and what a client got is what is stored
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hub.client import Entry, chain
from tests.fault.history import Delivery, History, Operation, Row

SYSTEM = "0"
FOREVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, and where."""

    promise: str
    what: str
    stream: str = ""
    seqs: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.promise} {self.stream}{list(self.seqs) if self.seqs else ''}: {self.what}"


@dataclass
class Facts:
    """What the checker knows besides the history."""

    rows: Sequence[Row]
    heads: Mapping[str, int]  # as the stream's own row says
    clients: Mapping[str, str]  # those that were online and quiet at the end: client → person
    removed: set[tuple[str, int]] = field(default_factory=set)  # entries whose body was recalled


def check(history: History, facts: Facts) -> list[Violation]:
    """Everything that is wrong; empty if the hub kept its word."""
    by_stream: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(facts.rows, key=lambda row: row.seq):
        by_stream[row.stream].append(row)
    found: list[Violation] = []
    for stream in sorted({*by_stream, *facts.heads}):
        found += _stored_in_order(stream, by_stream[stream], facts)
    found += _answers_are_kept(history, facts)
    found += _nothing_is_made_up(history, facts, by_stream)
    found += _order_of_time(history)
    found += _delivered(history, facts, by_stream)
    return found


def report(history: History, violations: Sequence[Violation], most: int = 5) -> str:
    """What a person needs to find out why: the seed, and the events around the first violations."""
    lines = [f"seed {history.seed}: {len(violations)} violations"]
    for violation in violations[:most]:
        lines += [str(violation), history.excerpt(violation.stream, violation.seqs)]
    return "\n".join(lines)


def _stored_in_order(stream: str, rows: Sequence[Row], facts: Facts) -> Iterable[Violation]:
    seqs = [row.seq for row in rows]
    if seqs != list(range(1, len(rows) + 1)):
        odd = next(n for n, seq in enumerate(seqs, 1) if n != seq)
        yield Violation("P3", "stored entries are not dense", stream, (odd,))
        return
    if facts.heads.get(stream) != len(rows):
        yield Violation("P3", f"the head is {facts.heads.get(stream)}, the newest entry {len(rows)}", stream)
    previous = chain.START
    for row in rows:
        entry = Entry(
            row.stream,
            row.seq,
            row.entry_id,
            row.sender,
            row.kind,
            row.time_ms,
            row.body,
            row.digest,
            row.options,
        )
        if (stream, row.seq) not in facts.removed and chain.digest_of(previous, entry) != row.digest:
            yield Violation("P8", "the digest chain breaks", stream, (row.seq,))
            return
        previous = row.digest


def _answers_are_kept(history: History, facts: Facts) -> Iterable[Violation]:
    keys: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in facts.rows:
        keys[row.sender, row.key].append(row)
    for operation in history.operations:
        rows = keys.get((operation.person, operation.key), [])
        where = tuple(row.seq for row in rows)
        if len(rows) > 1:
            yield Violation("P2", f"key {operation.key} is stored {len(rows)} times", operation.stream, where)
        elif operation.outcome == "fail" and rows and not _said_by_another(history, operation):
            yield Violation("P6", f"refused with {operation.code}, but stored", operation.stream, where)
        elif operation.outcome == "ok" and not rows:
            yield Violation(
                "P1", f"answered as {operation.seq}, not stored", operation.stream, (operation.seq,)
            )
        elif operation.outcome == "ok":
            (row,) = rows
            stored = (row.stream, row.seq, row.entry_id)
            if stored != (operation.stream, operation.seq, operation.entry_id):
                yield Violation(
                    "P1", f"answered as {operation.seq}, stored as {stored}", operation.stream, where
                )
            elif (row.stream, row.seq) not in facts.removed and row.body != operation.body:
                yield Violation("P1", "stored with another body", operation.stream, where)


def _said_by_another(history: History, operation: Operation) -> bool:
    """Whether the same key was given to another operation, which may be the one that is stored."""
    return any(
        o is not operation and (o.person, o.key) == (operation.person, operation.key)
        for o in history.operations
    )


def _nothing_is_made_up(
    history: History, facts: Facts, by_stream: Mapping[str, Sequence[Row]]
) -> Iterable[Violation]:
    asked: dict[tuple[str, str], list[Operation]] = defaultdict(list)
    for operation in history.operations:
        asked[operation.person, operation.key].append(operation)
    for stream, rows in by_stream.items():
        spans = memberships(rows)
        for row in rows:
            if row.sender == SYSTEM:
                continue
            said = [o for o in asked.get((row.sender, row.key), ()) if o.stream == stream]
            if not said:
                yield Violation("P6", f"{row.sender} never said this", stream, (row.seq,))
            elif (stream, row.seq) not in facts.removed and all(o.body != row.body for o in said):
                yield Violation("P6", f"{row.sender} said something else", stream, (row.seq,))
            if not any(first < row.seq <= last for first, last in spans.get(row.sender, ())):
                yield Violation("P6", f"{row.sender} was no member here", stream, (row.seq,))


def memberships(rows: Sequence[Row]) -> dict[str, list[tuple[int, int]]]:
    """Person → spans of seqs that are theirs: from the entry that takes them in to the one that takes them out."""
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        if row.kind != "membership" or row.sender != SYSTEM:
            continue
        for person in row.body.get("removed", ()):
            if spans[person] and spans[person][-1][1] == FOREVER:
                spans[person][-1] = (spans[person][-1][0], row.seq)
        for person in row.body.get("added", ()):
            spans[person].append((row.seq, FOREVER))
    return spans


def _order_of_time(history: History) -> Iterable[Violation]:
    """If A was answered before B was asked for, A stands before B."""
    done = sorted(
        (o for o in history.operations if o.outcome == "ok" and o.ended is not None),
        key=lambda o: o.ended or 0,
    )
    first_asked: dict[tuple[str, str], int] = {}
    for o in history.operations:
        first_asked[o.person, o.key] = min(o.began, first_asked.get((o.person, o.key), o.began))
    for stream in {o.stream for o in done}:
        mine = [o for o in done if o.stream == stream]
        newest, at = 0, 0
        for o in sorted(mine, key=lambda o: first_asked[o.person, o.key]):
            while at < len(mine) and (mine[at].ended or 0) < first_asked[o.person, o.key]:
                newest = max(newest, mine[at].seq)
                at += 1
            if o.seq <= newest:
                yield Violation("P3", "stands before one that was answered earlier", stream, (o.seq, newest))


def _delivered(history: History, facts: Facts, by_stream: Mapping[str, Sequence[Row]]) -> Iterable[Violation]:
    got: dict[tuple[str, str, str], list[Delivery]] = defaultdict(list)
    for delivery in history.deliveries:
        got[delivery.client, delivery.person, delivery.stream].append(delivery)
    for (client, person, stream), deliveries in got.items():
        yield from _same_as_stored(client, stream, deliveries, by_stream.get(stream, ()), facts)
        yield from _in_order(client, stream, deliveries)
        spans = memberships(by_stream.get(stream, ())).get(person, [])
        foreign = [d.seq for d in deliveries if not any(first <= d.seq <= last for first, last in spans)]
        if foreign:
            yield Violation("P6", f"{client} got what was not theirs", stream, tuple(foreign[:5]))
    for client, person in facts.clients.items():
        for stream, rows in by_stream.items():
            for first, last in memberships(rows).get(person, []):
                seqs = {d.seq for d in got.get((client, person, stream), ()) if first <= d.seq <= last}
                if last == FOREVER:
                    due = set(range(first, len(rows) + 1))
                else:  # who was away when they were taken out never learns the rest: a beginning is enough
                    due = set(range(first, max(seqs) + 1)) if seqs else set()
                if missing := sorted(due - seqs):
                    yield Violation(
                        "P1", f"{client} misses {len(missing)} entries", stream, tuple(missing[:5])
                    )


def _same_as_stored(
    client: str, stream: str, deliveries: Sequence[Delivery], rows: Sequence[Row], facts: Facts
) -> Iterable[Violation]:
    for d in deliveries:
        if d.seq > len(rows):
            yield Violation("P6", f"{client} got an entry that is not stored", stream, (d.seq,))
            continue
        row = rows[d.seq - 1]
        same = (d.entry_id, d.sender, d.kind, d.digest) == (row.entry_id, row.sender, row.kind, row.digest)
        erased = (stream, d.seq) in facts.removed
        if not same or (d.body != row.body and not erased):
            yield Violation("P8", f"{client} got another entry than is stored", stream, (d.seq,))


def _in_order(client: str, stream: str, deliveries: Sequence[Delivery]) -> Iterable[Violation]:
    seen: set[int] = set()
    newest = 0
    for d in deliveries:
        if d.seq in seen:
            yield Violation("P2", f"{client} got it twice", stream, (d.seq,))
        elif d.seq < newest:
            yield Violation("P3", f"{client} got it after {newest}", stream, (d.seq, newest))
        seen.add(d.seq)
        newest = max(newest, d.seq)
