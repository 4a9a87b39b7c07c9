"""How numbers of things are said."""

from __future__ import annotations

from house.words import counted


def test_one_and_more() -> None:
    assert [counted(number, "tenant") for number in (0, 1, 2)] == ["0 tenants", "1 tenant", "2 tenants"]
    assert counted(1, "piece of") == "1 piece of"
    assert counted(2, "entry", "entries") == "2 entries"
