"""One transaction an action: what is in it, what ends it, what races do to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from pydantic import SecretStr

from core.actions import PERSON, PUBLIC, Command, Context, Registry, action
from core.codec import canonical
from core.db import Sql
from core.errors import Conflict, DeadlineExceeded, Forbidden, Internal, Invalid, Unavailable
from core.idempotency import KeyReused
from core.runtime import Runtime
from tests.core import toy
from tests.world import process, settings_for, somebody

WHO = somebody("employee")

_AUDIT = Sql(
    """
    SELECT action, outcome, person_id, object_id, device, trace_id FROM core_audit
    WHERE enterprise_id = $1 AND person_id = $2 ORDER BY audit_id
    """,
    None,
    "tests",
)
_KEYS = Sql(
    "SELECT COUNT(*) FROM core_idempotency WHERE enterprise_id = $1 AND dedupe_key = $2", None, "tests"
)

_DIGEST = Sql(
    "SELECT request_digest FROM core_idempotency WHERE enterprise_id = $1 AND dedupe_key = $2", None, "tests"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tables(database: str) -> str:
    connection = await asyncpg.connect(database, ssl=False)
    await connection.execute(toy.CREATE)
    await connection.close()
    return database


@pytest.fixture
async def here(tables: str, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with process(settings_for(tables, tmp_path), [toy.Toy()]) as runtime:
        yield runtime


async def _audited(here: Runtime, person_id: int) -> list[tuple[str, str]]:
    return [(row["action"], row["outcome"]) for row in await here.db.fetch(_AUDIT, 1, person_id)]


@pytest.mark.requirement("D04")
async def test_what_was_done_is_audited_in_the_same_transaction(here: Runtime) -> None:
    who = somebody(person_id=31)
    row = await here.calls.call(toy.Write(word="audited"), principal=who)
    (record,) = await here.db.fetch(_AUDIT, 1, 31)
    assert record["object_id"] == str(row.row_id)
    assert record["device"] == "phone"
    assert len(record["trace_id"]) == 32


@pytest.mark.requirement("D04")
async def test_refusals_are_audited_and_change_nothing(here: Runtime) -> None:
    who = somebody(person_id=32)
    with pytest.raises(Conflict):
        await here.calls.call(toy.Write(word="undone", then="conflict"), principal=who)
    with pytest.raises(Forbidden):
        await here.calls.call(toy.BossOnly(), principal=who)
    assert await _audited(here, 32) == [("toy.rows.write", "conflict"), ("toy.boss_only", "forbidden")]
    assert await toy.count(here.db, "undone") == 0


async def test_refused_access_cannot_fill_the_disk(here: Runtime) -> None:
    who = somebody(person_id=33)
    for _ in range(60):
        with pytest.raises(Forbidden):
            await here.calls.call(toy.BossOnly(), principal=who)
    assert len(await _audited(here, 33)) <= 22


async def test_nested_calls_commit_together(here: Runtime) -> None:
    who = somebody(person_id=34)
    await here.calls.call(toy.WriteTwice(words=["one", "two"]), principal=who)
    assert [name for name, _ in await _audited(here, 34)] == [
        "toy.rows.write",
        "toy.rows.write",
        "toy.rows.write_twice",
    ]


@pytest.mark.requirement("T09")
async def test_nested_calls_fail_together(here: Runtime) -> None:
    with pytest.raises(Conflict):
        await here.calls.call(toy.WriteTwice(words=["three", "four"], fail_second=True), principal=WHO)
    assert await toy.count(here.db, "three") == 0


@pytest.mark.requirement("T09")
async def test_a_swallowed_nested_failure_cannot_commit(here: Runtime) -> None:
    command = toy.WriteTwice(words=["five", "six"], fail_second=True, swallow=True)
    with pytest.raises(Internal):
        await here.calls.call(command, principal=WHO)
    assert await toy.count(here.db, "five") == 0
    assert await toy.count(here.db, "six") == 0


async def test_hooks_run_after_the_commit_only(here: Runtime) -> None:
    service = here.calls.dispatcher._services["toy"]
    assert isinstance(service, toy.Toy)
    await here.calls.call(toy.Hooks(), principal=WHO)
    assert service.heard == ["hook"]
    with pytest.raises(Conflict):
        await here.calls.call(toy.Hooks(fail=True), principal=WHO)
    assert service.heard == ["hook"]


async def test_a_transaction_of_its_own_stays(here: Runtime) -> None:
    with pytest.raises(Conflict):
        await here.calls.call(toy.Steps(word="stays"), principal=WHO)
    assert await toy.count(here.db, "stays") == 1


async def test_failures_are_not_stored_so_that_a_retry_may_succeed(here: Runtime) -> None:
    with pytest.raises(DeadlineExceeded):
        await here.calls.call(toy.Write(word="again", wait_s=5), principal=WHO, key="again", deadline_s=0.1)
    with pytest.raises(Unavailable):
        await here.calls.call(toy.Write(word="again2", then="unavailable"), principal=WHO, key="again2")
    with pytest.raises(Internal):
        await here.calls.call(toy.Write(word="again3", then="crash"), principal=WHO, key="again3")
    for key in ("again", "again2", "again3"):
        assert await here.db.fetchval(_KEYS, 1, key) == 0
        await here.calls.call(toy.Write(word=key), principal=WHO, key=key)


async def test_keys_belong_to_a_person_in_an_enterprise(here: Runtime) -> None:
    one = await here.calls.call(toy.Write(word="mine"), principal=somebody(person_id=35), key="k")
    two = await here.calls.call(toy.Write(word="yours"), principal=somebody(person_id=36), key="k")
    three = await here.calls.call(
        toy.Write(word="elsewhere"), principal=somebody(person_id=35, enterprise_id=2), key="k"
    )
    assert len({one.row_id, two.row_id, three.row_id}) == 3


async def test_another_password_is_another_request(here: Runtime) -> None:
    command = toy.Write(word="with a password", password=SecretStr("first"))
    await here.calls.call(command, principal=WHO, key="password")
    await here.calls.call(command, principal=WHO, key="password")
    with pytest.raises(KeyReused):
        await here.calls.call(
            toy.Write(word="with a password", password=SecretStr("second")), principal=WHO, key="password"
        )
    assert await toy.count(here.db, "with a password") == 1


async def test_requests_are_remembered_by_keyed_digests(here: Runtime) -> None:
    """Whoever has the table but no key cannot try out which phone number a request was about."""
    command = toy.Write(word="13800000001")
    await here.calls.call(command, principal=WHO, key="digest")
    (kept,) = await here.db.fetch(_DIGEST, 1, "digest")
    guesses = [command.model_dump(), command.model_dump(exclude_defaults=True)]
    assert bytes(kept[0]) not in [sha256(canonical(["toy.rows.write", guess])).digest() for guess in guesses]


@pytest.mark.requirement("T02")
async def test_the_same_key_in_two_processes_has_one_effect(tables: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        settings = settings_for(tables, tmp_path)
        processes = [await stack.enter_async_context(process(settings, [toy.Toy()])) for _ in range(2)]
        for n in range(10):
            command = toy.Write(word=f"raced-{n}", wait_s=0.01)
            answers = await asyncio.gather(
                *(p.calls.call(command, principal=WHO, key=f"raced-{n}") for p in processes for _ in range(3))
            )
            assert len({answer.row_id for answer in answers}) == 1
            assert await toy.count(processes[0].db, f"raced-{n}") == 1


@pytest.mark.requirement("T02")
async def test_the_same_key_raced_with_different_requests_conflicts(tables: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        settings = settings_for(tables, tmp_path)
        processes = [await stack.enter_async_context(process(settings, [toy.Toy()])) for _ in range(2)]
        results: list[Any] = await asyncio.gather(
            *(
                p.calls.call(toy.Write(word=f"differs-{n}", wait_s=0.05), principal=WHO, key="differs")
                for n, p in enumerate(processes)
            ),
            return_exceptions=True,
        )
        assert sorted(isinstance(r, Invalid) for r in results) == [False, True]


async def test_an_event_is_handled_in_one_transaction_with_its_claim(here: Runtime) -> None:
    from core.telemetry import new_trace

    claims: list[bool] = []

    async def claim(tx: Any) -> bool:
        claims.append(True)
        return len(claims) == 1

    deliver = here.calls.dispatcher.deliver
    event, trace = toy.Wrote(enterprise_id=1, word="olleh"), new_trace(here.rng)
    deadline = here.clock.monotonic_s() + 5
    assert await deliver(toy.wrote, event, trace=trace, deadline=deadline, claim=claim)
    assert not await deliver(toy.wrote, event, trace=trace, deadline=deadline, claim=claim)
    assert await toy.count(here.db, "hello") == 1


class Undeclared(Command[None], action="toy.undeclared"):
    pass


@pytest.mark.requirement("A01")
def test_a_declaration_without_permission_does_not_start() -> None:
    with pytest.raises(TypeError):
        action(Undeclared)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        action(Undeclared, needs=PERSON, idempotent=True, transaction=False)
    with pytest.raises(TypeError):
        action(Undeclared, needs=PUBLIC, idempotent=True)

    @action(Undeclared, needs=PERSON)
    async def undeclared(ctx: Context, command: Undeclared) -> None: ...

    with pytest.raises(TypeError):
        Registry().add("im", [undeclared])
    with pytest.raises(TypeError):
        Registry().add("toy", [undeclared, undeclared])
