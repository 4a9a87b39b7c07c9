"""Text that stands in lines."""

from __future__ import annotations

import pytest

from core.values import one_line


def test_names_are_one_line_of_what_can_be_seen() -> None:
    assert one_line("  王  小\u3000明\n") == "王 小 明"
    assert one_line("👨\u200d👩\u200d👧 家") == "👨\u200d👩\u200d👧 家"
    for wrong in ("", " \n", "王\u202e芳", "a\x1b[2Jb", "零\u200b宽", "\ufeff王", "\u3164", "王\u2800"):
        with pytest.raises(ValueError, match=r"visible|see"):
            one_line(wrong)
