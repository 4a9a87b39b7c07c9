"""A room lets every entry through once and in order, whatever order they come in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.node.rooms import RING_ENTRIES, Event, Room


def room(head: int = 0) -> Room:
    return Room(9, "9", 1, head=head, epoch=1, members_version=1, member_count=2)


@given(st.lists(st.integers(1, 30), max_size=120))
def test_order_repetition_and_holes(seqs: list[int]) -> None:
    followed, delivered = room(), []
    for seq in seqs:
        delivered += [event.seq for event in followed.accept(Event(9, seq, b""))]
    assert delivered == list(range(1, len(delivered) + 1))
    contiguous = 0
    while contiguous + 1 in seqs:
        contiguous += 1
    assert followed.head == contiguous == len(delivered)
    assert followed.hole() == any(seq > contiguous for seq in seqs)


@given(st.integers(1, 400), st.integers(0, 400))
def test_the_ring_gives_everything_since_or_nothing(entries: int, since: int) -> None:
    followed = room()
    for seq in range(1, entries + 1):
        for event in followed.accept(Event(9, seq, b"")):
            followed.keep(event, seq.to_bytes(2, "big"))
    frames = followed.since(since)
    if since >= entries:
        assert frames == []
    elif entries - since <= RING_ENTRIES:
        assert frames == [seq.to_bytes(2, "big") for seq in range(since + 1, entries + 1)]
    else:
        assert frames is None


def test_a_removed_body_is_not_replayed() -> None:
    followed = room()
    for seq in range(1, 6):
        for event in followed.accept(Event(9, seq, b"", target=2 if seq == 5 else 0)):
            followed.keep(event, b"%d" % seq)
    assert followed.since(1) is None
    assert followed.since(3) is None  # 3 may be an edit of 2
    assert followed.since(4) == [b"5"]
