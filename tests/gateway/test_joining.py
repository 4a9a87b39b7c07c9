"""How enterprises and people come: applications, contracts, requests, invitations, the bank's staff."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contracts import rules as contracts
from gateway.contracts.rules import State, Step
from gateway.identity.rules import credit_code_check_digit
from gateway.invitations import rules as invitations
from gateway.proposals import rules as proposals
from tests.gateway.conftest import World
from tests.gateway.sms import code_for
from tests.gateway.test_registration import guest, registered

_numbers = count(100)


def a_code() -> str:
    """A unified social credit code that nobody has."""
    first = f"91410105MA0NW{next(_numbers):04d}"
    return first + credit_code_check_digit(first)


async def call(world: World, token: str, action: str, **fields: Any) -> Any:
    return await world.call(f"gateway.{action}", fields, token=token)


async def staff(world: World, login: str) -> str:
    """A token of somebody of the bank's staff, with both factors."""
    person = world.people[login]
    code = await code_for(world, person.phone)
    fields = {"phone": person.phone, "code": code, "password": person.password, "device": "desk"}
    answer = await world.client.call("gateway.registration.login", fields)
    assert answer.status == 200, answer.body
    return str(answer.body["access_token"])


async def by_two(world: World, action: str, **fields: Any) -> Any:
    """Both of the bank's administrators decide the same."""
    first = await call(world, await staff(world, "fengbo"), action, **fields)
    if first.status != 200:
        return first
    assert first.body is None, "noted, and nothing more"
    return await call(world, await staff(world, "xuting"), action, **fields)


async def verified(world: World, phone: str, name: str) -> tuple[dict[str, Any], str, str]:
    """A registered person whose enterprise the bank has verified: their login, the code, a token there."""
    begun = await registered(world, phone)
    code = a_code()
    applied = await call(world, begun["access_token"], "enterprises.apply", name=name, credit_code=code)
    assert applied.status == 200, applied.body
    decided = applied
    for login in ("sunqiang", "qianyu"):
        fields = {"application_id": applied.body["application_id"], "decision": "verify"}
        decided = await call(world, await staff(world, login), "enterprises.decide", **fields)
        assert decided.status == 200, decided.body
    enterprise_id = decided.body["enterprise_id"]
    again = await world.client.login(phone, "mist over nine hills", enterprise_id=enterprise_id)
    return begun, code, again.body["access_token"]


@pytest.mark.requirement("T05", "A06")
async def test_an_enterprise_comes_by_two_of_the_staff(world: World) -> None:
    begun = await registered(world, "13500000001")
    token, code = begun["access_token"], a_code()
    applied = await call(world, token, "enterprises.apply", name="碧溪食品有限公司", credit_code=code.lower())
    assert applied.body["state"] == "applied"
    assert applied.body["credit_code"] == code
    first = await staff(world, "sunqiang")
    fields = {"application_id": applied.body["application_id"], "decision": "verify"}
    noted = await call(world, first, "enterprises.decide", **fields)
    assert (noted.body["state"], noted.body["proposed"]) == ("applied", "verify")
    assert (await call(world, first, "enterprises.decide", **fields)).status == 403, "the same person twice"
    mine = (await call(world, token, "enterprises.my_applications")).body
    assert mine[0]["proposed"] is None, "who applied does not see who is about to decide"
    done = await call(world, await staff(world, "qianyu"), "enterprises.decide", **fields)
    assert done.body["state"] == "verified"
    switched = await call(
        world, token, "identity.switch_enterprise", enterprise_id=done.body["enterprise_id"]
    )
    token = switched.body["access_token"]
    me = (await call(world, token, "identity.me")).body
    assert me["level"] == "member"
    assert set(me["enterprise"]["roles"]) == {"employee", "administrator"}
    assert me["person"]["person_id"] == begun["person"]["person_id"]
    decided = await call(world, await staff(world, "qianyu"), "enterprises.decide", **fields)
    assert decided.status == 409
    taken = await call(world, token, "enterprises.apply", name="另一家", credit_code=code)
    assert taken.status == 409
    again, twice = a_code(), {"name": "再来一家"}
    asked = [await call(world, token, "enterprises.apply", credit_code=again, **twice) for _ in range(2)]
    assert [one.status for one in asked] == [200, 409], "one application for one code"


