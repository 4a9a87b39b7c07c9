"""What people write, without I/O: a message's text and a file's caption follow the same rule."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

from core.errors import Invalid

TEXT_CHARS: Final = 8_000  # 24 KB of Chinese: far below a frame, longer than anybody reads in a chat

UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
"""Categories of characters that show nothing. Unassigned ones (Cn) are the emoji that are newer than this Python."""


def check_text(body: Any) -> None:
    """A text is a string, or a map with nothing but a string `text`. Raises `Invalid`."""
    if isinstance(body, dict) and set(body) == {"text"}:
        body = body["text"]
    if not isinstance(body, str):
        raise Invalid("a text is a string, or a map with the one field text")
    if len(body) > TEXT_CHARS:
        raise Invalid(f"a text has at most {TEXT_CHARS} characters", detail={"characters": len(body)})
    if all(unicodedata.category(char) in UNSEEN for char in body):
        raise Invalid("a text is not empty")
