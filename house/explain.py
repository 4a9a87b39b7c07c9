"""`explain-access PERSON ACTION`: the decision about somebody, an action and perhaps a record, with every reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console

from core.access import (
    SECOND_FACTOR,
    Check,
    Grant,
    Grants,
    Permission,
    Principal,
    Reach,
    Resource,
    decide,
    within,
)
from core.actions import Action
from core.clock import SystemClock
from core.crypto.columns import Columns
from core.db import Database, Record
from core.errors import Invalid, NotFound
from core.settings import Settings
from gateway.access.grantor import MemberGrants
from gateway.departments import store as departments
from gateway.identity import store
from gateway.identity.rules import normal_login
from gateway.people.phones import shown_phone
from house import compose


@dataclass(frozen=True, slots=True)
class About:
    """The record that is asked about: whose it is (by default in their departments), where, how much, made by whom."""

    owner: str | None = None
    departments: tuple[int, ...] = ()
    amount_fen: int | None = None
    maker: str | None = None

    def __bool__(self) -> bool:
        return self != About()


async def explain(
    settings: Settings,
    person: str,
    action: str,
    enterprise_id: int | None,
    acr: int = SECOND_FACTOR,
    about: About | None = None,
) -> int:
    """Print who the person is, then for each enterprise (or the given one) the rules in order; 0: may somewhere."""
    known = {one.name: one for one in compose.actions()}
    if action not in known:
        near = [name for name in known if action in name]
        raise Invalid(f"there is no action {action}" + (f"; {', '.join(near)}?" if near else ""))
    columns = compose.columns_of(settings)
    db = await compose.open_database(settings)
    try:
        found = await _person(db, columns, person)
        person_id, about = found["person_id"], about or About()
        places = [(one[0], one[1]) for one in await store.enterprises_of(db, person_id)]
        if enterprise_id is not None:
            places = [one for one in places if one[0] == enterprise_id] or [
                (enterprise_id, "not a member here")
            ]
        out = Console(highlight=False, soft_wrap=True)
        out.print(
            f"{found['full_name']} ({shown_phone(columns, found)}), id {person_id}, account {found['state']}",
            markup=False,
        )
        factors = "a second factor" if acr >= SECOND_FACTOR else "a password or a code alone"
        out.print(f"as of a session that began with {factors} (--acr {acr})")
        grants, may = MemberGrants(db, SystemClock()), False
        for place_id, name in places or [(0, "in no enterprise")]:
            who = Principal(person_id, place_id, frozenset(), 0, "", 1 << 62, acr)
            has = await grants.grants(who)
            allowed, lines = await _here(db, columns, known[action], who, has, about)
            may = may or allowed
            out.print(
                f"\n{name} ({place_id}): {action} is {'allowed' if allowed else 'refused'}", markup=False
            )
            if has.roles:
                out.print(f"    roles: {', '.join(sorted(has.roles))}", markup=False)
            for line in lines:
                out.print(f"  {line}", markup=False)
        out.print(f"\n{_besides(known[action], about)}", markup=False)
        return 0 if may else 1
    finally:
        await db.close()


async def _here(
    db: Database, columns: Columns, action: Action[Any, Any], who: Principal, has: Grants, about: About
) -> tuple[bool, list[str]]:
    """Whether it is allowed in this enterprise, about this record; and the reasons."""
    decision = decide(action.needs, who, has)
    lines = [_line(check) for check in decision.checks]
    if decision.refusal is not None:
        return False, [*lines, f"  refused: {decision.refusal.message}"]
    held = has.of(action.needs) if isinstance(action.needs, Permission) else None
    if held is None:
        return True, [
            *lines,
            *(["  no permission, so no reach: the action decides about the record"] if about else []),
        ]
    lines.append(f"  {_reach(held, has)}")
    if not about:
        return True, lines
    record = await _record(db, columns, who.enterprise_id, about)
    within_reach = within(held, has, who, record)
    return within_reach.allowed, [*lines, *(_line(check) for check in within_reach.checks)]


async def _record(db: Database, columns: Columns, enterprise_id: int, about: About) -> Resource:
    owner_id = (await _person(db, columns, about.owner))["person_id"] if about.owner else None
    maker_id = (await _person(db, columns, about.maker))["person_id"] if about.maker else None
    where = frozenset(about.departments)
    if owner_id is not None and not where:
        placed = (await departments.of_many(db, enterprise_id, [owner_id])).get(owner_id, [])
        where = frozenset(one.department_id for one in placed)
    return Resource(owner_id, where, about.amount_fen, maker_id)


async def _person(db: Database, columns: Columns, person: str) -> Record:
    """person_id, full_name, state, … of a phone, a login name or an id. Raises `NotFound`."""
    found = await store.person_by_login(db, columns, normal_login(person))
    person_id = found["person_id"] if found else int(person) if person.isdecimal() and len(person) < 20 else 0
    about = await store.person(db, person_id)
    if about is None:
        raise NotFound(f"nobody logs in as {person}")
    return about


def _line(check: Check) -> str:
    return f"{'✓' if check.holds else '✗'} {check.rule}"


def _reach(held: Grant, has: Grants) -> str:
    """How far a grant goes, in words."""
    mine = (
        ", ".join(map(str, sorted(has.departments if held.reach is Reach.DEPARTMENT else has.tree))) or "none"
    )
    whose = {
        Reach.OWN: "one's own records",
        Reach.DEPARTMENT: f"records of one's own departments ({mine})",
        Reach.TREE: f"records of one's own departments and those below ({mine})",
        Reach.ENTERPRISE: "every record of the enterprise",
    }[held.reach]
    return f"reach {held.reach.name}: {whose}, " + (
        "any amount" if held.amount_fen is None else f"up to {held.amount_fen} fen"
    )


def _besides(action: Action[Any, Any], about: About) -> str:
    """What these rules do not decide."""
    said = []
    if action.step_up is not None:
        some = "" if action.step_up_when is None else " (some of its requests)"
        said.append(f"The call itself has to be confirmed{some}: {action.step_up}.")
    if isinstance(action.needs, Permission) and not about:
        said.append("Whether a certain record is within reach: --owner, --department, --amount-fen, --maker.")
    said.append("An action may have rules of its own besides, about the state of what it changes.")
    return "\n".join(said)