async def test_an_application_is_returned_with_a_reason(world: World) -> None:
    token = (await registered(world, "13500000002"))["access_token"]
    applied = await call(world, token, "enterprises.apply", name="云上茶业", credit_code=a_code())
    reviewer = await staff(world, "qianyu")
    fields = {"application_id": applied.body["application_id"], "decision": "return"}
    assert (await call(world, reviewer, "enterprises.decide", **fields)).status == 422
    returned = await call(world, reviewer, "enterprises.decide", **fields, reason="营业执照不清晰")
    assert (returned.body["state"], returned.body["reason"]) == ("returned", "营业执照不清晰")
    assert (await call(world, token, "enterprises.my_applications")).body[0]["reason"] == "营业执照不清晰"


@pytest.mark.parametrize("bad", ["91410105MA0QH00010", "914101", "91410105MA0QH000I1", "x" * 18])
async def test_a_wrong_credit_code_is_refused(world: World, bad: str) -> None:
    token = (await world.login("chenjing"))["access_token"]
    answer = await call(world, token, "enterprises.apply", name="某企业", credit_code=bad)
    assert answer.status == 422


async def test_bank_actions_need_both_factors_and_the_bank(world: World) -> None:
    phone = world.people["sunqiang"].phone
    fields = {"phone": phone, "code": await code_for(world, phone), "device": "desk"}
    one_factor = (await world.client.call("gateway.registration.login", fields)).body["access_token"]
    assert (await call(world, one_factor, "enterprises.applications")).status == 403
    both = await staff(world, "sunqiang")
    assert (await call(world, both, "enterprises.applications")).status == 200
    boss = (await world.login("zhangwei"))["access_token"]
    assert (await call(world, boss, "enterprises.applications")).status == 403
    assert (await call(world, both, "identity.list_members")).status == 403, (
        "no right of an enterprise either"
    )
    support = await staff(world, "zhengjie")
    assert (await call(world, support, "enterprises.applications")).status == 403, "not this role"
    fields = {"refresh_token": "", "device": "desk"}
    begun = await world.client.call(
        "gateway.registration.login",
        {
            "phone": world.people["helei"].phone,
            "code": await code_for(world, world.people["helei"].phone),
            "password": world.people["helei"].password,
            "device": "desk",
        },
    )
    fields["refresh_token"] = begun.body["refresh_token"]
    renewed = await world.client.call("gateway.identity.refresh", fields)
    assert world.tokens.verify(renewed.body["access_token"]).acr == 2


