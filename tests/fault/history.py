"""What happened in a run, written down as it happened: the only thing the checker believes besides the database.

Append-only. Every operation is invoked once and ends in at most one of ok, fail (a definite refusal) and unknown (no
answer: it may have happened or not); what never ended is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(slots=True)
class Operation:
    """One SEND, from its first invocation to its answer. `began` and `ended` are places in the history."""

    client: str
    person: str
    stream: str
    key: str
    body: Any
    began: int
    ended: int | None = None
    outcome: Literal["ok", "fail", "unknown"] = "unknown"
    seq: int = 0
    entry_id: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A client handed an entry to its program."""

    at: int
    client: str
    person: str
    stream: str
    seq: int
    entry_id: str
    sender: str
    kind: str
    body: Any
    digest: bytes


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as the database has it after the run."""

    stream: str
    seq: int
    entry_id: str
    sender: str
    key: str
    kind: str
    time_ms: int
    body: Any
    options: Any
    digest: bytes


@dataclass(slots=True)
class History:
    """One run."""

    seed: int = 0
    operations: list[Operation] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)
    _clock: int = 0

    def tick(self) -> int:
        """The next place in the history."""
        self._clock += 1
        return self._clock

    def invoke(self, client: str, person: str, stream: str, key: str, body: Any) -> Operation:
        """An operation begins."""
        operation = Operation(client, person, stream, key, body, self.tick())
        self.operations.append(operation)
        return operation

    def ok(self, operation: Operation, seq: int, entry_id: str) -> None:
        """It was answered."""
        operation.outcome, operation.seq, operation.entry_id, operation.ended = (
            "ok",
            seq,
            entry_id,
            self.tick(),
        )

    def fail(self, operation: Operation, code: str) -> None:
        """It was refused for good: it must not have happened."""
        operation.outcome, operation.code, operation.ended = "fail", code, self.tick()

    def unknown(self, operation: Operation) -> None:
        """Nobody waits for the answer any more."""
        operation.outcome, operation.ended = "unknown", self.tick()

    def delivered(
        self, client: str, person: str, stream: str, seq: int, entry_id: str, sender: str, kind: str, body: Any,
        digest: bytes,
    ) -> None:  # fmt: skip
        """A client got an entry."""
        self.deliveries.append(
            Delivery(self.tick(), client, person, stream, seq, entry_id, sender, kind, body, digest)
        )

    def fault(self, what: str) -> None:
        """Something was broken on purpose."""
        self.faults.append((self.tick(), what))

    def excerpt(self, stream: str, seqs: Iterable[int]) -> str:
        """The events around these entries, as JSON lines, for a violation's report."""
        wanted = set(seqs)
        keys = {o.key for o in self.operations if o.stream == stream and o.seq in wanted}
        lines: list[tuple[int, dict[str, Any]]] = [
            (o.began, {"op": asdict(o)}) for o in self.operations if o.key in keys
        ]
        lines += [
            (d.at, {"got": asdict(d)}) for d in self.deliveries if d.stream == stream and d.seq in wanted
        ]
        lines += [(at, {"fault": what}) for at, what in self.faults]
        return "\n".join(
            json.dumps({"at": at, **what}, default=repr) for at, what in sorted(lines, key=lambda x: x[0])
        )
