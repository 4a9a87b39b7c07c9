"""Every action that is declared, called as everybody who may not (requirements A01, A02, A03 and A04).

Nothing here names an action: the registry is walked, and `examples.py` says how to call each. Who may call what stands
in `who_may.txt`, and is tried in `test_every_role.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from core.access import permissions_of
from core.actions import (
    INTERNAL,
    PUBLIC,
    ROLES,
    Access,
    Action,
    Permission,
    Principal,
)
from core.context import Source
from core.dispatch import parse
from core.errors import BankhubError, Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from core.runtime import Runtime
from core.s3 import S3
from files.api import BeginUpload, Keep, PlaceHold
from gateway.api import (
    AddWebhook,
    ApplyForEnterprise,
    CreateDepartment,
    CreateInvitation,
    CreateRole,
    GrantInfo,
    InstallApp,
    RegisterOwnApp,
    RequestExport,
)
from gateway.demo import DemoPerson, seed
from gateway.enterprises import store as joining
from gateway.identity.rules import credit_code_check_digit
from gateway.oauth.apps import store as apps
from gateway.sms.outbox import FILE
from gateway.webhooks import store as webhooks
from house import compose
from im.api import CreateGroup, Send
from tests.security.examples import EXAMPLES, Tenant
from tests.stepup import proven
from tests.world import process, settings_for

ACTIONS: list[Action[Any, Any]] = compose.actions()
REFUSED = (Unauthenticated, Forbidden, NotFound)
SOURCE = Source("203.0.113.7", "http", "test")

each_action = pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)


def test_every_action_has_an_example() -> None:
    assert {action.name for action in ACTIONS} == set(EXAMPLES)


@pytest.mark.requirement("A01")
def test_every_action_declares_who_may_call_it() -> None:
    for action in ACTIONS:
        assert isinstance(action.needs, Access | Permission), action.name


def test_one_table_of_permissions() -> None:
    table = permissions_of(action.needs for action in ACTIONS)
    assert {"members:manage", "contacts:read", "messages:send"} <= set(table)
    for permission in table.values():
        assert permission.title, permission.name
        assert permission.roles, f"nobody has {permission.name}"


# --- with two tenants that have the same of everything ---------------------------------------------------------------


@dataclass
class Twins:
    """Two enterprises in one process, and principals of their people."""

    runtime: Runtime
    ours: Tenant
    theirs: Tenant
    everybody: list[DemoPerson]
    sessions: dict[tuple[str, int], int]

    def principal(self, login: str, tenant: Tenant, *more_roles: str) -> Principal:
        person = next(
            p for p in self.everybody if p.login == login and p.enterprise_id == tenant.enterprise_id
        )
        session_id = self.sessions[(login, tenant.enterprise_id)]
        roles = frozenset(person.roles) | set(more_roles)
        return Principal(person.person_id, tenant.enterprise_id, roles, session_id, "example", 1 << 50)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def twins(
    database: str, object_store: S3, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Twins]:
    async with twins_in(database, tmp_path_factory.mktemp("var"), object_store) as twins:
        yield twins


@asynccontextmanager
async def twins_in(database: str, var: Path, store: S3) -> AsyncIterator[Twins]:
    """The demonstration's people logged in, and in both enterprises an object of every kind."""
    settings = settings_for(
        database,
        var,
        s3_endpoint_url=store.endpoint,
        s3_access_key=store.access_key,
        s3_secret_key=store.secret_key,
        s3_bucket=store.bucket,
    )

    made: list[Any] = []

    def services(clock: Any, db: Any) -> list[Any]:
        made.extend(compose.services(settings, clock, db, compose.SERVICES, listen=False))
        return made

    async with process(settings, services) as runtime:
        everybody = await seed(runtime)
        sessions: dict[tuple[str, int], int] = {}
        for person in everybody:
            source = Source(f"198.51.100.{len(sessions)}", "http")
            sessions[(person.login, person.enterprise_id)] = await _login(runtime, made, person, source)
        twins = Twins(runtime, None, None, everybody, sessions)  # type: ignore[arg-type]
        twins.ours = await _furnish(twins, "chenjing", "yangmin", "zhaolei", "canary-of-ours")
        twins.theirs = await _furnish(twins, "zhoutao", "wuxia", "wuxia", "canary-of-theirs")
        yield twins


