"""Every action, really called by somebody of every kind (requirement A01): the table of who may is `who_may.txt`.

The table is written and reviewed by people; it does not come from the declarations. Whoever may not is refused with the
code that is meant for it, and not a row anywhere changes. Whoever may gets past the permission, whatever the answer is:
the objects in the calls are another enterprise's, so most answers are that there is no such thing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from core.access import Principal, Reach
from core.actions import Action
from core.errors import BankhubError, Forbidden, Invalid, NotFound, StepUpRequired, Unauthenticated
from core.s3 import S3
from gateway.access import store as roles
from gateway.identity import store as people
from house import compose
from tests.security.examples import EXAMPLES
from tests.security.test_every_action import ACTIONS, SOURCE, Twins, twins_in

TABLE = Path(__file__).with_name("who_may.txt")
WRITTEN_BY_REFUSALS = frozenset({"core_audit"})

WRONG_CODE = "the code is not right, or not any more"
UNBOUND = "this session is not bound to a key"
BY_THE_HANDLER = {
    "gateway.apps.check_bridge": "the bridge token is not valid",
    "gateway.devices.bind": UNBOUND,
    "gateway.devices.send_code": UNBOUND,
    "gateway.factors.complete_login": "log in again",
    "gateway.factors.confirm": WRONG_CODE,
    "gateway.factors.send_login_code": "log in again",
    "gateway.identity.refresh": "the session has ended",
    "gateway.privacy.erase": WRONG_CODE,
    "gateway.registration.change_password": "the password is not right",
    "gateway.registration.login": WRONG_CODE,
    "gateway.registration.reset_password": WRONG_CODE,
}
"""What an action itself says to these calls with the code of a refused permission: in these words, so it got in."""


def who_may() -> tuple[list[str], dict[str, dict[str, bool]]]:
    """The columns, and for each action who may call it."""
    lines = [line.split() for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]
    callers = [word for word in lines[0][1:] if word != "|"]
    table = {}
    for name, *marks in lines[1:]:
        marks = [mark for mark in marks if mark != "|"]
        assert len(marks) == len(callers), name
        assert set(marks) <= {"x", "."}, name
        assert name not in table, f"{name} is there twice"
        table[name] = {caller: mark == "x" for caller, mark in zip(callers, marks, strict=True)}
    return callers, table


CALLERS, MAY = who_may()
DOCUMENT = compose.openapi()


@dataclass
class Stage:
    """The twins, somebody of every kind, and the database as it was before anybody called anything."""

    twins: Twins
    callers: dict[str, Principal | None]
    connection: asyncpg.Connection[Any]
    tables: list[str]
    before: dict[str, str]

    async def digests(self) -> dict[str, str]:
        """A digest of all rows of every table."""
        each = (
            f"SELECT '{table}', md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM public.{table} t"
            for table in self.tables
        )
        return {row[0]: row[1] for row in await self.connection.fetch(" UNION ALL ".join(each))}

    async def keep(self) -> None:
        """Remember what is there."""
        await self.connection.execute("CREATE SCHEMA kept")
        for table in self.tables:
            await self.connection.execute(f"CREATE TABLE kept.{table} AS TABLE public.{table}")
        self.before = await self.digests()

    async def restore(self) -> None:
        """Undo what calls have done, so that nobody's calls depend on somebody else's."""
        now = await self.digests()
        async with self.connection.transaction():
            for table in self.tables:
                if now[table] != self.before[table]:
                    await self.connection.execute(f"DELETE FROM public.{table}")
                    await self.connection.execute(f"INSERT INTO public.{table} TABLE kept.{table}")
        for enterprise_id in {p.enterprise_id for p in self.callers.values() if p is not None}:
            self.twins.runtime.access.forget(0, enterprise_id)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    database: str, object_store: S3, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    async with twins_in(database, tmp_path_factory.mktemp("var"), object_store) as twins:
        callers = await _callers(twins)
        assert set(callers) == set(CALLERS)
        url = twins.runtime.settings.database_url
        assert url is not None
        connection = await asyncpg.connect(url.get_secret_value(), ssl=False)
        found = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        )
        tables = [row[0] for row in found if row[0] not in WRITTEN_BY_REFUSALS]
        stage = Stage(twins, callers, connection, tables, {})
        await stage.keep()
        yield stage
        await connection.close()


async def _callers(twins: Twins) -> dict[str, Principal | None]:
    """Somebody of every kind, each with a row in the tables and, where the table says so, nothing more."""
    runtime, ours = twins.runtime, twins.ours

    def staff(login: str) -> Principal:
        return twins.principal(login, ours)

    def bank(login: str, acr: int = 2) -> Principal:
        person = next(one for one in twins.everybody if one.login == login)
        session_id = twins.sessions[(login, person.enterprise_id)]
        return _principal(person.person_id, person.enterprise_id, person.roles, session_id, acr)

    async def somebody(number: int, enterprise_id: int = 0, registered: bool = True) -> int:
        person_id = runtime.ids.next()
        await people.insert_person(
            runtime.db,
            runtime.columns,
            person_id,
            phone=f"139000000{number:02d}",
            login_name=None,
            name="某人",
            password_hash="no password" if registered else None,
            now=runtime.clock.now(),
        )
        if enterprise_id:
            await runtime.db.run(
                people.join,
                enterprise_id,
                person_id,
                title=None,
                roles=("employee",),
                now=runtime.clock.now(),
            )
        return person_id

    now, here = runtime.clock.now(), ours.enterprise_id
    guest, registered = await somebody(1, registered=False), await somebody(2)
    closed, former, custom = await somebody(3, here), await somebody(4, here), await somebody(5, here)
    await people.set_person_state(runtime.db, closed, "disabled")
    assert await people.leave(runtime.db, here, former, now)
    own = str(runtime.ids.next())
    await roles.insert_role(runtime.db, here, own, "own role", now)
    await roles.set_grants(
        runtime.db,
        here,
        own,
        [("departments:manage", int(Reach.ENTERPRISE), None), ("webhooks:manage", 4, None)],
    )
    await people.set_roles(runtime.db, here, custom, ["employee", own])
    administrator = staff("wangfang")
    return {
        "none": None,
        "shut": _principal(closed, here, ("employee",)),
        "gues": _principal(guest, 0, ()),
        "regd": _principal(registered, 0, ()),
        "left": _principal(former, here, ("employee",)),
        "empl": staff("huangting"),
        "make": staff("liuyang"),
        "revw": staff("lina"),
        "boss": staff("zhangwei"),
        "admn": administrator,
        "own": _principal(custom, here, ("employee",)),
        "app": _of_app(administrator, ours.app_id),
        "app+": _of_app(administrator, ours.app_id, "contacts:read"),
        "oper": bank("sunqiang"),
        "brev": bank("qianyu"),
        "audi": bank("helei"),
        "supp": bank("zhengjie"),
        "badm": bank("fengbo"),
        "1fac": bank(await _all_bank_roles(twins), acr=1),
    }


async def _all_bank_roles(twins: Twins) -> str:
    """A person of the bank who holds all of its roles, for a session that began with a password alone."""
    runtime = twins.runtime
    first = next(one for one in twins.everybody if one.login == "sunqiang")
    person_id = runtime.ids.next()
    await people.insert_person(
        runtime.db, runtime.columns, person_id, phone="13900000009", login_name=None, name="某人",
        password_hash="no password", now=runtime.clock.now(),
    )  # fmt: skip
    held = tuple(sorted({role for one in twins.everybody for role in one.roles if role.startswith("bank_")}))
    assert len(held) == 5
    await runtime.db.run(
        people.join, first.enterprise_id, person_id, title=None, roles=held, now=runtime.clock.now()
    )
    made = type(first)(person_id, first.enterprise_id, "", "all", "", "", held, "", "")
    twins.everybody.append(made)
    twins.sessions[("all", first.enterprise_id)] = 0
    return "all"


def _principal(
    person_id: int, enterprise_id: int, held: Iterable[str], session_id: int = 0, acr: int = 1
) -> Principal:
    return Principal(person_id, enterprise_id, frozenset(held), session_id, "example", 1 << 50, acr)


def _of_app(person: Principal, app_id: int, *scopes: str) -> Principal:
    """A token that an app of somebody else's holds, for this person."""
    return Principal(
        person.person_id, person.enterprise_id, person.roles, person.session_id, "example", 1 << 50, 2,
        frozenset(scopes), str(app_id),
    )  # fmt: skip


