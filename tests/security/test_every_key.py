"""Every write under an idempotency key: one effect and one answer, or a refusal that says so (requirement T02).

Nothing here names an action but those that have to have worked: the registry is walked as in `test_every_action`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from core.access import INTERNAL, PUBLIC, service_principal
from core.actions import Action, Principal
from core.calls import Answer
from core.dispatch import Call, permit
from core.errors import BankhubError, Invalid
from core.s3 import S3
from core.telemetry import new_trace
from core.values import WIRE
from house import compose
from tests.security.examples import EXAMPLES
from tests.security.test_every_action import SOURCE, Twins, twins_in
from tests.stepup import proven

SERVED = ("hub", "im", "gateway")  # uploads have keys of their own: tests/files
WRITES = [action for action in compose.actions() if action.audited and action.service in SERVED]
LAST = re.compile(
    r"\.(leave|logout|revoke\w*|end\w*|disable|suspend|uninstall|remove\w*|delete\w*|disband|recall)$"
)
KEPT = sorted(
    (action for action in WRITES if action.idempotent),
    key=lambda one: (one.name.endswith((".leave", ".logout")), LAST.search(one.name) is not None, one.name),
)
"""Those that take something away come last: the others have something to work on."""
TOGETHER = 3
UNCOUNTED = ("gateway_limits",)

WORKED: set[str] = set()
"""Actions whose first call here was carried out, so that a second one would have been seen."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def twins(
    database: str, object_store: S3, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Twins]:
    """As in `test_every_action`: two enterprises, with the sessions of their people."""
    async with twins_in(database, tmp_path_factory.mktemp("var"), object_store) as twins:
        yield twins


@dataclass(frozen=True)
class Got:
    """What a caller got: an answer, or a refusal; and whether it was said to be an old one."""

    said: Any
    replayed: bool


async def _callers(twins: Twins, action: Action[Any, Any]) -> list[Principal]:
    """Who may call it, of everybody there is; those of the enterprise of the examples first."""
    found = []
    for (login, enterprise_id), session_id in twins.sessions.items():
        tenant = next(p for p in twins.everybody if (p.login, p.enterprise_id) == (login, enterprise_id))
        who = Principal(
            tenant.person_id,
            enterprise_id,
            frozenset(tenant.roles),
            session_id,
            "example",
            1 << 50,
            2,
        )
        try:
            permit(action, who, await twins.runtime.access.grants(who), internal=False)
        except BankhubError:
            continue
        found.append(who)
    return sorted(
        found,
        key=lambda who: (who.enterprise_id != twins.ours.enterprise_id, who.person_id != twins.ours.owner_id),
    )


async def _under(
    twins: Twins, action: Action[Any, Any], who: Principal | None, fields: Any, key: str, step_up: int | None
) -> Got:
    calls = twins.runtime.calls
    try:
        if action.needs is INTERNAL:  # as one of our services calls, of another process
            call = Call(
                who,
                twins.runtime.clock.monotonic_s() + 30,
                new_trace(twins.runtime.rng),
                SOURCE,
                key,
                internal=True,
            )
            outcome = await calls.dispatcher.run(action.name, fields, call)
            answer = Answer(action.command.result.dump_python(outcome.result, context=WIRE), outcome.replayed)
        else:
            answer = await calls.perform(
                action.name, fields, principal=who, source=SOURCE, key=key, step_up=step_up
            )
    except BankhubError as refusal:
        if refusal.temporary:
            raise
        return Got((refusal.code, refusal.message, refusal.detail), refusal.replayed)
    return Got(answer.value, answer.replayed)


async def _everything(twins: Twins) -> dict[str, str]:
    """A digest of every row of every table that effects show in."""
    url = twins.runtime.settings.database_url
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value(), ssl=False)
    try:
        tables = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
        )
        counted = [
            table
            for (table,) in tables
            if table.startswith(("gateway_", "im_", "files_", "hub_")) and table not in UNCOUNTED
        ]
        assert len(counted) > 30
        digests = " UNION ALL ".join(
            f"SELECT '{table}', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t"
            for table in counted
        )
        return dict(await connection.fetch(digests))
    finally:
        await connection.close()


