"""Every statement of the product, registered where it is defined, so that tests can walk all of them.

    MEMBERS = sql("SELECT person_id FROM im_members WHERE conversation_id = $1 AND enterprise_id = $2")
    NAMES = sql("SELECT person_id, name FROM gateway_people WHERE enterprise_id = $1 AND person_id IN ($*)")

Parameters are `$1`, `$2`, … without gaps. A list is written ``IN ($*)``, once, and given to `fetch_in`. The text is the
common part of PostgreSQL and DM8 (docs/portable-sql.md); tests/lint refuses the rest, and a statement that touches a
tenant's table without naming `enterprise_id`, unless `exempt` says why.
"""

from __future__ import annotations

import re
import sys
from typing import Final

IN_MAX: Final = 512  # values of one IN list: plans and packets stay small, DM8 allows 2048

_PARAMETER: Final = re.compile(r"\$(\d+)")
_LIST: Final = re.compile(r"\bIN \(\$\*\)")


class Sql:
    """One registered statement. Made by `sql` only, once, at import."""

    __slots__ = ("_expanded", "exempt", "lists", "parameters", "text", "where")

    def __init__(self, text: str, exempt: str | None, where: str) -> None:
        self.text = " ".join(text.split())
        self.exempt = exempt
        self.where = where
        numbers = {int(n) for n in _PARAMETER.findall(self.text)}
        self.parameters = max(numbers, default=0)
        self.lists = "$*" in self.text
        if numbers != set(range(1, self.parameters + 1)):
            raise ValueError(f"{where}: parameters are $1, $2, … without gaps")
        if self.text.count("$*") != len(_LIST.findall(self.text)) or self.text.count("$*") > 1:
            raise ValueError(f"{where}: a list is written IN ($*), once")
        if exempt is not None and len(exempt) < 10:
            raise ValueError(f"{where}: exempt= says why in a sentence")
        self._expanded: dict[int, str] = {}

    def expanded(self, count: int) -> str:
        """The text with `count` parameters in the place of ``$*``, numbered after the others."""
        text = self._expanded.get(count)
        if text is None:
            first = self.parameters + 1
            marks = ", ".join(f"${n}" for n in range(first, first + count))
            text = self._expanded[count] = self.text.replace("$*", marks)
        return text

    def __repr__(self) -> str:
        return f"<sql {self.where}>"


STATEMENTS: Final[list[Sql]] = []
"""All statements that this process has imported, in order of registration."""


def sql(text: str, *, exempt: str | None = None) -> Sql:
    """Register a portable statement. Raises `ValueError` for parameters that do not add up."""
    frame = sys._getframe(1)
    where = f"{frame.f_globals.get('__name__', '?')}:{frame.f_lineno}"
    statement = Sql(text, exempt, where)
    STATEMENTS.append(statement)
    return statement


def padded(count: int) -> int:
    """The list length that is prepared for `count` values: the next power of two, so that few texts exist."""
    return 1 << (count - 1).bit_length()
