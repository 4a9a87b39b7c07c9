"""One's place in an enterprise: departments, roles, leaving, and what an enterprise must not be without."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.departments import rules
from gateway.identity.rules import may_give, mixes
from tests.gateway.conftest import World
from tests.gateway.test_registration import registered

_keys = count()


async def _call(world: World, token: str, action: str, **fields: Any) -> Any:
    headers = (
        {"Idempotency_Key": f"m{next(_keys)}"} if action.split(".")[-1] in ("create", "add_member") else {}
    )
    return await world.call(f"gateway.{action}", fields, token=token, **headers)


async def _make(world: World, token: str, name: str, parent: str | None = None) -> str:
    made = await _call(world, token, "departments.create", name=name, parent_id=parent)
    assert made.status == 200, made.body
    return str(made.body["department_id"])


async def _add(world: World, token: str, phone: str, **more: Any) -> str:
    fields = {"phone": phone, "name": "新人", "roles": ["employee"]} | more
    added = await _call(world, token, "identity.add_member", **fields)
    assert added.status == 200, added.body
    return str(added.body["person_id"])


async def test_a_tree_of_departments(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    top = await _make(world, admin, "生产部")
    below = await _make(world, admin, "一车间", top)
    deepest = await _make(world, admin, "甲班", below)
    circle = await _call(
        world, admin, "departments.change", department_id=top, name="生产部", parent_id=deepest
    )
    assert circle.status == 409
    itself = await _call(world, admin, "departments.change", department_id=top, name="生产部", parent_id=top)
    assert itself.status == 409
    moved = await _call(world, admin, "departments.change", department_id=deepest, name="甲组", parent_id=top)
    assert (moved.body["parent_id"], moved.body["name"]) == (top, "甲组")
    assert (await _call(world, admin, "departments.delete", department_id=top)).status == 409
    assert (await _call(world, admin, "departments.delete", department_id=below)).status == 200
    assert (await _call(world, admin, "departments.delete", department_id=below)).status == 404
    employee = (await world.login("chenjing"))["access_token"]
    seen = await _call(world, employee, "departments.list")
    assert {"生产部", "甲组"} <= {one["name"] for one in seen.body}
    assert (await _call(world, employee, "departments.create", name="x")).status == 403


async def test_a_tree_has_ten_levels_at_most(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    parent: str | None = None
    for level in range(rules.DEPTH):
        parent = await _make(world, admin, f"第{level}层", parent)
    refused = await _call(world, admin, "departments.create", name="太深", parent_id=parent)
    assert refused.status == 422


async def test_people_are_in_several_departments_and_head_some(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    sales, north = await _make(world, admin, "销售部"), None
    north = await _make(world, admin, "华北组", sales)
    who = str(world.people["huangting"].person_id)
    places = [{"department_id": sales, "is_head": True}, {"department_id": north}]
    changed = await _call(
        world, admin, "identity.change_member", person_id=who, departments=places, title="销售总监"
    )
    assert changed.status == 200, changed.body
    assert changed.body["title"] == "销售总监"
    assert {p["department_id"]: p["is_head"] for p in changed.body["departments"]} == {
        sales: True,
        north: False,
    }
    shown = {one["department_id"]: one for one in (await _call(world, admin, "departments.list")).body}
    assert (shown[sales]["heads"], shown[sales]["members"]) == ([who], 1)
    assert (await _call(world, admin, "departments.delete", department_id=north)).status == 409
    new = await _add(world, admin, "13900001001", departments=[{"department_id": north}])
    listed = await _call(world, admin, "identity.list_members", department_id=sales)
    assert {m["person_id"] for m in listed.body["members"]} == {who, new}
    kept = await _call(world, admin, "identity.change_member", person_id=who, title="总监")
    assert len(kept.body["departments"]) == 2
    gone = await _call(world, admin, "identity.end_membership", person_id=new)
    assert gone.status == 200
    again = await _add(world, admin, "13900001001")
    assert again == new
    listed = await _call(world, admin, "identity.list_members", department_id=north)
    assert {m["person_id"] for m in listed.body["members"]} == {who}, "coming back begins anew"


async def test_contacts_by_a_part_of_the_name(world: World) -> None:
    token = (await world.login("chenjing"))["access_token"]
    found = await _call(world, token, "identity.list_members", name="静")
    assert [m["name"] for m in found.body["members"]] == ["陈静"]
    for harmless in ("%", "_", "!", "' OR 1=1 --"):
        assert (await _call(world, token, "identity.list_members", name=harmless)).body["members"] == []


async def test_departments_of_another_enterprise_do_not_exist(world: World) -> None:
    here = (await world.login("wangfang"))["access_token"]
    there = (await world.login("zhoutao"))["access_token"]
    foreign = await _make(world, there, "门店")
    who = str(world.people["chenjing"].person_id)
    for action, fields in (
        ("departments.create", {"name": "x", "parent_id": foreign}),
        ("departments.change", {"department_id": foreign, "name": "x"}),
        ("departments.delete", {"department_id": foreign}),
    ):
        assert (await _call(world, here, action, **fields)).status == 404, action
    placed = await _call(
        world, here, "identity.change_member", person_id=who, departments=[{"department_id": foreign}]
    )
    assert placed.status == 422
    assert (await _call(world, here, "identity.list_members", department_id=foreign)).body["members"] == []


async def test_roles_are_changed_and_hold_at_once(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    who = str(world.people["zhaolei"].person_id)
    theirs = (await world.login("zhaolei"))["access_token"]
    assert (await _call(world, theirs, "departments.create", name="不行")).status == 403
    changed = await _call(
        world, admin, "identity.change_member", person_id=who, roles=["employee", "administrator"]
    )
    assert changed.status == 200
    await _make(world, theirs, "可以")
    back = await _call(world, admin, "identity.change_member", person_id=who, roles=["employee"])
    assert back.status == 200
    assert (await _call(world, theirs, "departments.create", name="又不行")).status == 403


async def test_own_roles_are_given_and_others_refused(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    there = (await world.login("zhoutao"))["access_token"]
    grants = [{"permission": "members:manage"}]
    own = await world.call("gateway.access.create_role", {"name": "人事", "grants": grants}, token=admin)
    foreign = await world.call("gateway.access.create_role", {"name": "人事", "grants": grants}, token=there)
    who = str(world.people["yangmin"].person_id)
    given = await _call(
        world, admin, "identity.change_member", person_id=who, roles=["employee", own.body["role"]]
    )
    assert given.status == 200, given.body
    for roles in (["employee", foreign.body["role"]], ["bank_operator"], ["12345"], ["nobody_knows"]):
        refused = await _call(world, admin, "identity.change_member", person_id=who, roles=roles)
        assert refused.status == 422, roles
    clerk = (await world.login("yangmin"))["access_token"]
    new = await _add(world, clerk, "13900001002")
    for roles in (["employee", "administrator"], ["finance_maker"], ["employee", own.body["role"]]):
        refused = await _call(world, clerk, "identity.change_member", person_id=new, roles=roles)
        assert refused.status == 403, "who only manages members makes employees only"
    boss = str(world.people["zhangwei"].person_id)
    assert (await _call(world, clerk, "identity.end_membership", person_id=boss)).status == 403


async def test_a_role_reaches_its_departments_only(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    mine, other = await _make(world, admin, "质检部"), await _make(world, admin, "仓储部")
    grants = [{"permission": "members:manage", "reach": "tree"}]
    role = (
        await world.call("gateway.access.create_role", {"name": "部门人事", "grants": grants}, token=admin)
    ).body["role"]
    await _call(
        world,
        admin,
        "identity.change_member",
        person_id=str(world.people["liuyang"].person_id),
        roles=["employee", role],
        departments=[{"department_id": mine}],
    )
    clerk = (await world.login("liuyang"))["access_token"]
    inside = await _add(world, clerk, "13900001003", departments=[{"department_id": mine}])
    beyond = await _add(world, admin, "13900001004", departments=[{"department_id": other}])
    changed = await _call(world, clerk, "identity.change_member", person_id=inside, title="质检员")
    assert changed.status == 200
    assert (await _call(world, clerk, "identity.change_member", person_id=beyond, title="x")).status == 404
    assert (await _call(world, clerk, "identity.end_membership", person_id=beyond)).status == 404
    outside = await world.client.call(
        "gateway.identity.add_member",
        {
            "phone": "13900001005",
            "name": "x",
            "roles": ["employee"],
            "departments": [{"department_id": other}],
        },
        token=clerk,
    )
    assert outside.status == 403
    theirs = (await _call(world, admin, "invitations.create")).body["invitation_id"]
    own = await _call(world, clerk, "invitations.create", departments=[{"department_id": mine}])
    listed = (await _call(world, clerk, "invitations.list")).body
    assert [one["invitation_id"] for one in listed] == [own.body["invitation_id"]]
    assert (await _call(world, clerk, "invitations.revoke", invitation_id=theirs)).status == 404
    assert (await _call(world, clerk, "enterprises.join_requests")).body == [], "they are in no department"


async def _clerk(world: World, admin: str, login: str, department: str, name: str) -> tuple[str, str]:
    """Somebody who manages the members of one department: a token, and their id."""
    grants = [{"permission": "members:manage", "reach": "tree"}]
    fields = {"name": name, "grants": grants}
    role = (await world.call("gateway.access.create_role", fields, token=admin)).body["role"]
    who = str(world.people[login].person_id)
    fields = {"roles": ["employee", role], "departments": [{"department_id": department}]}
    assert (await _call(world, admin, "identity.change_member", person_id=who, **fields)).status == 200
    return (await world.login(login))["access_token"], who


@pytest.mark.requirement("A02")
async def test_nobody_widens_their_own_reach(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    top = await _make(world, admin, "总部")
    mine, other = await _make(world, admin, "研发部", top), await _make(world, admin, "法务部", top)
    clerk, own = await _clerk(world, admin, "liuyang", mine, "研发人事")
    inside = await _add(world, clerk, "13900001013", departments=[{"department_id": mine}])

    async def move(whom: str, *places: tuple[str, bool], token: str = clerk) -> int:
        fields = [{"department_id": one, "is_head": head} for one, head in places]
        answer = await _call(world, token, "identity.change_member", person_id=whom, departments=fields)
        return int(answer.status)

    assert await move(own, (top, False)) == 403, "the tree below the top would be everybody"
    assert await move(own, (mine, False), (top, False)) == 403
    assert await move(inside, (mine, False), (other, True)) == 403, "nor a head of another department"
    assert await move(inside, (mine, False), (other, True), token=admin) == 200
    assert await move(inside, (mine, False)) == 403, "what others placed stays"
    assert await move(inside, (mine, True), (other, True)) == 200, "their own department they may"
    fields = {"phone": "13900001014", "name": "x", "roles": ["employee"]}
    both = [{"department_id": mine}, {"department_id": other}]
    for departments in (both, []):
        refused = await _call(world, clerk, "identity.add_member", departments=departments, **fields)
        assert refused.status == 403, "one of one's own departments does not open the others"


async def test_leaving_by_oneself_touches_no_other_enterprise(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    person = await _add(world, admin, "13900001006")
    await registered(world, "13900001006", login_name="tworoofs")
    await world.join(int(person), world.people["zhoutao"].enterprise_id)
    home = str(world.people["wangfang"].enterprise_id)
    here = (await world.client.login("tworoofs", "mist over nine hills", "d1", enterprise_id=home)).body
    other = str(world.people["zhoutao"].enterprise_id)
    there = (await world.client.login("tworoofs", "mist over nine hills", "d2", enterprise_id=other)).body
    assert (await _call(world, here["access_token"], "identity.leave")).status == 200
    assert (await world.client.call("gateway.identity.me", token=here["access_token"])).status == 401
    me = (await world.client.call("gateway.identity.me", token=there["access_token"])).body
    assert [one["enterprise_id"] for one in me["enterprises"]] == [other]


async def test_an_enterprise_keeps_an_administrator(world: World) -> None:
    boss = (await world.login("zhoutao"))["access_token"]
    assert (await _call(world, boss, "identity.leave")).status == 409
    who = str(world.people["zhoutao"].person_id)
    assert (await _call(world, boss, "identity.change_member", person_id=who, roles=["boss"])).status == 409
    wuxia = str(world.people["wuxia"].person_id)
    roles = ["employee", "administrator"]
    assert (await _call(world, boss, "identity.change_member", person_id=wuxia, roles=roles)).status == 200
    assert (await _call(world, boss, "identity.change_member", person_id=who, roles=["boss"])).status == 200


# --- rules ------------------------------------------------------------------------------------------------------------

_forests = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*[st.one_of(st.none(), st.integers(0, i - 1)) if i else st.none() for i in range(n)])
)


@given(_forests, st.integers(0, 11), st.one_of(st.none(), st.integers(0, 11)))
def test_a_move_that_is_no_circle_leaves_a_tree(
    parents: tuple[int | None, ...], moved: int, target: int | None
) -> None:
    tree = list(enumerate(parents))
    moved %= len(tree)
    target = None if target is None else target % len(tree)
    after = dict(tree) | {moved: target}

    def root_of(node: int) -> bool:
        seen: set[int] = set()
        at: int | None = node
        while at is not None and at not in seen:
            seen.add(at)
            at = after[at]
        return at is None

    assert rules.would_circle(tree, moved, target) == (not all(map(root_of, after)))


@pytest.mark.parametrize(
    ("kind", "others", "refused"),
    [
        ("enterprise", [], False),
        ("enterprise", ["enterprise", "enterprise"], False),
        ("enterprise", ["bank"], True),
        ("bank", [], False),
        ("bank", ["enterprise"], True),
        ("bank", ["bank"], True),
    ],
)
def test_the_bank_mixes_with_nobody(kind: str, others: list[str], refused: bool) -> None:
    assert mixes(kind, others) is refused


@given(
    st.frozensets(st.sampled_from(["employee", "boss", "administrator", "7"])), st.sets(st.text(max_size=9))
)
def test_only_administrators_give_more_than_employee(giver: frozenset[str], roles: set[str]) -> None:
    assert may_give(giver, roles, "administrator") == ("administrator" in giver or not roles - {"employee"})
