"""The list of requirements itself: complete, grouped, and honest about decisions that are there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.security.matrix import page
from tests.security.requirements import FORM, GROUPS, REQUIREMENTS

COUNTS = {"S": 11, "T": 9, "A": 6, "W": 12, "F": 6, "D": 7}
DECISIONS = Path(__file__).resolve().parents[2] / "docs" / "decisions"


def test_all_fifty_one_are_there() -> None:
    assert list(GROUPS) == list(COUNTS)
    assert list(REQUIREMENTS) == [
        f"{group}{n:02d}" for group, most in COUNTS.items() for n in range(1, most + 1)
    ]


def test_what_is_met_otherwise_names_decisions_that_exist() -> None:
    assert set(FORM) <= set(REQUIREMENTS)
    for text in FORM.values():
        for number in re.findall(r"decision (\d+)", text):
            assert list(DECISIONS.glob(f"{int(number):04d}-*.md")), text


def test_the_page_tells_it() -> None:
    lines = list(page({"S05": {"tests/a.py::test_a": "passed", "tests/a.py::test_b": "failed"}}))
    (row,) = [line for line in lines if line.startswith("| S05 |")]
    assert "single use, 30 s, bound to session, device and node audience" in row
    assert "There is no ticket" in row
    assert row.endswith("| `a.py::test_a`<br>`a.py::test_b` | failed |")
    assert lines[0].startswith("1 of 51")
    assert any(line.startswith("| F01 |") and line.endswith("| — | not yet |") for line in lines)
