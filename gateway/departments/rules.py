"""What a tree of departments may look like, decided without I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

DEPTH: Final = 10  # levels; deeper ones nobody finds his way in
COUNT: Final = 500  # departments of an enterprise; access reads them as one list

Tree = Iterable[tuple[int, int | None]]
"""(department, its parent)"""


def would_circle(tree: Tree, department_id: int, parent_id: int | None) -> bool:
    """Whether moving a department below `parent_id` would put it below itself."""
    return department_id in _up(dict(tree), parent_id)


def depth_below(tree: Tree, department_id: int) -> int:
    """How many levels a department and those below it take."""
    rows = list(tree)
    children = [child for child, parent in rows if parent == department_id]
    return 1 + max((depth_below(rows, child) for child in children), default=0)


def too_deep(tree: Tree, department_id: int | None, parent_id: int | None) -> bool:
    """Whether there would be more than `DEPTH` levels with this department (None: a new one) below `parent_id`."""
    rows = list(tree)
    own = 1 if department_id is None else depth_below(rows, department_id)
    return len(_up(dict(rows), parent_id)) + own > DEPTH


def _up(parents: dict[int, int | None], start: int | None) -> list[int]:
    path: list[int] = []
    while start is not None and start not in path:
        path.append(start)
        start = parents.get(start)
    return path
