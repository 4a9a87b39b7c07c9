"""Words for people in what verbs print."""

from __future__ import annotations


def counted(number: int, one: str, more: str | None = None) -> str:
    """A number of things as people say it: 1 tenant, 2 tenants."""
    return f"{number} {one if number == 1 else more or one + 's'}"