@pytest.mark.requirement("T02", "D04")
@pytest.mark.timeout(600)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_same_key_has_one_effect_one_answer_and_a_full_record(twins: Twins) -> None:
    """All of them one after the other: what takes something away comes last."""
    wrong: dict[str, str] = {}
    for action in KEPT:
        try:
            await _repeated(twins, action)
        except AssertionError as error:
            wrong[action.name] = str(error)[:400]
    assert wrong == {}
    _most_were_carried_out()
    await _records_are_full(twins)


async def _repeated(twins: Twins, action: Action[Any, Any]) -> None:
    fields = EXAMPLES[action.name].fields(twins.ours)
    callers = await _callers(twins, action) if action.needs is not INTERNAL else [_service(twins)]
    assert callers, "nobody here may call it: the test would show nothing"
    first: list[Got] = []
    step_up, who = None, callers[0]
    for who in callers:  # until somebody's is the object that it is about
        step_up = await proven(twins.runtime, who, action.name, fields)
        first = await asyncio.gather(
            *(_under(twins, action, who, fields, f"a-{action.name}"[:64], step_up) for _ in range(TOGETHER))
        )
        if _carried_out(first[0]):
            break
    assert len({repr(got.said) for got in first}) == 1, first
    assert sum(not got.replayed for got in first) == 1, "one of those at once has the effect"
    before = await _everything(twins)
    again = await _under(twins, action, who, fields, f"a-{action.name}"[:64], step_up)
    if again.said != first[0].said and action.needs is not INTERNAL:
        with pytest.raises(
            BankhubError
        ):  # it has ended what it is asked through: that is the answer from now on
            permit(action, who, await twins.runtime.access.grants(who), internal=False)
    else:
        assert again == Got(first[0].said, True)
    assert await _everything(twins) == before, "the repetition did something"
    if _carried_out(first[0]):
        WORKED.add(action.name)

    other = _another(action, fields)
    if other is not None and again.replayed:
        refused = await _under(twins, action, who, other, f"a-{action.name}"[:64], step_up)
        assert refused.said[0] == "invalid"
        assert "another request" in refused.said[1]
        assert not refused.replayed
        assert await _everything(twins) == before


def _carried_out(got: Got) -> bool:
    return not (isinstance(got.said, tuple) and len(got.said) == 3)


def _service(twins: Twins) -> Principal:
    """A service of ours in the enterprise of the examples."""
    return service_principal(twins.ours.enterprise_id, 1 << 50, "tests")


def _another(action: Action[Any, Any], fields: dict[str, Any]) -> dict[str, Any] | None:
    """An acceptable request that asks for something else, where one value can simply be changed."""
    for name, value in fields.items():
        tries = [str(int(value) + 1)] if isinstance(value, str) and value.isdecimal() else []
        tries += [value + "x"] if isinstance(value, str) else []
        for changed in tries:
            try:
                action.command.model_validate(fields | {name: changed})
            except ValueError:
                continue
            return fields | {name: changed}
    return None


def _most_were_carried_out() -> None:
    """What is refused from the start shows nothing about effects."""
    assert {
        "gateway.webhooks.add",
        "gateway.webhooks.renew_secret",
        "gateway.apps.register_own",
        "gateway.invitations.create",
        "gateway.departments.create",
        "im.conversations.create_group",
        "im.messages.send",
    } <= WORKED
    assert len(WORKED) >= len(KEPT) * 2 // 3, sorted({action.name for action in KEPT} - WORKED)


_MAKES = "makes something that was not there"
_ENDS = "ends or repeats what its object names, which had one state before"
UNCHANGED = {
    "gateway.access.create_role": _MAKES,
    "gateway.apps.register": _MAKES,
    "gateway.apps.register_own": _MAKES,
    "gateway.apps.sign_in": _MAKES,
    "gateway.departments.create": _MAKES,
    "gateway.enterprises.apply": _MAKES,
    "gateway.factors.enrol": _MAKES,
    "gateway.identity.add_member": _MAKES,
    "gateway.invitations.create": _MAKES,
    "gateway.oauth.open": _MAKES,
    "gateway.oauth.proceed": _MAKES,
    "gateway.privacy.request_export": _MAKES,
    "gateway.registration.send_phone_code": _MAKES,
    "gateway.staff.add": _MAKES,
    "gateway.stepup.begin": _MAKES,
    "gateway.webhooks.add": _MAKES,
    "im.conversations.create_group": _MAKES,
    "im.messages.send": _MAKES,
    "gateway.apps.revoke_grant": _ENDS,
    "gateway.factors.remove": _ENDS,
    "gateway.identity.logout": _ENDS,
    "gateway.identity.revoke_session": _ENDS,
    "gateway.identity.switch_enterprise": _ENDS,
    "gateway.oauth.leave": _ENDS,
    "gateway.people.end_sessions": _ENDS,
    "gateway.people.forget_factors": _ENDS,
    "gateway.webhooks.resend": _ENDS,
}
"""Actions whose record has no digest of what was there before, and why that is right."""


