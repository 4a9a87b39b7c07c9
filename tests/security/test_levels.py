"""What each level of the path guest -> registered -> member -> contracted may do, stated as a table.

A new action of the gateway for people must be entered here under the lowest level that may call it.
"""

from __future__ import annotations

from typing import Any

import pytest

from core.access import BANK, STAFF, Grants, Level, Permission, Principal, decide
from core.actions import INTERNAL, Action
from house import compose

ACTIONS: dict[str, Action[Any, Any]] = {action.name: action for action in compose.actions()}

MAY: dict[str, str] = {
    "anybody": """
        gateway.codes.send gateway.identity.login gateway.identity.refresh gateway.registration.agreement
        gateway.registration.login gateway.registration.reset_password
    """,
    "guest": """
        gateway.access.mine gateway.identity.logout gateway.identity.list_sessions gateway.identity.me
        gateway.identity.revoke_session gateway.identity.switch_enterprise gateway.invitations.look
        gateway.privacy.erase gateway.privacy.fetch_export gateway.privacy.request_export
        gateway.privacy.tasks gateway.registration.complete
    """,
    "registered": """
        gateway.enterprises.apply gateway.enterprises.ask_to_join gateway.enterprises.find
        gateway.enterprises.my_applications gateway.invitations.accept gateway.registration.change_password
        gateway.registration.change_phone gateway.registration.send_phone_code
    """,
    "member": """
        gateway.access.permissions gateway.contracts.mine gateway.departments.list gateway.identity.leave
        gateway.identity.list_members gateway.identity.names
        im.conversations.create_group im.conversations.list im.messages.send
    """,
    "administrator": """
        gateway.access.change_role gateway.access.create_role gateway.access.delete_role gateway.access.roles
        gateway.contracts.apply gateway.contracts.sign gateway.departments.change gateway.departments.create
        gateway.departments.delete gateway.enterprises.decide_join gateway.enterprises.join_requests
        gateway.identity.add_member gateway.identity.change_member gateway.identity.end_membership
        gateway.invitations.create gateway.invitations.list gateway.invitations.revoke
        gateway.privacy.reveal_member
    """,
    "bank": """
        gateway.contracts.decide gateway.contracts.list gateway.enterprises.applications gateway.enterprises.decide
        gateway.enterprises.list gateway.people.disable gateway.people.enable gateway.people.end_sessions
        gateway.people.find gateway.people.forget_factors gateway.privacy.reasons gateway.privacy.unmask
        gateway.staff.add gateway.staff.change gateway.staff.end gateway.staff.list
    """,
}
OWNED = "access codes contracts departments enterprises identity invitations people privacy registration staff".split()
"""Features of the gateway whose actions must all be in the table."""

_PEOPLE: dict[str, tuple[Level | None, frozenset[str], str | None, int]] = {
    # level, roles, realm, enterprise
    "guest": (Level.GUEST, frozenset(), None, 0),
    "registered": (Level.REGISTERED, frozenset(), None, 0),
    "member": (Level.MEMBER, frozenset({"employee"}), "enterprise", 1),
    "administrator": (Level.MEMBER, STAFF, "enterprise", 1),
    "bank": (Level.MEMBER, BANK, "bank", 2),
}
_ALSO = {
    "anybody": (),
    "guest": ("anybody",),
    "registered": ("anybody", "guest"),
    "member": ("anybody", "guest", "registered"),
    "administrator": ("anybody", "guest", "registered", "member"),
    "bank": ("anybody", "guest", "registered"),
}
_MEMBERS_OF_ANYTHING = {"gateway.access.permissions", "gateway.contracts.mine", "gateway.identity.leave"}


def table(level: str) -> set[str]:
    """Everything a level may call, by the table."""
    return set(MAY[level].split()).union(*(MAY[other].split() for other in _ALSO[level]))


def may(level: str, action: Action[Any, Any]) -> bool:
    """Whether the declaration lets somebody of a level call."""
    if level == "anybody":
        return decide(action.needs, None, None).allowed
    reached, roles, realm, enterprise_id = _PEOPLE[level]
    who = Principal(1, enterprise_id, roles, 2, "d", 1 << 50, 2)
    return decide(action.needs, who, Grants(reached, roles, realm=realm)).allowed  # type: ignore[arg-type]


@pytest.mark.parametrize("level", ["anybody", *_PEOPLE])
def test_a_level_may_exactly_this(level: str) -> None:
    listed = {name for names in MAY.values() for name in names.split()}
    allowed = {name for name in listed if may(level, ACTIONS[name])}
    expected = table(level) | (_MEMBERS_OF_ANYTHING if level == "bank" else set())
    assert allowed == expected


def test_every_action_about_people_is_in_the_table() -> None:
    listed = {name for names in MAY.values() for name in names.split()}
    there = {
        name
        for name, action in ACTIONS.items()
        if name.startswith("gateway.") and name.split(".")[1] in OWNED and action.needs is not INTERNAL
    }
    assert there - listed == set(), "enter them under the lowest level that may"
    assert listed <= set(ACTIONS)


def test_contracted_ones_open_with_the_contract_only() -> None:
    """No action needs a contract yet; what does will be closed to mere members by its declaration alone."""
    pay = Permission("payments:make", "付款", {"finance_maker"}, risk=3, contracted=True)
    who = Principal(1, 1, frozenset({"finance_maker"}), 2, "d", 1 << 50, 2)
    roles = frozenset({"employee", "finance_maker"})
    assert not decide(pay, who, Grants(Level.MEMBER, roles, realm="enterprise")).allowed
    assert decide(pay, who, Grants(Level.CONTRACTED, roles, realm="enterprise")).allowed