async def test_the_banks_staff_are_nothing_else(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    fields = {"phone": world.people["helei"].phone, "name": "何磊", "roles": ["employee"]}
    assert (await call(world, admin, "identity.add_member", **fields)).status == 409
    taken = {"phone": world.people["chenjing"].phone, "name": "陈静", "roles": ["bank_operator"]}
    assert (await by_two(world, "staff.add", **taken)).status == 409
    new = {"phone": "13500000003", "name": "新柜员", "roles": ["bank_operator"]}
    chief = await staff(world, "fengbo")
    assert (await call(world, chief, "staff.add", **new)).body is None
    assert (await call(world, chief, "staff.add", **new)).status == 403, "one is not two"
    other = new | {"roles": ["bank_administrator"]}
    second = await staff(world, "xuting")
    assert (await call(world, second, "staff.add", **other)).body is None, "that is another decision"
    added = await call(world, chief, "staff.add", **other)
    assert added.status == 200, added.body
    who = added.body["person_id"]
    assert (await by_two(world, "staff.change", person_id=who, roles=["boss"])).status == 422
    changed = await by_two(world, "staff.change", person_id=who, roles=["bank_support"])
    assert changed.body["roles"] == ["bank_support"]
    assert added.body["person_id"] in {
        m["person_id"] for m in (await call(world, chief, "staff.list")).body["members"]
    }
    chief, own = await staff(world, "fengbo"), str(world.people["fengbo"].person_id)
    assert (await call(world, chief, "staff.change", person_id=own, roles=["bank_support"])).status == 403
    assert (await call(world, chief, "staff.end", person_id=added.body["person_id"])).status == 200
    applying = await world.login("sunqiang")
    refused = await call(
        world, applying["access_token"], "enterprises.apply", name="自己的企业", credit_code=a_code()
    )
    assert refused.status == 403


async def test_asking_to_join(world: World) -> None:
    _, code, admin = await verified(world, "13500000004", "林间木业有限公司")
    person = await registered(world, "13500000005", "钱多")
    token = person["access_token"]
    found = await call(world, token, "enterprises.find", credit_code=code)
    assert found.body["name"] == "林间木业有限公司"
    assert (await call(world, token, "enterprises.find", credit_code=a_code())).status == 404
    asked = await call(world, token, "enterprises.ask_to_join", credit_code=code, message="我是新来的")
    assert asked.status == 200, asked.body
    assert (await call(world, token, "enterprises.ask_to_join", credit_code=code)).status == 409
    open_ = (await call(world, admin, "enterprises.join_requests")).body
    assert [(one["name"], one["phone"], one["message"]) for one in open_] == [
        ("钱多", "135****0005", "我是新来的")
    ]
    elsewhere = (await world.login("wangfang"))["access_token"]
    fields = {"request_id": open_[0]["request_id"], "accept": True}
    assert (await call(world, elsewhere, "enterprises.decide_join", **fields)).status == 404
    taken = await call(world, admin, "enterprises.decide_join", **fields)
    assert taken.body["roles"] == ["employee"]
    assert (await call(world, admin, "enterprises.decide_join", **fields)).status == 409
    me = (await call(world, token, "identity.me")).body
    assert [one["name"] for one in me["enterprises"]] == ["林间木业有限公司"]


@pytest.mark.requirement("T04")
async def test_a_contract_from_beginning_to_end(world: World) -> None:
    _, _, admin = await verified(world, "13500000006", "石桥建材有限公司")
    assert (await call(world, admin, "contracts.mine")).body is None
    early = await call(world, admin, "contracts.sign", agreement="2026-11")
    assert early.status == 409, "no step is skipped"
    apply = {"account_no": "622202000000000000", "legal_person": "石磊"}
    failed = await call(world, admin, "contracts.apply", **apply)
    assert (failed.body["state"], failed.body["reason"]) == ("applied", "账户不属于该企业")
    passed = await call(world, admin, "contracts.apply", **apply | {"account_no": "622202000000006688"})
    assert (passed.body["state"], passed.body["account_tail"]) == ("signing", "6688")
    assert (await call(world, admin, "contracts.sign", agreement="2019-01")).status == 409
    alone = await world.client.call("gateway.contracts.sign", {"agreement": "2026-11"}, token=admin)
    assert (alone.status, alone.body["errors"]["code"]) == (403, "step_up_required")
    asked = {"action": "gateway.contracts.sign", "fields": {"agreement": "2026-11"}}
    challenge = (await world.client.call("gateway.stepup.begin", asked, token=admin)).body
    assert challenge["lines"] == ["代表企业签署企业手机银行签约协议", "协议版本：2026-11"]
    signed = await call(world, admin, "contracts.sign", agreement="2026-11")
    assert signed.body["state"] == "bank_review"
    enterprise_id = signed.body["enterprise_id"]

    async def decide(login: str, decision: str, reason: str | None = None) -> Any:
        fields = {"enterprise_id": enterprise_id, "decision": decision, "reason": reason}
        return await call(world, await staff(world, login), "contracts.decide", **fields)

    async def level() -> str:
        fields = {"phone": "13500000006", "password": "mist over nine hills"}
        login = await world.client.login(fields["phone"], fields["password"], enterprise_id=enterprise_id)
        return str((await call(world, login.body["access_token"], "identity.me")).body["level"])

    assert await level() == "member"
    first = await decide("sunqiang", "pass")
    assert (first.body["state"], first.body["proposed"]) == ("bank_review", "pass")
    assert (await decide("sunqiang", "pass")).status == 403
    assert (await decide("qianyu", "pass")).body["state"] == "active"
    assert await level() == "contracted"
    assert (await decide("qianyu", "suspend")).status == 422, "say why"
    assert (await decide("qianyu", "suspend", "账户异常")).body["state"] == "active"
    assert (await decide("sunqiang", "suspend", "账户异常")).body["state"] == "suspended"
    assert await level() == "member", "suspended: no banking, at once"
    assert (await decide("qianyu", "end", "客户申请")).body["proposed"] == "end"
    assert (await decide("sunqiang", "resume")).body["proposed"] == "resume"
    assert (await decide("qianyu", "resume")).body["state"] == "active"


# --- invitations ------------------------------------------------------------------------------------------------------


async def test_an_invitation_by_code_and_link(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    made = await call(world, admin, "invitations.create", title="实习生", uses_max=2)
    assert made.status == 200, made.body
    code = made.body["code"]
    assert made.body["link"].endswith("/join#" + code.replace("-", ""))
    one = (await registered(world, "13500000011", "甲乙"))["access_token"]
    seen = await call(world, one, "invitations.look", code=code.lower().replace("-", " "))
    assert seen.body["enterprise"] == "青山精密制造有限公司"
    accepted = await call(world, one, "invitations.accept", code=code)
    assert accepted.status == 200, accepted.body
    switched = await call(world, one, "identity.switch_enterprise", enterprise_id=accepted.body)
    found = await call(world, switched.body["access_token"], "identity.list_members", name="甲乙")
    assert found.body["members"][0]["title"] == "实习生"
    assert (await call(world, one, "invitations.accept", code=code)).status == 409
    two = (await registered(world, "13500000012"))["access_token"]
    assert (await call(world, two, "invitations.accept", code=code)).status == 200
    three = (await registered(world, "13500000013"))["access_token"]
    refused = await call(world, three, "invitations.accept", code=code)
    never = await call(world, three, "invitations.accept", code="AAAABBBBCCCC")
    assert (refused.status, refused.body["detail"]) == (never.status, never.body["detail"])
    listed = (await call(world, admin, "invitations.list")).body
    assert (listed[0]["uses"], listed[0]["state"]) == (2, "used_up")
    assert "code" not in listed[0]


async def test_a_guest_registers_before_accepting(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    code = (await call(world, admin, "invitations.create")).body["code"]
    token = (await guest(world, "13500000014"))["access_token"]
    assert (await call(world, token, "invitations.look", code=code)).status == 200
    assert (await call(world, token, "invitations.accept", code=code)).status == 403


async def test_an_invitation_ends_by_time_by_revocation_and_with_its_makers_right(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    token = (await registered(world, "13500000015"))["access_token"]
    revoked = (await call(world, admin, "invitations.create", uses_max=5)).body
    assert (
        await call(world, admin, "invitations.revoke", invitation_id=revoked["invitation_id"])
    ).status == 200
    assert (await call(world, token, "invitations.accept", code=revoked["code"])).status == 404
    clerk = str(world.people["chenjing"].person_id)
    roles = ["employee", "administrator"]
    await call(world, admin, "identity.change_member", person_id=clerk, roles=roles)
    theirs = (await world.login("chenjing"))["access_token"]
    strong = (await call(world, theirs, "invitations.create", roles=roles)).body
    await call(world, admin, "identity.change_member", person_id=clerk, roles=["employee"])
    assert (await call(world, token, "invitations.accept", code=strong["code"])).status == 404
    short = (await call(world, admin, "invitations.create", life_s=60)).body
    world.clock.advance(60_000)
    assert (await call(world, token, "invitations.accept", code=short["code"])).status == 404
    for login in ("chenjing", "liuyang"):
        nobody = (await world.login(login))["access_token"]
        assert (await call(world, nobody, "invitations.create")).status == 403


@pytest.mark.requirement("A02")
async def test_an_old_link_lets_nobody_back_in_who_was_put_out(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    old = (await call(world, admin, "invitations.create", uses_max=100)).body["code"]
    begun = await registered(world, "13500000016")
    token, who = begun["access_token"], begun["person"]["person_id"]
    world.clock.advance(1_000)
    assert (await call(world, token, "invitations.accept", code=old)).status == 200
    assert (await call(world, admin, "identity.end_membership", person_id=who)).status == 200
    assert (await call(world, token, "invitations.accept", code=old)).status == 404
    world.clock.advance(1_000)
    new = (await call(world, admin, "invitations.create")).body["code"]
    assert (await call(world, token, "invitations.accept", code=new)).status == 200, "asked again they may"


@pytest.mark.requirement("T07", "A02")
async def test_an_invitation_reaches_no_further_than_its_maker_does_now(world: World) -> None:
    admin = (await world.login("wangfang"))["access_token"]
    mine, other = [
        (await call(world, admin, "departments.create", name=name)).body["department_id"]
        for name in ("甲厂", "乙厂")
    ]
    grants = [{"permission": "members:manage", "reach": "department"}]
    role = (await call(world, admin, "access.create_role", name="厂区人事", grants=grants)).body["role"]
    who = str(world.people["chenjing"].person_id)

    async def place(department: str) -> None:
        fields = {"roles": ["employee", role], "departments": [{"department_id": department}]}
        assert (await call(world, admin, "identity.change_member", person_id=who, **fields)).status == 200

    await place(mine)
    clerk = (await world.login("chenjing"))["access_token"]
    made = await call(world, clerk, "invitations.create", departments=[{"department_id": mine}])
    await place(other)
    token = (await registered(world, "13500000017"))["access_token"]
    assert (await call(world, token, "invitations.accept", code=made.body["code"])).status == 404
    await place(mine)
    assert (await call(world, token, "invitations.accept", code=made.body["code"])).status == 200


@pytest.mark.requirement("T05", "T07", "A06")
async def test_who_proposed_must_still_be_allowed_to(world: World) -> None:
    begun = await registered(world, "13500000018")
    applied = await call(
        world, begun["access_token"], "enterprises.apply", name="旧提案有限公司", credit_code=a_code()
    )
    fields = {"application_id": applied.body["application_id"], "decision": "verify"}
    first = await staff(world, "sunqiang")
    assert (await call(world, first, "enterprises.decide", **fields)).body["proposed"] == "verify"
    who = str(world.people["sunqiang"].person_id)
    put = await by_two(world, "staff.change", person_id=who, roles=["bank_support"])
    assert put.status == 200
    second = await staff(world, "qianyu")
    alone = await call(world, second, "enterprises.decide", **fields)
    assert alone.body["state"] == "applied", "it is the first now"
    await by_two(world, "staff.change", person_id=who, roles=["bank_operator"])
    done = await call(world, await staff(world, "sunqiang"), "enterprises.decide", **fields)
    assert done.body["state"] == "verified"


async def test_of_many_who_accept_a_single_invitation_one_comes_in(world: World) -> None:
    admin = (await world.login("zhoutao"))["access_token"]
    code = (await call(world, admin, "invitations.create")).body["code"]
    tokens = [(await registered(world, f"1350000002{n}"))["access_token"] for n in range(4)]
    answers = await asyncio.gather(*(call(world, t, "invitations.accept", code=code) for t in tokens))
    assert sorted(answer.status for answer in answers) == [200, 404, 404, 404]


# --- people, for the bank ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("S04", "T05", "A06")
async def test_support_disables_a_person_and_two_enable(world: World) -> None:
    begun = await registered(world, "13500000031", "丙丁")
    person_id = begun["person"]["person_id"]
    support = await staff(world, "zhengjie")
    card = (await call(world, support, "people.find", login="13500000031")).body
    assert (card["name"], card["phone"], card["sessions"]) == ("丙*", "135****0031", 1)
    off = await call(world, support, "people.disable", person_id=person_id, reason="本人来电挂失")
    assert (off.body["state"], off.body["sessions"]) == ("disabled", 0)
    assert (await call(world, begun["access_token"], "identity.me")).status == 401
    assert (await world.client.login("13500000031", "mist over nine hills")).status == 401
    sent = await world.client.call("gateway.codes.send", {"phone": "13500000031", "purpose": "login"})
    assert sent.status in (200, 429)
    on = await call(world, support, "people.enable", person_id=person_id, reason="核实本人")
    assert (on.body["state"], on.body["proposed"]) == ("disabled", "enable")
    assert (await call(world, support, "people.enable", person_id=person_id, reason="再来")).status == 403
    both = await call(
        world, await staff(world, "sunqiang"), "people.enable", person_id=person_id, reason="同意"
    )
    assert both.body["state"] == "active"
    assert (await world.client.login("13500000031", "mist over nine hills")).status == 200
    ended = await call(world, support, "people.end_sessions", person_id=person_id, reason="手机丢失")
    assert ended.status == 200
    colleague = str(world.people["helei"].person_id)
    assert (await call(world, support, "people.disable", person_id=colleague, reason="不行")).status == 403
    assert (await call(world, support, "people.find", login="13599999999")).status == 404


# --- rules ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(list(Step)), max_size=30))
def test_no_step_is_skipped(steps: list[Step]) -> None:
    """Whatever happens in whatever order: active only after the core, the signature and the bank, in this order."""
    state: State | None = None
    done: list[Step] = []
    for step in steps:
        following = contracts.after(state, step)
        if following is None:
            continue
        if step is Step.APPLY:
            done = []
        done.append(step)
        state = following
        if state is State.ACTIVE:
            way = [one for one in done if one in (Step.CHECK_PASSED, Step.SIGN, Step.PASS)]
            assert way[0] is Step.CHECK_PASSED
            assert way[-2:] == [Step.SIGN, Step.PASS]
        assert (contracts.stage(state) == "contracted") == (state is State.ACTIVE)


def test_every_state_is_reached_and_left() -> None:
    reached = {contracts.after(state, step) for state in (None, *State) for step in Step}
    assert set(State) <= reached
    for state in State:
        assert any(contracts.after(state, step) for step in Step), state


@given(st.integers(0, 5), st.integers(1, 5), st.integers(0, 10), st.integers(0, 10), st.booleans())
def test_only_an_open_invitation_is_open(uses: int, most: int, expires: int, now: int, revoked: bool) -> None:
    one = invitations.Invitation(uses, most, expires, revoked)
    assert (invitations.state(one, now) == "open") == (uses < most and now < expires and not revoked)


@given(st.text(alphabet=invitations.ALPHABET, min_size=12, max_size=12))
def test_a_code_is_the_same_however_it_is_typed(code: str) -> None:
    shown = invitations.shown(code)
    assert invitations.digest(b"k", shown.lower()) == invitations.digest(b"k", f" {code} ")


@pytest.mark.requirement("T05")
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.integers(0, 4 * 86_400_000)), max_size=20)
)
def test_nothing_is_carried_out_by_one_person(decisions: list[tuple[str, int, int]]) -> None:
    open_: proposals.Proposal | None = None
    now = 0
    for decision, by, pause in decisions:
        now += pause
        step = proposals.step(open_, decision, by, now, 7 * 86_400_000)
        if step is proposals.Step.CARRY_OUT:
            assert open_ is not None
            assert (open_.decision, open_.by != by) == (decision, True)
            open_ = None
        elif step is proposals.Step.PROPOSE:
            open_ = proposals.Proposal(decision, by, now)
