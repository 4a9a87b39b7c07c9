"""Access is decided by rules alone: every kind of need, realms, levels, scopes, reach and amounts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.access import (
    BANK,
    INTERNAL,
    MEMBER,
    PERSON,
    PUBLIC,
    REGISTERED,
    SERVICE_GRANTS,
    STAFF,
    Grant,
    Grants,
    Level,
    Permission,
    Principal,
    Reach,
    Resource,
    decide,
    permissions_of,
    scope_of,
    service_principal,
    within,
)
from core.errors import Forbidden, NotFound, Unauthenticated

WHO = Principal(7, 1, frozenset({"employee"}), 3, "phone", 1 << 50)
READ = Permission("cards:read", "查看名片", STAFF, risk=1, scope=True)
PAY = Permission("payments:approve", "审批付款", {"boss"}, risk=3, contracted=True)
RULE = Permission("roles:manage", "管理角色", {"administrator"}, assignable=False)
VERIFY = Permission("enterprises:verify", "核验企业", {"bank_reviewer"}, realm="bank")
STAFFED = Grants(Level.CONTRACTED, frozenset({"employee"}), realm="enterprise")


def refusal(needs: object, who: Principal | None = WHO, grants: Grants | None = STAFFED) -> type | None:
    decision = decide(needs, who, grants)  # type: ignore[arg-type]
    assert decision.checks, "every decision has its reasons"
    assert decision.allowed == all(check.holds for check in decision.checks)
    return type(decision.refusal) if decision.refusal else None


def test_reasons_read_as_sentences() -> None:
    assert [check.rule for check in decide(READ, WHO, STAFFED).checks] == [
        "the caller is logged in",
        "the account is open",
        "level is MEMBER or more: it is CONTRACTED",
        "holds cards:read, by employee",
    ]
    own = Grants(Level.MEMBER, realm="enterprise", custom={"cards:read": Grant()})
    assert decide(READ, WHO, own).checks[-1].rule == "holds cards:read, by the enterprise's own roles"
    assert decide(RULE, WHO, own).checks[-1].rule == "holds roles:manage: administrator would"
    assert within(Grant(Reach.OWN), STAFFED, WHO, Resource(owner_id=8)).checks[0].rule == (
        "reach OWN covers the record: it is somebody else's"
    )


def test_kinds_of_callers() -> None:
    assert refusal(PUBLIC, None, None) is None
    assert refusal(INTERNAL) is NotFound
    assert decide(INTERNAL, None, None, internal=True).allowed
    for needs in (PERSON, REGISTERED, MEMBER, READ):
        assert refusal(needs, None, None) is Unauthenticated
        assert refusal(needs, WHO, Grants(None)) is Unauthenticated
    by_level = {
        Level.GUEST: (None, Forbidden, Forbidden),
        Level.REGISTERED: (None, None, Forbidden),
        Level.MEMBER: (None, None, None),
        Level.CONTRACTED: (None, None, None),
    }
    for level, expected in by_level.items():
        assert tuple(refusal(n, WHO, Grants(level)) for n in (PERSON, REGISTERED, MEMBER)) == expected


def test_services_of_ours_may() -> None:
    service = service_principal(1, 1 << 50, "oa")
    assert refusal(PAY, service, SERVICE_GRANTS) is None


def test_permissions_come_from_roles_and_own_roles() -> None:
    assert refusal(READ) is None
    assert refusal(PAY) is Forbidden
    assert refusal(PAY, WHO, replace(STAFFED, roles=frozenset({"boss"}))) is None
    given_it = replace(STAFFED, custom={PAY.name: Grant(Reach.OWN, 100)})
    assert refusal(PAY, WHO, given_it) is None
    assert given_it.of(PAY) == Grant(Reach.OWN, 100)
    assert replace(given_it, roles=frozenset({"boss"})).of(PAY) == Grant(), "the wider one counts"


def test_what_own_roles_cannot_have_is_not_there_even_if_a_row_says_so() -> None:
    assert refusal(RULE, WHO, replace(STAFFED, custom={RULE.name: Grant()})) is Forbidden


def test_without_a_contract_there_is_no_banking() -> None:
    boss = Grants(Level.MEMBER, frozenset({"boss"}), realm="enterprise")
    assert refusal(PAY, WHO, boss) is Forbidden
    assert refusal(PAY, WHO, replace(boss, level=Level.CONTRACTED)) is None


@pytest.mark.requirement("A06")
def test_realms_do_not_mix_and_the_bank_wants_a_second_factor() -> None:
    operations = Grants(Level.MEMBER, frozenset({"bank_reviewer"}), realm="bank")
    assert refusal(VERIFY, WHO, operations) is Forbidden
    assert refusal(VERIFY, replace(WHO, acr=2), operations) is None
    assert refusal(READ, replace(WHO, acr=2), operations) is Forbidden
    cheat = Grants(Level.MEMBER, frozenset({"bank_reviewer"}), {VERIFY.name: Grant()}, realm="enterprise")
    assert refusal(VERIFY, replace(WHO, acr=2), cheat) is Forbidden


def test_apps_have_their_scopes_and_nothing_else() -> None:
    app = replace(WHO, scopes=frozenset({"cards:read", "payments:approve"}), client_id="app")
    boss = replace(STAFFED, roles=frozenset({"boss"}))
    assert refusal(READ, app, boss) is None
    assert refusal(PAY, app, boss) is Forbidden, "no scope moves money, even one that a token names"
    for kind in (PERSON, REGISTERED, MEMBER):
        assert refusal(kind, app, boss) is Forbidden
    assert refusal(READ, replace(app, scopes=frozenset()), boss) is Forbidden


def test_declarations_that_make_no_sense() -> None:
    with pytest.raises(TypeError):
        Permission("no verb", "x", STAFF)
    with pytest.raises(TypeError):
        Permission("a:b", "x", {"wizard"})
    with pytest.raises(TypeError):
        Permission("a:b", "x", BANK)
    with pytest.raises(TypeError):
        Permission("a:b", "x", {"boss"}, risk=3, scope=True)
    with pytest.raises(TypeError):
        permissions_of([READ, replace(READ, title="另一个")])
    assert list(permissions_of([READ, PAY, PUBLIC, READ])) == ["cards:read", "payments:approve"]


# --- records ----------------------------------------------------------------------------------------------------------

IN_TEN = replace(STAFFED, departments=frozenset({10}), tree=frozenset({10, 11}))


@pytest.mark.parametrize(
    ("reach", "own", "same", "below", "elsewhere"),
    [
        (Reach.OWN, True, False, False, False),
        (Reach.DEPARTMENT, True, True, False, False),
        (Reach.TREE, True, True, True, False),
        (Reach.ENTERPRISE, True, True, True, True),
    ],
)
def test_reach(reach: Reach, own: bool, same: bool, below: bool, elsewhere: bool) -> None:
    def may(owner: int, *departments: int) -> bool:
        return within(Grant(reach), IN_TEN, WHO, Resource(owner, frozenset(departments))).allowed

    assert (may(7, 99), may(8, 10), may(8, 11), may(8, 12)) == (own, same, below, elsewhere)


def test_amounts_and_makers() -> None:
    grant = Grant(amount_fen=100)
    assert within(grant, STAFFED, WHO, Resource(amount_fen=100)).allowed
    assert not within(grant, STAFFED, WHO, Resource(amount_fen=101)).allowed
    assert not within(Grant(), STAFFED, WHO, Resource(maker_id=WHO.person_id)).allowed
    assert within(Grant(), STAFFED, WHO, Resource(maker_id=8)).allowed


ids = st.frozensets(st.integers(1, 5), max_size=3)
grants = st.builds(Grant, st.sampled_from(Reach), st.none() | st.integers(0, 10))


@given(grants, ids, ids, st.integers(6, 8), ids)
def test_a_list_shows_exactly_what_single_looks_allow(
    grant: Grant, mine: frozenset[int], below: frozenset[int], owner: int, where: frozenset[int]
) -> None:
    has = replace(STAFFED, departments=mine, tree=mine | below)
    scope = scope_of(grant, has, WHO.person_id)
    listed = scope.everything or owner == scope.owner_id or not scope.department_ids.isdisjoint(where)
    assert listed == within(grant, has, WHO, Resource(owner, where)).allowed


@given(grants, grants, st.integers(0, 12), st.integers(6, 8), ids)
def test_two_grants_are_never_less_than_one(
    one: Grant, other: Grant, amount: int, owner: int, where: frozenset[int]
) -> None:
    resource = Resource(owner, where, amount)
    either = any(within(g, IN_TEN, WHO, resource).allowed for g in (one, other))
    assert within(one.joined(other), IN_TEN, WHO, resource).allowed or not either


def test_a_refusal_says_what_is_true_of_the_caller() -> None:
    contracted = Permission("pay:make", "付款", {"boss"}, contracted=True)
    for enterprise_id, level, needs, words in (
        (0, Level.GUEST, MEMBER, "this session is in none"),
        (0, Level.REGISTERED, contracted, "this session is in none"),
        (7, Level.REGISTERED, MEMBER, "the membership has ended"),
        (7, Level.REGISTERED, contracted, "the membership has ended"),
        (7, Level.MEMBER, contracted, "has not signed with the bank"),
        (0, Level.GUEST, REGISTERED, "complete the registration"),
    ):
        who = Principal(1, enterprise_id, frozenset(), 1, "d", 1 << 50)
        refusal = decide(needs, who, Grants(level)).refusal
        assert refusal is not None
        assert words in refusal.message
