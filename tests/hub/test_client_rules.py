"""What the client decides, by values in and values out."""

from __future__ import annotations

import random
import uuid
from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from hub.client import chain
from hub.client.rules import Cursor, batches, leaves, uuid7, verdict
from hub.client.wire import Bye, Entry, Page
from hub.streams import rules as hub_rules
from hub.wire import codec


def entry(seq: int, body: Any = "x", kind: str = "text", sender: str = "1") -> Entry:
    return Entry("7", seq, str(seq), sender, kind, 1, body, b"", None)


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_whatever_is_lost_doubled_or_mixed_up_comes_once_and_in_order(seed: int, count: int) -> None:
    """A stream of `count` entries over a channel that does anything, with pages from time to time."""
    chance = random.Random(seed)
    cursor = Cursor("7")
    got: list[int] = []
    channel = [n for n in range(1, count + 1) for _ in range(chance.choice((0, 1, 1, 1, 2)))]
    for index in range(len(channel) - 1):
        if chance.random() < 0.3:
            other = min(len(channel) - 1, index + chance.randint(1, 5))
            channel[index], channel[other] = channel[other], channel[index]
    for seq in channel:
        got += [e.seq for e in cursor.pushed(entry(seq), room=chance.random() < 0.9)]
        if chance.random() < 0.1:
            got += pull(cursor, count, chance)
    cursor.head = max(cursor.head, count)
    while cursor.behind:
        got += pull(cursor, count, chance)
    assert got == list(range(1, count + 1))
    assert not cursor.early


def pull(cursor: Cursor, head: int, chance: random.Random) -> list[int]:
    after, known = cursor.seq, cursor.head
    late = (
        [e.seq for e in cursor.pushed(entry(after + 1), room=True)]
        if chance.random() < 0.3 and after < head
        else []
    )
    last = min(head, after + chance.randint(1, 20))
    page = Page("7", 1, head, [entry(n) for n in range(after + 1, last + 1)], last == head, last)
    return late + [e.seq for e in cursor.paged(page, after, known)]


def test_a_floor_lets_go_of_what_is_before_it() -> None:
    cursor = Cursor("7", seq=2)
    assert cursor.pushed(entry(6), room=True) == []
    assert [e.seq for e in cursor.jump(5)] == [6]
    assert (cursor.seq, cursor.behind, cursor.early) == (6, False, {})


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_keys_are_version_7_in_order_of_time(now_ms: int, chance: bytes) -> None:
    made = uuid.UUID(uuid7(now_ms, chance))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == now_ms
    assert uuid7(now_ms, chance) < uuid7(now_ms + 1, bytes(10)) or now_ms == 2**48 - 1


@given(st.integers(0, 30), st.floats(0, 0.999), st.integers(1000, 4999))
def test_back_off_is_jittered_and_bounded(failures: int, chance: float, code: int) -> None:
    verdict_ = verdict(
        code=code, reason="", bye=None, welcomed=False, failures=failures, base_ms=100, cap_ms=2_000, chance=chance
    )  # fmt: skip
    assert verdict_.come_back is (code < 4500)
    assert 0 <= verdict_.wait_s <= min(2.0, 0.1 * 2**failures)


def test_bye_decides_over_the_close_code() -> None:
    bye = Bye(4001, "draining", True, 5_000)
    verdict_ = verdict(
        code=1006, reason="", bye=bye, welcomed=True, failures=0, base_ms=100, cap_ms=2_000, chance=0.5
    )
    assert verdict_.come_back
    assert 5.0 <= verdict_.wait_s <= 5.1


@given(st.lists(st.integers(1, 400), max_size=60))
def test_batches_keep_order_and_limits(sizes: list[int]) -> None:
    made = batches([(n, size) for n, size in enumerate(sizes)], 8, 500)
    assert [n for batch in made for n in batch] == list(range(len(sizes)))
    for batch in made:
        assert 1 <= len(batch) <= 8
        assert len(batch) == 1 or sum(sizes[n] for n in batch) <= 500


def test_only_the_hub_says_who_is_a_member() -> None:
    body = {"removed": ["1"], "added": ["2"]}
    assert leaves(entry(1, body, "membership", "0"), "1") is True
    assert leaves(entry(1, body, "membership", "0"), "2") is False
    assert leaves(entry(1, body, "membership", "0"), "3") is None
    assert leaves(entry(1, body, "membership", "5"), "1") is None
    assert leaves(entry(1, body, "text", "0"), "1") is None


bodies = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(
    bodies,
    st.none() | st.dictionaries(st.sampled_from(["mentions", "reply_to"]), st.integers(0, 9), min_size=1),
)
def test_both_sides_compute_the_same_digest(body: Any, options: dict[str, int] | None) -> None:
    """The client's own SM3, packing and chain against the hub's."""
    received = msgpack.unpackb(msgpack.packb(body))
    one = Entry("7", 3, "11", "5", "text", 1_700_000_000_000, received, b"", options)
    packed = codec.pack(body)
    content = hub_rules.content_digest("text", packed, None if options is None else codec.pack(options))
    previous = hub_rules.sm3(b"before")
    assert chain.canonical(received) == packed
    assert chain.digest_of(previous, one) == hub_rules.chain_digest(
        previous, 7, 3, 11, 5, 1_700_000_000_000, content
    )


def test_sm3_is_the_standards() -> None:
    """GM/T 0004-2012, appendix A."""
    assert chain.sm3(b"abc").hex() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
