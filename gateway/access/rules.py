"""From rows to grants, decided without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from core.access import BANK, STAFF, Grant, Grants, Level, Reach

ACTIVE: Final = "active"
CONTRACTED: Final = "contracted"
_LEAST: Final = {"enterprise": frozenset({"employee"}), "bank": frozenset[str]()}


class Row(Protocol):
    """A row of `store.held`."""

    def __getitem__(self, column: str, /) -> Any: ...


def grants_from(rows: Sequence[Row]) -> Grants:
    """What the rows of `store.held` say; without departments. Nothing at all where the account is not active."""
    if not rows or rows[0]["person_state"] != ACTIVE:
        return Grants(None)
    first = rows[0]
    if first["registered_at"] is None:
        return Grants(Level.GUEST)  # also who was taken in by a number that has not answered yet
    if first["membership_state"] != ACTIVE or first["enterprise_state"] != ACTIVE:
        return Grants(Level.REGISTERED)
    bank = first["kind"] == "bank"
    built_in = BANK if bank else STAFF
    roles = {row["role"] for row in rows if row["role"] is not None}
    custom: dict[str, Grant] = {}
    for row in rows:
        if row["permission"] is not None:
            grant = Grant(Reach(row["reach"]), row["amount_fen"])
            known = custom.get(row["permission"])
            custom[row["permission"]] = grant if known is None else known.joined(grant)
    return Grants(
        Level.CONTRACTED if first["stage"] == CONTRACTED else Level.MEMBER,
        frozenset(roles & built_in) | _LEAST["bank" if bank else "enterprise"],
        custom,
        "bank" if bank else "enterprise",
    )


def app_grants(row: Row | None) -> Grants:
    """What the row of `store.app` says: the scopes of an installation, where enterprise and app are active."""
    if row is None or row["enterprise_state"] != ACTIVE or row["app_state"] != ACTIVE:
        return Grants(None)
    return Grants(
        Level.CONTRACTED if row["stage"] == CONTRACTED else Level.MEMBER,
        frozenset(),
        {scope: Grant() for scope in row["scopes"].split()},
        "enterprise",
    )


def needs_departments(grants: Grants) -> bool:
    """Whether a grant depends on the departments somebody is in."""
    return any(grant.reach in (Reach.DEPARTMENT, Reach.TREE) for grant in grants.custom.values())


def below(departments: Iterable[tuple[int, int | None]], roots: Iterable[int]) -> frozenset[int]:
    """These departments and all below them. A circle, which must not be, does not trap us."""
    children: dict[int | None, list[int]] = {}
    for department_id, parent_id in departments:
        children.setdefault(parent_id, []).append(department_id)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        department_id = waiting.pop()
        if department_id not in found:
            found.add(department_id)
            waiting.extend(children.get(department_id, ()))
    return frozenset(found)