async def _login(runtime: Runtime, made: list[Any], person: DemoPerson, source: Source) -> int:
    """The session; of the bank's staff with the second factor that is asked for."""

    async def call(name: str, fields: dict[str, Any]) -> Any:
        return (await runtime.calls.perform(name, fields, principal=None, source=source)).value

    where = {"enterprise_id": str(person.enterprise_id)}
    fields = {"login": person.login, "password": person.password, "device": "example"}
    try:
        return int((await call("gateway.identity.login", fields | where))["session_id"])
    except Unauthenticated as half:
        ticket = {"ticket": (half.detail or {})["ticket"], "device": "example"}
    await call("gateway.factors.send_login_code", ticket)
    await next(one for one in made if one.name == "gateway").parts.sms.settled()
    text = (runtime.settings.var_dir / FILE).read_text().splitlines()[-1]
    code = re.search(r"(?<!\d)\d{6}(?!\d)", json.loads(text)["text"])
    assert code is not None
    step = ticket | where | {"way": "sms", "code": code[0]}
    return int((await call("gateway.factors.complete_login", step))["session_id"])


async def _furnish(twins: Twins, owner: str, colleague: str, victim: str, canary: str) -> Tenant:
    def find(login: str) -> DemoPerson:
        return next(p for p in twins.everybody if p.login == login)

    found = find(owner)
    tenant = Tenant(
        enterprise_id=found.enterprise_id,
        owner=owner,
        owner_id=found.person_id,
        colleague_id=find(colleague).person_id,
        victim_id=find(victim).person_id,
        department_id=0,
        application_id=0,
        request_id=0,
        invitation_id=0,
        task_id=0,
        session_id=twins.sessions[(owner, found.enterprise_id)],
        conversation_id=0,
        seq=0,
        canary=canary,
        password=found.password,
        role_id=0,
        app_id=0,
        grant_id=0,
        webhook_id=0,
        delivery_id=0,
        file_id=0,
        upload_id=0,
        hold_id=0,
    )
    calls, who = twins.runtime.calls, twins.principal(owner, tenant)
    group = await calls.call(CreateGroup(title=canary, members=[tenant.colleague_id]), principal=who)
    sent = await calls.call(
        Send(conversation_id=group.conversation_id, key=f"first-{owner}", body={"text": canary}),
        principal=who,
    )
    administrator = twins.principal("wangfang" if owner == "chenjing" else "zhoutao", tenant)
    made = CreateRole(name=canary, grants=[GrantInfo(permission="contacts:read")])
    role = await calls.call(made, principal=administrator)
    app = await calls.call(
        RegisterOwnApp(
            title=canary,
            auth_method="none",
            redirect_uris=["https://app.example/cb"],
            logout_uris=[],
            scopes=["openid"],
        ),
        principal=administrator,
    )
    await calls.call(InstallApp(app_id=app.app.app_id, scopes=["openid"]), principal=administrator)
    grant_id = twins.runtime.ids.next()
    await apps.insert_grant(
        twins.runtime.db,
        grant_id,
        enterprise_id=tenant.enterprise_id,
        person_id=tenant.owner_id,
        app_id=app.app.app_id,
        scopes=["openid"],
        now=twins.runtime.clock.now(),
    )
    hook = await calls.call(
        AddWebhook(url="https://hooks.example.com/x", events=["gateway.member_added"]),
        principal=administrator,
    )
    delivery_id = twins.runtime.ids.next()
    await twins.runtime.db.run(
        webhooks.insert_delivery,
        delivery_id,
        tenant.enterprise_id,
        hook.webhook_id,
        "gateway.member_added",
        "{}",
        twins.runtime.clock.now(),
    )
    changes = {
        "webhook_id": hook.webhook_id,
        "delivery_id": delivery_id,
        "conversation_id": group.conversation_id,
        "seq": sent.seq,
        "role_id": int(role.role),
        "app_id": app.app.app_id,
        "grant_id": grant_id,
        **await _waiting(twins, tenant, who, administrator),
        **await _filed(twins, tenant, who, administrator),
    }
    return Tenant(**(vars(tenant) | changes))


