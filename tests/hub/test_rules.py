"""The digest chain, content identity and unread counts, by their definitions in docs/protocol.md."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.streams.rules import EMPTY_DIGEST, chain_digest, content_digest, sm3, storable, unread
from hub.wire.codec import pack

bodies = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_sm3_is_the_standards() -> None:
    """GM/T 0004-2012, examples A.1 and A.2."""
    assert sm3(b"abc").hex() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert sm3(b"abcd" * 16).hex() == "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"


def test_chain_digest_is_the_bytes_of_the_document() -> None:
    content = sm3(b"content")
    data = EMPTY_DIGEST + b"".join(n.to_bytes(8, "big") for n in (7, 1, 2, 3, 1_700_000_000_000)) + content
    assert chain_digest(EMPTY_DIGEST, 7, 1, 2, 3, 1_700_000_000_000, content) == sm3(data)


@given(bodies)
def test_canonical_form_is_what_another_library_makes_of_sorted_maps(body: object) -> None:
    def ordered(value: object) -> object:
        if isinstance(value, dict):
            return {key: ordered(value[key]) for key in sorted(value)}
        return [ordered(each) for each in value] if isinstance(value, list) else value

    packed = pack(body)
    assert packed == msgpack.packb(ordered(body))
    whole = msgpack.packb(["text", ordered(body), None])
    assert content_digest("text", packed, None) == sm3(whole)


@given(st.dictionaries(st.text(), st.integers(0, 9), min_size=2))
def test_the_order_of_keys_does_not_make_other_content(body: dict[str, int]) -> None:
    backwards = dict(reversed(body.items()))
    assert content_digest("text", pack(body), None) == content_digest("text", pack(backwards), None)


def test_kind_and_options_are_part_of_the_content() -> None:
    body = pack("hi")
    digests = {
        content_digest("text", body, None),
        content_digest("note", body, None),
        content_digest("text", body, pack({"reply_to": 3})),
    }
    assert len(digests) == 3


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_unread_counts_what_lies_behind_every_watermark(head: int, floor: int, read: int, sent: int) -> None:
    expected = sum(1 for seq in range(1, head + 1) if seq > floor and seq > read and seq > sent)
    assert unread(head=head, floor=floor, read=read, sent=sent) == expected


@pytest.mark.parametrize("levels", [15, 16])
def test_depth_within(levels: int) -> None:
    body: object = "x"
    for _ in range(levels):
        body = [body]
    assert storable(body)


def test_depth_over() -> None:
    body: object = "x"
    for _ in range(17):
        body = {"a": body}
    assert not storable(body)
    assert not storable({1: "keys are strings"})
    assert not storable([2**64])
    assert storable([2**64 - 1, -(2**63), None, True, 1.5, b"x"])
