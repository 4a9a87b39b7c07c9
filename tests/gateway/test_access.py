"""Grants out of the tables: own roles, changes that hold at once, and what explains them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.actions import Command, Context, Id, Permission, Principal, Resource, action
from core.bus import MemoryNetwork
from core.context import Source
from core.db import Sql
from core.errors import Conflict, Forbidden, Invalid, NotFound
from core.runtime import Runtime
from core.service import Service
from core.tokens import AccessTokens
from gateway import demo
from gateway.access import rules, store
from gateway.api import (
    ChangeRole,
    CreateRole,
    DeleteRole,
    GrantInfo,
    ListPermissions,
    ListRoles,
    ShowMyAccess,
)
from gateway.identity import store as identity
from gateway.people import ActivePeople
from gateway.service import GatewayService
from house.explain import About, explain
from im.service import ImService
from tests.stepup import proven
from tests.world import process, settings_for

DESKS_MOVE = Permission("desks:move", "搬动工位", {"administrator"})
SOURCE = Source("203.0.113.9", "http", "test")
_moved: list[int] = []


class MoveDesk(Command[None], action="desks.move"):
    owner_id: Id
    departments: tuple[Id, ...] = ()
    amount_fen: int | None = None


class SeeDesk(Command[str], action="desks.see"):
    pass


@action(MoveDesk, needs=DESKS_MOVE)
async def move(ctx: Context, command: MoveDesk) -> None:
    """Move a desk."""
    ctx.allow(Resource(command.owner_id, frozenset(command.departments), command.amount_fen))
    _moved.append(command.owner_id)


@action(SeeDesk, needs=DESKS_MOVE, audited=False)
async def see(ctx: Context, command: SeeDesk) -> str:
    """Look at one."""
    return "desk"


class Desks(Service):
    name = "desks"
    actions = (move, see)


class Place:
    """Two processes on one database, and people of the demonstration."""

    def __init__(self, here: Runtime, there: Runtime, people: dict[str, demo.DemoPerson]) -> None:
        self.here, self.there, self.people = here, there, people

    def principal(self, login: str, *roles: str) -> Principal:
        person = self.people[login]
        return Principal(person.person_id, person.enterprise_id, frozenset(roles), 1, "phone", 1 << 62)

    async def call(self, login: str, command: Command[Any], at: Runtime | None = None) -> Any:
        """As somebody whose token claims every role there is: nothing may come of that."""
        who = self.principal(login, "boss", "administrator", "employee")
        runtime, fields = at or self.here, command.model_dump()
        challenge_id = await proven(runtime, who, command.action_name, fields)
        return await runtime.calls.perform(
            command.action_name, fields, principal=who, source=SOURCE, step_up=challenge_id
        )

    async def give(self, login: str, role: str, *, take: bool = False) -> None:
        """Give somebody one more role (or take it), and tell nobody."""
        person = self.people[login]
        roles = set(await identity.roles_of(self.here.db, person.enterprise_id, person.person_id))
        roles = roles - {role} if take else roles | {role}
        await self.here.db.run(self._join, person, roles)

    async def _join(self, tx: Any, person: demo.DemoPerson, roles: set[str]) -> None:
        now = self.here.clock.now()
        await identity.join(tx, person.enterprise_id, person.person_id, title=None, roles=roles, now=now)


@pytest.fixture
async def place(database: str, tmp_path: Path) -> AsyncIterator[Place]:
    settings, network = settings_for(database, tmp_path), MemoryNetwork()
    _moved.clear()

    def services(clock: Any, _: Any) -> list[Service]:
        gateway = GatewayService(AccessTokens(settings, clock), listen=False)
        return [gateway, ImService(ActivePeople()), Desks()]

    async with (
        process(settings, services, network=network) as here,
        process(settings, services, network=network) as there,
    ):
        yield Place(here, there, {one.login: one for one in reversed(await demo.seed(here))})


@pytest.mark.requirement("T07")
async def test_writes_ask_again_and_reads_forget_soon(place: Place) -> None:
    see_it, move_it = SeeDesk(), MoveDesk(owner_id=1)
    await place.give("yangmin", "administrator")
    await place.call("yangmin", see_it)
    await place.call("yangmin", move_it)
    await place.give("yangmin", "administrator", take=True)  # and nobody is told
    with pytest.raises(Forbidden):
        await place.call("yangmin", move_it)
    assert _moved == [1]
    person = place.people["yangmin"]
    place.here.access.forget(person.person_id, person.enterprise_id)
    with pytest.raises(Forbidden):
        await place.call("yangmin", see_it)


async def test_a_changed_role_holds_in_every_process_at_once(place: Place) -> None:
    made = (
        await place.call("wangfang", CreateRole(name="搬运", grants=[GrantInfo(permission="desks:move")]))
    ).value
    await place.give("zhaolei", made["role"])
    for runtime in (place.here, place.there):
        assert (await place.call("zhaolei", SeeDesk(), runtime)).value == "desk"
    nothing = ChangeRole(role_id=int(made["role"]), name="搬运", grants=[])
    await place.call("wangfang", nothing)
    for runtime in (place.here, place.there):
        with pytest.raises(Forbidden):
            await place.call("zhaolei", SeeDesk(), runtime)


async def test_reach_and_amount_of_own_roles(place: Place) -> None:
    person = place.people["huangting"]
    db, enterprise, now = place.here.db, person.enterprise_id, place.here.clock.now()
    await db.run(_departments, enterprise, now, person.person_id)
    grant = GrantInfo(permission="desks:move", reach="tree", amount_fen=500)
    made = (await place.call("wangfang", CreateRole(name="部门搬运", grants=[grant]))).value
    await place.give("huangting", made["role"])
    await place.call("huangting", MoveDesk(owner_id=5, departments=(91,), amount_fen=500))
    await place.call("huangting", MoveDesk(owner_id=person.person_id, departments=(95,)))
    for beyond in (
        MoveDesk(owner_id=5, departments=(92,)),
        MoveDesk(owner_id=5),
        MoveDesk(owner_id=5, departments=(91,), amount_fen=501),
    ):
        with pytest.raises(Forbidden):
            await place.call("huangting", beyond)


_DEPARTMENT = Sql(
    "INSERT INTO gateway_departments (department_id, enterprise_id, parent_id, name, position, created_at) "
    "VALUES ($1, $2, $3, 'x', 0, $4)",
    None,
    "tests",
)
_IN_IT = Sql(
    "INSERT INTO gateway_department_members (enterprise_id, department_id, person_id, is_head) VALUES ($1, 90, $2, 0)",
    None,
    "tests",
)


async def _departments(tx: Any, enterprise: int, now: Any, person_id: int) -> None:
    for department_id, parent_id in ((90, None), (91, 90), (92, None)):
        await tx.execute(_DEPARTMENT, department_id, enterprise, parent_id, now)
    await tx.execute(_IN_IT, enterprise, person_id)


async def test_own_roles_are_made_changed_and_removed(place: Place) -> None:
    make = CreateRole(name="前台", grants=[GrantInfo(permission="contacts:read", reach="department")])
    made = (await place.call("wangfang", make)).value
    with pytest.raises(Conflict):
        await place.call("wangfang", make)
    for wrong in ("roles:manage", "no:such"):
        with pytest.raises(Invalid):
            await place.call("wangfang", CreateRole(name="x", grants=[GrantInfo(permission=wrong)]))
    listed = {one["role"]: one for one in (await place.call("wangfang", ListRoles())).value["roles"]}
    assert listed[made["role"]]["grants"] == make.model_dump()["grants"]
    assert listed["administrator"]["members"] == 1
    assert listed["employee"]["name"] == "员工"
    await place.give("chenjing", made["role"])
    with pytest.raises(Conflict):
        await place.call("wangfang", DeleteRole(role_id=int(made["role"])))
    await place.give("chenjing", made["role"], take=True)
    await place.call("wangfang", DeleteRole(role_id=int(made["role"])))
    with pytest.raises(NotFound):
        await place.call("wangfang", DeleteRole(role_id=int(made["role"])))
    with pytest.raises(Forbidden):
        await place.call("chenjing", make)


async def test_what_several_have_is_what_each_has(place: Place) -> None:
    """Also of who has a role that depends on departments, of two enterprises, of nobody, and of one twice."""
    grants = [GrantInfo(permission="desks:move", reach="tree")]
    made = (await place.call("wangfang", CreateRole(name="都搬", grants=grants))).value
    await place.give("yangmin", made["role"])
    people = [place.principal(login) for login in ("zhangwei", "yangmin", "zhoutao", "lina", "zhangwei")]
    people.append(Principal(5, people[0].enterprise_id, frozenset(), 1, "phone", 1 << 62))
    access, db = place.here.access, place.here.db
    async with db.transaction() as tx:
        each = [await access.grants_now(tx, who) for who in people]
        assert await access.grants_of_all(tx, people) == each
        assert await access.grants_of_all(tx, []) == []
    assert each[1].custom
    assert each[-1].level is None


async def test_one_sees_what_one_may(place: Place) -> None:
    table = {
        one["name"]: one for one in (await place.call("chenjing", ListPermissions())).value["permissions"]
    }
    assert table["roles:manage"]["assignable"] is False
    mine = (await place.call("chenjing", ShowMyAccess())).value
    assert (mine["level"], mine["roles"]) == ("contracted", ["employee"])
    held = {grant["permission"] for grant in mine["grants"]}
    assert "contacts:read" in held
    assert "members:manage" not in held


async def test_decisions_are_explained(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    settings = place.here.settings
    assert await explain(settings, "wangfang", "gateway.identity.add_member", None) == 0
    allowed = capsys.readouterr().out
    assert "✓ holds members:manage, by administrator" in allowed
    assert "138****0002" in allowed
    assert await explain(settings, "13800000005", "gateway.identity.add_member", None) == 1
    assert "✗ holds members:manage" in capsys.readouterr().out
    with pytest.raises(Invalid, match=r"gateway\.identity\.add_member"):
        await explain(settings, "wangfang", "add_member", None)
    with pytest.raises(NotFound):
        await explain(settings, "nobody", "gateway.identity.me", None)


async def test_what_is_decided_about_a_record_is_explained(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, name = place.here.settings, "gateway.identity.end_membership"

    async def said(
        person: str, about: About | None = None, acr: int = 2, action: str = name
    ) -> tuple[int, str]:
        code = await explain(settings, person, action, None, acr, about)
        return code, capsys.readouterr().out

    code, out = await said("wangfang")
    assert (code, "reach ENTERPRISE: every record of the enterprise, any amount" in out) == (0, True)
    assert "--owner" in out
    made = (await place.call("wangfang", CreateRole(name="门店长", grants=[
        GrantInfo(permission="members:manage", reach="own", amount_fen=500),
    ]))).value  # fmt: skip
    await place.give("huangting", made["role"])
    code, out = await said("huangting", About(owner="chenjing"))
    assert code == 1
    assert "✓ holds members:manage, by the enterprise's own roles" in out
    assert "✗ reach OWN covers the record: it is somebody else's" in out
    code, out = await said("huangting", About(owner="huangting", amount_fen=501, maker="huangting"))
    assert code == 1
    assert "✓ reach OWN covers the record: it is the caller's own" in out
    assert "✗ the amount is within the limit: it is 501 fen, the limit is 500 fen" in out
    assert "✗ the maker is somebody else" in out
    assert (await said("huangting", About(owner="huangting", amount_fen=500, maker="wangfang")))[0] == 0
    await place.give("huangting", made["role"], take=True)
    code, out = await said("sunqiang", acr=1, action="gateway.enterprises.list")
    assert code == 1
    assert "✗ a second factor was used" in out
    assert "refused: the bank's staff log in with a second factor" in out
    assert (await said("sunqiang", action="gateway.enterprises.list"))[0] == 0
    with pytest.raises(NotFound, match="nobody logs in as nowhere"):
        await said("wangfang", About(owner="nowhere"))


def test_departments_below() -> None:
    tree = [(1, None), (2, 1), (3, 2), (4, None), (5, 6), (6, 5)]
    assert rules.below(tree, [1]) == {1, 2, 3}
    assert rules.below(tree, [5]) == {5, 6}, "a circle ends"
    assert rules.below(tree, []) == frozenset()


async def test_a_closed_account_or_enterprise_has_nothing(place: Place) -> None:
    person = place.people["wuxia"]
    db = place.here.db
    rows = await store.held(db, person.enterprise_id, person.person_id)
    assert rules.grants_from(rows).level is not None
    assert rules.grants_from([]).level is None
    for state, level in (("person_state", None), ("enterprise_state", 2), ("membership_state", 2)):
        closed = [{key: row[key] for key in row.keys()} | {state: "closed"} for row in rows]  # noqa: SIM118
        assert rules.grants_from(closed).level == level