async def _waiting(
    twins: Twins, tenant: Tenant, owner: Principal, administrator: Principal
) -> dict[str, int]:
    """A department, an application of the owner's, somebody who wants to join, an open invitation."""
    runtime = twins.runtime
    first = f"91410105MA0QH{tenant.enterprise_id % 9000 + 1000}"
    application = await runtime.calls.call(
        ApplyForEnterprise(name=tenant.canary, credit_code=first + credit_code_check_digit(first)),
        principal=owner,
    )
    request_id = runtime.ids.next()
    await joining.ask(
        runtime.db,
        tenant.enterprise_id,
        request_id,
        person_id=runtime.ids.next(),
        message=tenant.canary,
        now=runtime.clock.now(),
    )
    invitation = await runtime.calls.call(CreateInvitation(), principal=administrator)
    department = await runtime.calls.call(CreateDepartment(name=tenant.canary), principal=administrator)
    task = await runtime.calls.call(RequestExport(), principal=owner)
    return {
        "task_id": task.task_id,
        "department_id": department.department_id,
        "application_id": application.application_id,
        "request_id": request_id,
        "invitation_id": invitation.invitation_id,
    }


async def _filed(twins: Twins, tenant: Tenant, owner: Principal, administrator: Principal) -> dict[str, int]:
    """A file of the owner's, one that is on its way, and a hold on the owner's files."""
    calls, object_id = twins.runtime.calls, twins.runtime.ids.next()
    name, digest = f"{tenant.canary}.csv", sha256(tenant.canary.encode()).digest()
    file = await calls.call(
        Keep(
            object_id=object_id, name=name, size_bytes=10, media_type=None, kind="csv", sha256=digest, sm3=None,
            wrapped_key=None, key=None,
        ),
        principal=owner,
    )  # fmt: skip
    upload = await calls.call(BeginUpload(name=name, size_bytes=10), principal=owner)
    hold = await calls.call(
        PlaceHold(kind="person", object_id=tenant.owner_id, reason=tenant.canary), principal=administrator
    )
    return {"file_id": file.file_id, "upload_id": upload.upload_id, "hold_id": hold.hold_id}


async def _call(twins: Twins, action: Action[Any, Any], who: Principal | None, fields: Any) -> Any:
    """Confirmed where that is needed: what is tested is what comes after it."""
    confirmed = None if who is None else await proven(twins.runtime, who, action.name, fields)
    answer = await twins.runtime.calls.perform(
        action.name, fields, principal=who, source=SOURCE, step_up=confirmed
    )
    return answer.value


async def _rows_of(twins: Twins, tenant: Tenant) -> dict[str, str]:
    """A digest of every row of the tenant, table by table, without the records about refusals themselves."""
    url = twins.runtime.settings.database_url
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value(), ssl=False)
    try:
        tables = await connection.fetch(
            "SELECT table_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND column_name = 'enterprise_id' ORDER BY table_name"
        )
        digests = {}
        for (table,) in tables:
            if table in ("core_audit", "core_idempotency", "core_stepups", "core_evidence"):
                continue  # the last two: `_call` confirms
            rows = await connection.fetch(
                f"SELECT t::text FROM {table} t WHERE enterprise_id = $1 ORDER BY 1", tenant.enterprise_id
            )
            digests[table] = sha256("\n".join(row[0] for row in rows).encode()).hexdigest()
        return digests
    finally:
        await connection.close()


def _mentions(value: Any, tenant: Tenant) -> bool:
    text = json.dumps(value, default=lambda b: b.decode(errors="replace") if isinstance(b, bytes) else str(b))
    marks = [
        tenant.canary,
        *(str(i) for i in (tenant.enterprise_id, tenant.owner_id, tenant.conversation_id)),
    ]
    return any(mark in text for mark in marks)


