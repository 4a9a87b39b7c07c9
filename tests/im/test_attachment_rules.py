"""What a message with a file looks like: every shape that is let pass, and what is wrong with the others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Invalid
from im.messages.attachments import KINDS, carried
from im.messages.rules import TEXT, Policy

POLICY = Policy()
FILE = {
    "file_id": "384000000000000009",
    "name": "三季度回款.xlsx",
    "size": 48_213,
    "type": "application/vnd.ms-excel",
}
IMAGE = FILE | {"name": "现场.jpg", "type": "image/jpeg"}
VOICE = FILE | {"name": "voice.m4a", "type": "audio/mp4", "duration_ms": 3_400}
VIDEO = FILE | {"name": "厂区.mp4", "type": "video/mp4"}
GOOD = {"file": FILE, "image": IMAGE, "voice": VOICE, "video": VIDEO}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        *GOOD.items(),
        ("file", FILE | {"caption": "请查收", "size": 0}),
        ("file", IMAGE),
        ("image", IMAGE | {"width": 4_032, "height": 3_024, "caption": "👍"}),
        ("voice", VOICE | {"type": "video/webm"}),
        ("voice", VOICE | {"type": "application/ogg", "caption": "重点在最后"}),
        ("video", VIDEO | {"width": 1_920, "height": 1_080, "duration_ms": 12_000, "caption": "看这里"}),
        ("file", FILE | {"file_id": str(2**63 - 1), "name": "👨‍👩‍👧 a b.tar.gz", "type": "text/x-c++"}),
    ],
)  # fmt: skip
def test_messages_with_files(kind: str, body: dict[str, Any]) -> None:
    POLICY.check_send(kind, body)
    assert carried(kind, body) == POLICY.carried(kind, body) == (int(body["file_id"]),)


WRONG: dict[str, list[Any]] = {
    "file_id": [9, "0", "09", "-1", "1.0", "", "٣", "9" * 20, str(2**63), None, ["9"], " 9"],
    "name": ["", " ", None, 5, "a" * 256, "a/b", "..\\b", "a\nb", "a\0b", "\u202egpj.exe", "\u200d", "a\u2028b", b"a"],
    "size": [-1, 1.0, "5", True, None, 2**40 + 1],
    "type": ["", "image", "image/", "/jpeg", "Image/jpeg", "text/plain; charset=utf-8", "a/b/c", None, 5, "图/片"],
    "caption": ["", " ", None, 5, {"text": "a"}, "a" * 8_001],
    "thumbnail": ["x"], "width": [640], "duration_ms": [-1, 1.5, "3", True, 86_400_001],
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_whatever_is_wrong_with_a_field_is_refused(kind: str) -> None:
    for field, values in WRONG.items():
        for value in values:
            with pytest.raises(Invalid):
                POLICY.check_send(kind, GOOD[kind] | {field: value})
    for field in GOOD[kind]:
        with pytest.raises(Invalid):
            POLICY.check_send(kind, {name: value for name, value in GOOD[kind].items() if name != field})
    nothing: list[Any] = [None, "x", 5, [], {}, {"text": "x"}, b"x"]
    for body in nothing:
        with pytest.raises(Invalid):
            POLICY.check_send(kind, body)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("file", {"width": 5, "height": 5}), ("file", {"duration_ms": 5}), ("image", {"duration_ms": 5}),
        ("voice", {"width": 5, "height": 5}), ("image", {"width": 0, "height": 5}), ("video", {"height": 5}),
        ("image", {"type": "application/pdf"}), ("image", {"type": "video/mp4"}), ("voice", {"type": "image/png"}),
        ("voice", {"type": "video/quicktime"}), ("video", {"type": "audio/mp4"}),
        ("video", {"width": 100_001, "height": 5}),
    ],
)  # fmt: skip
def test_a_kind_has_its_own_fields_and_types(kind: str, more: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        POLICY.check_send(kind, GOOD[kind] | more)


@given(
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(
        st.sampled_from(
            ["file_id", "name", "size", "type", "caption", "width", "height", "duration_ms", "x"]
        ),
        st.none() | st.integers() | st.floats() | st.sampled_from([True, "", "7", "a/b", "x", b"x", "0", []]),
    ),
)
def test_whatever_comes_is_refused_or_says_which_file(kind: str, changes: dict[str, Any]) -> None:
    body = GOOD[kind] | changes
    try:
        POLICY.check_send(kind, body)
    except Invalid:
        return
    (file_id,) = carried(kind, body)
    assert str(file_id) == body["file_id"]
    assert 0 < file_id < 2**63


def test_texts_carry_nothing() -> None:
    bodies: list[Any] = ["hallo", {"text": "hallo"}, FILE]
    for body in bodies:
        assert carried(TEXT, body) == carried("recall", body) == ()