def test_the_table_has_every_action_once_and_no_other() -> None:
    missing, gone = (
        {action.name for action in ACTIONS} - set(MAY),
        set(MAY) - {action.name for action in ACTIONS},
    )
    assert not missing, f"say in {TABLE.name} who may call {', '.join(sorted(missing))}"
    assert not gone


def test_the_table_is_sorted_and_each_caller_may_something() -> None:
    assert list(MAY) == sorted(MAY)
    for caller in CALLERS:
        assert any(row[caller] for row in MAY.values()), caller


@pytest.mark.requirement("A01", "A06")
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
@pytest.mark.asyncio(loop_scope="module")
async def test_only_who_may_gets_in(stage: Stage, action: Action[Any, Any]) -> None:
    fields = EXAMPLES[action.name].fields(stage.twins.theirs)
    may = MAY[action.name]
    nobody_may = not any(may.values())  # of our services only: from outside it does not exist
    wrong: list[str] = []
    for caller in (one for one in CALLERS if not may[one]):
        meant = NotFound if nobody_may else Unauthenticated if caller in ("none", "shut") else Forbidden
        got = await _call(stage, action, caller, fields)
        if type(got) is not meant:
            wrong.append(f"{caller}: {got!r}, not {meant.__name__}")
    now = await stage.digests()
    changed = [table for table in stage.tables if now[table] != stage.before[table]]
    if changed:
        wrong.append(f"refused callers have changed {', '.join(changed)}")
    try:
        for caller in (one for one in CALLERS if may[one]):
            got = await _call(stage, action, caller, fields)
            kept_out = isinstance(got, Unauthenticated | Forbidden) and not isinstance(got, StepUpRequired)
            if kept_out and got is not None and got.message != BY_THE_HANDLER.get(action.name):
                wrong.append(f"{caller} may, but: {got!r}")
    finally:
        await stage.restore()
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("action", [a for a in ACTIONS if any(MAY[a.name].values())], ids=lambda a: a.name)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_example_of_the_document_is_a_valid_request(stage: Stage, action: Action[Any, Any]) -> None:
    """As somebody who may: what comes of it depends on what is there, but it is never malformed."""
    caller = next(one for one in ("admn", "badm", "oper", "supp", "audi", "gues") if MAY[action.name][one])
    body = DOCUMENT["paths"][f"/v1/{action.name}"]["post"]["requestBody"]["content"]["application/json"]
    try:
        got = await _call(stage, action, caller, body["example"])
    finally:
        await stage.restore()
    assert not isinstance(got, Invalid), f"{body['example']}: {got!r}"


async def _call(stage: Stage, action: Action[Any, Any], caller: str, fields: Any) -> BankhubError | None:
    """What it was refused with; None: it was answered."""
    try:
        await stage.twins.runtime.calls.perform(
            action.name, fields, principal=stage.callers[caller], source=SOURCE
        )
    except BankhubError as refusal:
        return refusal
    return None