@pytest.mark.requirement("A03")
@pytest.mark.parametrize(
    "action",
    [
        action for action in ACTIONS if action.name != "gateway.identity.login"
    ],  # asks for the password of whoever it is
    ids=lambda action: action.name,
)
@pytest.mark.asyncio(loop_scope="module")
async def test_another_tenant_sees_and_changes_nothing(twins: Twins, action: Action[Any, Any]) -> None:
    """Somebody with every role there, with the ids of our objects: refused, or an answer without any of ours."""
    ours, theirs = twins.ours, twins.theirs
    who = twins.principal("zhoutao", theirs, *ROLES)
    before = await _rows_of(twins, ours)
    fields = EXAMPLES[action.name].fields(ours)
    named = any(name.endswith("_id") for name in fields)
    refused = REFUSED if named else (*REFUSED, Conflict)  # where nothing is named the state is their own
    try:
        value = await _call(twins, action, who, fields)
    except refused:
        pass
    else:
        assert not _mentions(value, ours), "the answer tells something of another tenant"
    assert await _rows_of(twins, ours) == before, "something of another tenant was changed"


@pytest.mark.requirement("A02")
@each_action
@pytest.mark.asyncio(loop_scope="module")
async def test_a_colleague_who_is_not_concerned_gets_nothing(twins: Twins, action: Action[Any, Any]) -> None:
    example = EXAMPLES[action.name]
    if example.outsider == "answered":
        return
    before = await _rows_of(twins, twins.ours)
    with pytest.raises(REFUSED):
        await _call(twins, action, twins.principal("huangting", twins.ours), example.fields(twins.ours))
    assert await _rows_of(twins, twins.ours) == before


@each_action
@pytest.mark.asyncio(loop_scope="module")
async def test_nobody_gets_nothing(twins: Twins, action: Action[Any, Any]) -> None:
    if action.needs is PUBLIC:
        return
    with pytest.raises((Unauthenticated, NotFound)):
        await _call(twins, action, None, EXAMPLES[action.name].fields(twins.ours))


@pytest.mark.requirement("A02")
@each_action
@pytest.mark.asyncio(loop_scope="module")
async def test_ids_that_are_not_there_are_refused_alike(twins: Twins, action: Action[Any, Any]) -> None:
    """A deleted or guessed id gets the same answer as somebody else's: nothing tells which ids exist."""
    fields = EXAMPLES[action.name].fields(twins.ours)
    ids = [name for name in fields if name.endswith("_id")]
    if not ids or action.needs is PUBLIC:
        return
    who = twins.principal("zhoutao", twins.theirs, *ROLES)
    answers = []
    for guess in (
        fields,
        fields | dict.fromkeys(ids, "4611686018427387904"),
        fields | dict.fromkeys(ids, "1"),
    ):
        with pytest.raises(BankhubError) as caught:
            await _call(twins, action, who, guess)
        answers.append((caught.value.code, caught.value.message))
    assert len(set(answers)) == 1, answers


@pytest.mark.requirement("A04")
@each_action
@pytest.mark.asyncio(loop_scope="module")
async def test_fields_that_nobody_declared_are_refused(twins: Twins, action: Action[Any, Any]) -> None:
    if action.needs is INTERNAL:
        return
    who = twins.principal("wangfang", twins.ours, *ROLES)
    for extra in ({"enterprise_id_": "1"}, {"roles_": ["boss"]}, {"": 1}):
        with pytest.raises(Invalid):
            if isinstance(action.needs, Permission) and action.needs.realm == "bank":
                parse(action, EXAMPLES[action.name].fields(twins.ours) | extra)  # nobody here works there
            await _call(twins, action, who, EXAMPLES[action.name].fields(twins.ours) | extra)


@each_action
@pytest.mark.asyncio(loop_scope="module")
async def test_the_example_is_acceptable(twins: Twins, action: Action[Any, Any]) -> None:
    """An example that is refused as malformed would prove nothing above."""
    fields = EXAMPLES[action.name].fields(twins.ours)
    action.command.model_validate(fields)
