"""Halves of characters in JSON: replaced where they stand, and nothing else is touched."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire import codec
from hub.wire.frames import Send


def said(text: str) -> object:
    (frame,) = codec.decode(f'[[5,1,"7","k","text",{text}]]'.encode(), text=True)
    assert isinstance(frame, Send)
    return frame.body


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r'"\ud83d\ude00"', "😀"),
        (r'"a\ud83d"', "a\ufffd"),
        (r'"\ude00b"', "\ufffdb"),
        (r'"\ud83d\ud83d\ude00"', "\ufffd😀"),
        (r'"\\ud83d \ud83d"', "\\ud83d \ufffd"),
        (r'"\\\ud83d"', "\\\ufffd"),
        (r'"\uD83Dx\u00e9"', "\ufffdxé"),
    ],
)
def test_a_half_is_replaced(written: str, read: str) -> None:
    assert said(written) == read


@given(st.text())
def test_whole_text_stays(text: str) -> None:
    assert said(json.dumps(text)) == text
