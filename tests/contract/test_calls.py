"""One contract for calls, whichever way they go: in process, or over HTTP to another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import pytest_asyncio

from core.actions import Principal
from core.calls import CONTENT_TYPE, PATH
from core.clock import SystemClock
from core.codec import pack
from core.context import Source
from core.db import Sql
from core.errors import (
    TREE,
    BankhubError,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    Invalid,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from core.keys import derive
from core.runtime import Runtime
from core.telemetry import Trace
from core.tokens import ServiceCall, ServiceTokens
from tests.core import toy
from tests.world import process, settings_for, somebody

WHO = somebody("employee")


class Pair:
    """A process that calls, and the one that has the toy service (the same one, in process)."""

    def __init__(self, caller: Runtime, owner: Runtime) -> None:
        self.caller = caller
        self.owner = owner
        self.service: toy.Toy


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tables(database: str) -> str:
    connection = await asyncpg.connect(database, ssl=False)
    await connection.execute(toy.CREATE)
    await connection.close()
    return database


@pytest.fixture(params=["in process", "http"])
async def pair(request: pytest.FixtureRequest, tables: str, tmp_path: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        service = toy.Toy()
        if request.param == "in process":
            both = await stack.enter_async_context(process(settings_for(tables, tmp_path), [service]))
            made = Pair(both, both)
        else:
            owner = await stack.enter_async_context(
                process(settings_for(tables, tmp_path, internal_port=0, call_body_bytes=100_000), [service])
            )
            urls = {"toy": f"http://127.0.0.1:{owner.calls.internal_port}"}
            settings = settings_for(tables, tmp_path, service_urls=urls, call_body_bytes=100_000)
            made = Pair(await stack.enter_async_context(process(settings, [])), owner)
        made.service = service
        yield made


async def test_a_result_comes_back_typed(pair: Pair) -> None:
    word = f"typed-{id(pair)}"
    row = await pair.caller.calls.call(toy.Write(word=word), principal=WHO)
    assert isinstance(row, toy.Row)
    assert row.word == word
    assert row.raw == b"\x00\xff"
    assert await toy.count(pair.owner.db, word) == 1


@pytest.mark.parametrize(
    "value", [None, True, -(1 << 62), 1.5, "文字", b"\x00\xff", [1, [2]], {"a": {"b": None}}, "x" * 10_000]
)
async def test_any_plain_value_survives(pair: Pair, value: Any) -> None:
    assert await pair.caller.calls.call(toy.Echo(value=value), principal=WHO) == value


async def test_times_survive(pair: Pair) -> None:
    moment = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
    assert await pair.caller.calls.call(toy.Echo(value=moment), principal=WHO) == moment


async def test_secrets_arrive(pair: Pair) -> None:
    assert (
        await pair.caller.calls.call(toy.Echo.model_validate({"secret": "s3cret"}), principal=WHO) == "s3cret"
    )


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.code)
async def test_every_error_comes_back_as_itself(pair: Pair, kind: type[BankhubError]) -> None:
    with pytest.raises(kind) as caught:
        await pair.caller.calls.call(toy.Refuse(code=kind.code, message="why", retry_ms=7), principal=WHO)
    assert type(caught.value) is kind
    assert caught.value.message == "why"
    assert caught.value.retry_ms == 7
    assert caught.value.detail == {"n": 1}


async def test_a_crash_says_nothing_about_itself(pair: Pair) -> None:
    with pytest.raises(BankhubError) as caught:
        await pair.caller.calls.call(toy.Write(word="crash", then="crash"), principal=WHO)
    assert caught.value.code == "internal"
    assert "13800000001" not in caught.value.message
    assert await toy.count(pair.owner.db, "crash") == 0


async def test_caller_trace_and_source_are_carried(pair: Pair) -> None:
    who = Principal(1 << 60, 2, frozenset({"boss", "employee"}), 3, "pad", 1 << 50)
    told = await pair.caller.calls.call(
        toy.WhoCalls(),
        principal=who,
        trace=Trace("a" * 32, "b" * 16),
        source=Source("203.0.113.9", "http", "x"),
    )
    assert told == {
        "person": str(1 << 60),
        "enterprise": "2",
        "roles": ["boss", "employee"],
        "session": "3",
        "device": "pad",
        "address": "203.0.113.9",
        "edge": "http",
        "trace": "a" * 32,
    }


async def test_the_deadline_holds(pair: Pair) -> None:
    began = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded):
        await pair.caller.calls.call(toy.Sleep(s=30), principal=WHO, deadline_s=0.2)
    assert asyncio.get_running_loop().time() - began < 2


async def test_the_handler_knows_what_is_left(pair: Pair) -> None:
    left = await pair.caller.calls.call(toy.Remaining(), principal=WHO, deadline_s=5)
    assert 3 < left <= 5


async def test_a_deadline_that_has_passed_is_not_tried(pair: Pair) -> None:
    with pytest.raises(DeadlineExceeded):
        await pair.caller.calls.call(toy.Write(word="late"), principal=WHO, deadline_s=-1)
    assert await toy.count(pair.owner.db, "late") == 0


async def test_the_same_key_has_one_effect_and_one_answer(pair: Pair) -> None:
    calls = pair.caller.calls
    key = f"same-{id(pair)}"
    command = toy.Write(word=key)
    answers = await asyncio.gather(*(calls.call(command, principal=WHO, key=key) for _ in range(8)))
    assert len({answer.row_id for answer in answers}) == 1
    assert await toy.count(pair.owner.db, key) == 1
    again = await calls.perform(
        "toy.rows.write", {"word": key}, principal=WHO, source=Source(edge="http"), key=key
    )
    assert again.replayed
    assert again.value["row_id"] == str(answers[0].row_id)


async def test_the_same_key_for_something_else_is_refused(pair: Pair) -> None:
    key = f"other-{id(pair)}"
    await pair.caller.calls.call(toy.Write(word=key), principal=WHO, key=key)
    with pytest.raises(Invalid, match="used for another request"):
        await pair.caller.calls.call(toy.Write(word=key + "!"), principal=WHO, key=key)
    with pytest.raises(Conflict):
        await pair.caller.calls.call(toy.Write(word=key + "r", then="conflict"), principal=WHO, key=key + "r")
    with pytest.raises(Invalid, match="used for another request"):
        await pair.caller.calls.call(toy.Write(word=key + "!"), principal=WHO, key=key + "r")
    assert await toy.count(pair.owner.db, key + "!") == 0


async def test_a_stored_refusal_is_marked(pair: Pair) -> None:
    key = f"refused-{id(pair)}"
    seen = []
    for _ in range(2):
        with pytest.raises(Conflict) as caught:
            await pair.caller.calls.call(toy.Write(word=key, then="conflict"), principal=WHO, key=key)
        seen.append((caught.value.replayed, caught.value.detail))
    assert seen == [(False, {"word": "taken"}), (True, {"word": "taken"})]


async def test_many_calls_at_once(pair: Pair) -> None:
    values = await asyncio.gather(
        *(pair.caller.calls.call(toy.Echo(value=n), principal=WHO) for n in range(200))
    )
    assert values == list(range(200))


async def test_internal_actions_are_for_services_only(pair: Pair) -> None:
    assert await pair.caller.calls.call(toy.Inside(), principal=WHO) == "inside"
    with pytest.raises(NotFound):
        await pair.caller.calls.perform("toy.inside", {}, principal=WHO, source=Source(edge="http"))


async def test_permission_is_asked_where_the_action_lives(pair: Pair) -> None:
    with pytest.raises(Forbidden):
        await pair.caller.calls.call(toy.BossOnly(), principal=WHO)
    with pytest.raises(Unauthenticated):
        await pair.caller.calls.call(toy.BossOnly())
    assert await pair.caller.calls.call(toy.BossOnly(), principal=somebody("boss")) == "inside"


@pytest.mark.parametrize(
    "fields", [{"word": 5}, {"wurd": "canary"}, {"word": "x", "m": "canary"}, [], "canary", None]
)
async def test_fields_are_checked_and_never_quoted(pair: Pair, fields: Any) -> None:
    with pytest.raises(Invalid) as caught:
        await pair.caller.calls.perform("toy.rows.write", fields, principal=WHO, source=Source())
    assert caught.value.detail is not None
    assert "canary" not in str(caught.value.detail)


async def test_an_action_nobody_has(pair: Pair) -> None:
    for name in ("toy.nothing", "nobody.nothing", "", ".", "toy"):
        with pytest.raises(NotFound):
            await pair.caller.calls.perform(name, {}, principal=WHO, source=Source())


async def test_rate_limits_are_per_person(pair: Pair) -> None:
    calls, one, two = pair.caller.calls, somebody(person_id=501), somebody(person_id=502)
    for _ in range(2):
        await calls.call(toy.Limited(), principal=one)
    with pytest.raises(BankhubError) as caught:
        await calls.call(toy.Limited(), principal=one)
    assert caught.value.code == "too_many_requests"
    assert (caught.value.retry_ms or 0) > 1000
    assert await calls.call(toy.Limited(), principal=two) == "ok"


# --- HTTP only ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def owner(tables: str, tmp_path: Path) -> AsyncIterator[Runtime]:
    settings = settings_for(tables, tmp_path, internal_port=0, call_body_bytes=50_000)
    async with process(settings, [toy.Toy()]) as runtime:
        yield runtime


async def _post(owner: Runtime, token: str | None, body: bytes, action: str = "toy.echo") -> int:
    headers = {"Content-Type": CONTENT_TYPE} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    url = f"http://127.0.0.1:{owner.calls.internal_port}{PATH}{action}"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        await answer.read()
        return answer.status


BODY = pack({"value": 1})


def _call(**changes: Any) -> ServiceCall:
    given: dict[str, Any] = {
        "caller": "x",
        "principal": WHO,
        "deadline_s": 5.0,
        "traceparent": "",
        "key": None,
    }
    return ServiceCall(**(given | changes))


async def test_a_good_service_token_is_taken(owner: Runtime) -> None:
    token = ServiceTokens(owner.settings, owner.clock).sign("toy", "toy.echo", BODY, _call())
    assert await _post(owner, token, BODY) == 200


async def test_bad_service_tokens_are_refused(owner: Runtime, tmp_path: Path) -> None:
    tokens = ServiceTokens(owner.settings, owner.clock)
    good = tokens.sign("toy", "toy.echo", BODY, _call())
    head, claims, signature = good.split(".")
    other = settings_for(
        "postgresql://x", tmp_path, cluster_secret="a secret of another installation, as long"
    )
    clock = SystemClock()

    class Late(SystemClock):
        def now_ms(self) -> int:
            return clock.now_ms() - 61_000

    class Early(SystemClock):
        def now_ms(self) -> int:
            return clock.now_ms() + 30_000

    bad = {
        "none": None,
        "empty": "",
        "garbage": "x.y.z",
        "cut": good[:-4],
        "unsigned": f"eyJhbGciOiJub25lIn0.{claims}.",
        "another signature": f"{head}.{claims}.{signature[::-1]}",
        "another secret": ServiceTokens(other, clock).sign("toy", "toy.echo", BODY, _call()),
        "another audience": tokens.sign("im", "toy.echo", BODY, _call()),
        "another action": tokens.sign("toy", "toy.rows.write", BODY, _call()),
        "another body": tokens.sign("toy", "toy.echo", BODY + b"x", _call()),
        "expired": ServiceTokens(owner.settings, Late()).sign("toy", "toy.echo", BODY, _call()),
        "from the future": ServiceTokens(owner.settings, Early()).sign("toy", "toy.echo", BODY, _call()),
        "too long": good + "x" * 8000,
    }
    for why, token in bad.items():
        assert await _post(owner, token, BODY) in (401, 400), why
    assert derive(b"a", "x") != derive(b"a", "y")


async def test_too_large_and_malformed_bodies_are_refused(owner: Runtime) -> None:
    tokens = ServiceTokens(owner.settings, owner.clock)
    for body in (b"x" * 60_000, b"\xc1", b"\x81\xa1a", BODY + b"\x00", b"\x91" * 10_000):
        assert await _post(owner, tokens.sign("toy", "toy.echo", body, _call()), body) == 422


async def test_a_call_that_is_too_large_is_not_sent(tables: str, tmp_path: Path) -> None:
    settings = settings_for(
        tables, tmp_path, service_urls={"toy": "http://127.0.0.1:9"}, call_body_bytes=2000
    )
    async with process(settings, []) as caller:
        with pytest.raises(Invalid):
            await caller.calls.call(toy.Echo(value="x" * 3000), principal=WHO)


async def test_nobody_there_is_unavailable(tables: str, tmp_path: Path) -> None:
    settings = settings_for(tables, tmp_path, service_urls={"toy": "http://127.0.0.1:9"})
    async with process(settings, []) as caller:
        with pytest.raises(Unavailable):
            await caller.calls.call(toy.Echo(), principal=WHO)


@pytest.mark.requirement("D04")
async def test_who_is_none_of_us_is_recorded(owner: Runtime) -> None:
    before = owner.ids.next()
    assert await _post(owner, None, b"") == 401
    assert await _post(owner, "not a token", b"") == 401
    await owner.refusals.flush(counts=True)
    rows = Sql(
        "SELECT action, outcome, address, edge, object_id FROM core_audit WHERE audit_id > $1", None, "tests"
    )
    found = [tuple(row) for row in await owner.db.fetch(rows, before)]
    place = ("core.calls.receive", "unauthenticated", "127.0.0.1", "internal")
    assert sorted(found, key=str) == [(*place, "+1"), (*place, None)]
