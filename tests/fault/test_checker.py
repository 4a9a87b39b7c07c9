"""The checker is right about a good history, and finds every bad one that was planted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from hub.client import Entry, chain
from tests.fault.checker import Facts, check, memberships, report
from tests.fault.history import History, Row

ROOM = "70"
PEOPLE = ("1", "2", "3")


class Run:
    """A good run: three people, five messages each, one unknown that happened and one that did not."""

    def __init__(self) -> None:
        self.history = History(seed=7)
        self.rows: list[Row] = []
        self.removed: set[tuple[str, int]] = set()
        self.append("0", "m-1", "membership", {"added": list(PEOPLE), "removed": []})
        for n in range(5):
            for person in PEOPLE:
                self.say(person, f"k-{person}-{n}", f"{person} says {n}")
        lost = self.history.invoke("c1", "1", ROOM, "k-lost", "never arrived")
        self.history.unknown(lost)
        late = self.history.invoke("c1", "1", ROOM, "k-late", "arrived, unanswered")
        self.append("1", "k-late", "text", "arrived, unanswered")
        self.history.unknown(late)
        refused = self.history.invoke("c2", "2", ROOM, "k-no", "refused")
        self.history.fail(refused, "invalid")
        for person in PEOPLE:
            for row in self.rows:
                self.deliver(person, row)

    def append(self, sender: str, key: str, kind: str, body: Any) -> Row:
        seq = len(self.rows) + 1
        previous = self.rows[-1].digest if self.rows else chain.START
        entry = Entry(ROOM, seq, str(1000 + seq), sender, kind, seq, body, b"", None)
        row = Row(
            ROOM, seq, entry.entry_id, sender, key, kind, seq, body, None, chain.digest_of(previous, entry)
        )
        self.rows.append(row)
        return row

    def say(self, person: str, key: str, body: str) -> None:
        operation = self.history.invoke(f"c{person}", person, ROOM, key, body)
        row = self.append(person, key, "text", body)
        self.history.ok(operation, row.seq, row.entry_id)

    def deliver(self, person: str, row: Row) -> None:
        self.history.delivered(
            f"c{person}", person, ROOM, row.seq, row.entry_id, row.sender, row.kind, row.body, row.digest
        )

    def change(self, index: int, **fields: Any) -> None:
        self.rows[index] = dataclasses.replace(self.rows[index], **fields)

    @property
    def facts(self) -> Facts:
        clients = {f"c{person}": person for person in PEOPLE}
        return Facts(self.rows, {ROOM: max((r.seq for r in self.rows), default=0)}, clients, self.removed)

    def broken(self) -> set[str]:
        return {violation.promise for violation in check(self.history, self.facts)}


def test_a_good_history_is_good() -> None:
    run = Run()
    assert check(run.history, run.facts) == []


def lose_the_newest(run: Run) -> None:
    """Acknowledged, then gone with the crash."""
    run.rows.pop(-2)
    run.rows.pop()
    run.history.deliveries[:] = [d for d in run.history.deliveries if d.seq < 16]


def lose_in_the_middle(run: Run) -> None:
    del run.rows[8]


def store_twice(run: Run) -> None:
    run.append("1", "k-1-0", "text", "1 says 0")


def store_what_was_refused(run: Run) -> None:
    run.append("2", "k-no", "text", "refused")


def store_what_nobody_said(run: Run) -> None:
    run.append("3", "k-ghost", "text", "boo")


def store_for_a_stranger(run: Run) -> None:
    run.history.invoke("c9", "9", ROOM, "k-9", "let me in")
    run.append("9", "k-9", "text", "let me in")


def store_another_text(run: Run) -> None:
    run.change(5, body="1 says something else")


def answer_another_place(run: Run) -> None:
    run.history.operations[3].seq += 1


def answer_two_ways(run: Run) -> None:
    again = run.history.invoke("c1", "1", ROOM, "k-1-0", "1 says 0")
    run.history.ok(again, 9, "1009")


def swap_two(run: Run) -> None:
    """Stored in the other order than they were answered in."""
    one, two = run.history.operations[4], run.history.operations[5]
    one.seq, two.seq = two.seq, one.seq
    one.entry_id, two.entry_id = two.entry_id, one.entry_id
    a, b = run.rows[one.seq - 1], run.rows[two.seq - 1]
    run.rows[a.seq - 1] = dataclasses.replace(a, sender=b.sender, key=b.key, body=b.body)
    run.rows[b.seq - 1] = dataclasses.replace(b, sender=a.sender, key=a.key, body=a.body)


def tamper(run: Run) -> None:
    run.change(6, time_ms=99)


def deliver_twice(run: Run) -> None:
    run.deliver("2", run.rows[9])


def deliver_late(run: Run) -> None:
    run.history.deliveries[3], run.history.deliveries[4] = (
        run.history.deliveries[4],
        run.history.deliveries[3],
    )


def deliver_with_a_hole(run: Run) -> None:
    del run.history.deliveries[7]


def deliver_not_to_the_end(run: Run) -> None:
    run.history.deliveries.pop()


def deliver_another_text(run: Run) -> None:
    run.history.deliveries[7] = dataclasses.replace(run.history.deliveries[7], body="boo")


def deliver_what_is_not_stored(run: Run) -> None:
    run.history.delivered("c1", "1", ROOM, 99, "1099", "2", "text", "boo", bytes(32))


def deliver_to_a_stranger(run: Run) -> None:
    run.deliver("9", run.rows[4])


PLANTED: list[tuple[Callable[[Run], None], str]] = [
    (lose_the_newest, "P1"), (lose_in_the_middle, "P3"), (store_twice, "P2"), (store_what_was_refused, "P6"),
    (store_what_nobody_said, "P6"), (store_for_a_stranger, "P6"), (store_another_text, "P1"),
    (answer_another_place, "P1"), (answer_two_ways, "P1"), (swap_two, "P3"), (tamper, "P8"), (deliver_twice, "P2"),
    (deliver_late, "P3"), (deliver_with_a_hole, "P1"), (deliver_not_to_the_end, "P1"), (deliver_another_text, "P8"),
    (deliver_what_is_not_stored, "P6"), (deliver_to_a_stranger, "P6"),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "promise"), PLANTED, ids=lambda p: getattr(p, "__name__", p))
def test_every_planted_fault_is_found(plant: Callable[[Run], None], promise: str) -> None:
    run = Run()
    plant(run)
    assert promise in run.broken()


def test_who_comes_and_goes_gets_what_is_theirs() -> None:
    run = Run()
    run.append("0", "m-2", "membership", {"added": [], "removed": ["3"]})
    run.say("1", "k-secret", "3 is not here")
    run.append("0", "m-3", "membership", {"added": ["3"], "removed": []})
    run.say("3", "k-back", "back")
    for person in PEOPLE:
        for row in run.rows[17:]:
            if person != "3" or row.seq != 19:
                run.deliver(person, row)
    assert check(run.history, run.facts) == []
    assert memberships(run.rows)["3"] == [(1, 18), (20, 1 << 62)]
    run.deliver("3", run.rows[18])
    assert "P6" in run.broken()


def test_who_was_away_when_they_were_taken_out_need_not_know() -> None:
    run = Run()
    run.history.deliveries[:] = [d for d in run.history.deliveries if d.person != "3" or d.seq <= 12]
    removal = run.append("0", "m-2", "membership", {"added": [], "removed": ["3"]})
    run.deliver("1", removal)
    run.deliver("2", removal)
    assert check(run.history, run.facts) == []


def test_a_recalled_body_is_no_violation() -> None:
    run = Run()
    run.change(5, body=None)
    assert run.broken() != set()
    run.removed.add((ROOM, 6))
    assert check(run.history, run.facts) == []


def test_a_report_names_the_seed_and_the_events() -> None:
    run = Run()
    deliver_twice(run)
    text = report(run.history, check(run.history, run.facts))
    assert "seed 7" in text
    assert '"got"' in text
