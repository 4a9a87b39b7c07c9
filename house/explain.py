"""`explain-access PERSON ACTION`: the decision about somebody and an action, with every reason."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from core.access import Check, Principal, decide
from core.actions import Action
from core.clock import SystemClock
from core.errors import Invalid, NotFound
from core.settings import Settings
from gateway.access.grantor import MemberGrants
from gateway.identity import store
from gateway.identity.rules import normal_login
from gateway.people.phones import shown_phone
from house import compose

_ACR = 2  # a session as good as it gets: what a second factor would allow is worth knowing


async def explain(settings: Settings, person: str, action: str, enterprise_id: int | None) -> int:
    """Print who the person is, then for each enterprise (or the given one) the rules in order; 0: may somewhere."""
    known = {one.name: one for one in compose.actions()}
    if action not in known:
        near = [name for name in known if action in name]
        raise Invalid(f"there is no action {action}" + (f"; {', '.join(near)}?" if near else ""))
    columns = compose.columns_of(settings)
    db = await compose.open_database(settings)
    try:
        found = await store.person_by_login(db, columns, normal_login(person))
        person_id = found["person_id"] if found else int(person) if person.isdecimal() else 0
        about = await store.person(db, person_id)
        if about is None:
            raise NotFound(f"nobody logs in as {person}")
        places = [(one[0], one[1]) for one in await store.enterprises_of(db, person_id)]
        if enterprise_id is not None:
            places = [one for one in places if one[0] == enterprise_id] or [
                (enterprise_id, "not a member here")
            ]
        out = Console(highlight=False)
        out.print(
            f"{about['full_name']} ({shown_phone(columns, about)}), id {person_id}, account {about['state']}"
        )
        grants, may = MemberGrants(db, SystemClock()), False
        for place_id, name in places or [(0, "in no enterprise")]:
            who = Principal(person_id, place_id, frozenset(), 0, "", 1 << 62, _ACR)
            decision = decide(known[action].needs, who, await grants.grants(who))
            may = may or decision.allowed
            out.print(f"\n{name} ({place_id}): {action} is {'allowed' if decision.allowed else 'refused'}")
            for check in decision.checks:
                out.print(_line(check))
        out.print(f"\n{_asks(known[action])}")
        return 0 if may else 1
    finally:
        await db.close()


def _line(check: Check) -> str:
    return f"  {'✓' if check.holds else '✗'} {check.rule}"


def _asks(action: Action[Any, Any]) -> str:
    proof = ""
    if action.step_up is not None:
        some = "" if action.step_up_when is None else " for some of its requests"
        proof = f"; the call itself has to be confirmed ({action.step_up}){some}"
    return f"As of a session with a second factor{proof}. Whose record it is about is decided by the action."