async def _records_are_full(twins: Twins) -> None:
    """Of every action that was carried out above: its object, and digests of what was asked, before and after."""
    connection = await asyncpg.connect(twins.runtime.settings.database_url.get_secret_value(), ssl=False)  # type: ignore[union-attr]
    try:
        rows = await connection.fetch(
            "SELECT action, MAX(object_id) AS about, MIN(encode(request_digest, 'hex')) AS request, "
            "MIN(encode(before_digest, 'hex')) AS before, MIN(encode(after_digest, 'hex')) AS after "
            "FROM core_audit WHERE outcome = 'ok' GROUP BY action"
        )
    finally:
        await connection.close()
    found = {row["action"]: row for row in rows if row["action"] in WORKED}
    assert {
        action.name for action in WRITES if action.name in WORKED and action.needs is not INTERNAL
    } <= set(found)
    assert {name for name, row in found.items() if row["request"] is None or row["after"] is None} == set()
    assert {name for name, row in found.items() if row["about"] is None} <= {"gateway.oauth.leave"}
    assert {name for name, row in found.items() if row["before"] is None} == set(UNCHANGED) & WORKED


@pytest.mark.requirement("T02")
@pytest.mark.parametrize(
    "action",
    [action for action in WRITES if not action.idempotent and action.needs is not INTERNAL],
    ids=lambda action: action.name,
)
@pytest.mark.asyncio(loop_scope="module")
async def test_where_a_key_is_not_looked_at_it_is_refused(twins: Twins, action: Action[Any, Any]) -> None:
    fields = EXAMPLES[action.name].fields(twins.ours)
    callers: list[Principal | None] = [None] if action.needs is PUBLIC else [*await _callers(twins, action)]
    before = await _everything(twins)
    got = await _under(twins, action, callers[0], fields, "k", None)
    assert got.said[0] == Invalid.code
    assert got.said[2] == {"code": "idempotency_not_supported"}
    assert await _everything(twins) == before


def test_every_write_with_a_caller_and_one_transaction_keeps_answers() -> None:
    """Those that do not are looks at somebody, and one that ends what it would have to be asked through."""
    assert {
        action.name
        for action in WRITES
        if action.transaction and action.needs is not PUBLIC and not action.idempotent
    } == {
        "gateway.people.find",
        "gateway.privacy.fetch_export",
        "gateway.privacy.reasons",
        "gateway.privacy.reveal_member",
        "gateway.privacy.unmask",
        "hub.sessions.close",
    }


@pytest.mark.requirement("D01")
@pytest.mark.asyncio(loop_scope="module")
async def test_stored_answers_tell_nothing(twins: Twins) -> None:
    """Secrets that are shown once are given again, and stand nowhere in clear."""
    who = (await _callers(twins, twins.runtime.registry.get("gateway.webhooks.add")))[0]
    add = twins.runtime.registry.get("gateway.webhooks.add")
    fields = EXAMPLES[add.name].fields(twins.ours)
    step_up = await proven(twins.runtime, who, add.name, fields)
    first = await _under(twins, add, who, fields, "sealed", step_up)
    again = await _under(twins, add, who, fields, "sealed", step_up)
    assert again == Got(first.said, True)
    assert first.said["secret"].startswith("whsec_")
    url = twins.runtime.settings.database_url
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value(), ssl=False)
    try:
        stored = await connection.fetch(
            "SELECT answer FROM core_idempotency WHERE action = 'gateway.webhooks.add'"
        )
        assert stored
        for (answer,) in stored:
            assert b"whsec_" not in answer
            assert b"hooks.example.com" not in answer
        await connection.execute(
            "UPDATE core_idempotency SET answer = $1 WHERE dedupe_key = 'sealed'", b"\x81\xa1x\x01"
        )
    finally:
        await connection.close()
    unreadable = await _under(twins, add, who, fields, "sealed", None)
    assert unreadable.said[0] == "conflict"
    assert not unreadable.replayed
