"""A small service with one of every kind of action: what the tests of dispatching and calling call."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from core import errors
from core.actions import (
    INTERNAL,
    PERSON,
    PUBLIC,
    Bytes,
    Command,
    Context,
    Event,
    Id,
    Permission,
    Rate,
    Secret,
    Value,
    action,
    actions_in,
    on,
)
from core.db import Queries, Sql
from core.service import Service

CREATE = "CREATE TABLE toy_rows (row_id BIGINT PRIMARY KEY, enterprise_id BIGINT NOT NULL, word VARCHAR(64) UNIQUE)"
_INSERT = Sql("INSERT INTO toy_rows (row_id, enterprise_id, word) VALUES ($1, $2, $3)", None, "tests")
_COUNT = Sql("SELECT COUNT(*) FROM toy_rows WHERE enterprise_id = $1 AND word = $2", None, "tests")


async def count(db: Queries, word: str, enterprise_id: int = 1) -> int:
    """How often `word` was written."""
    return int(await db.fetchval(_COUNT, enterprise_id, word))


class Row(Value):
    row_id: Id
    word: str
    raw: Bytes = b"\x00\xff"


class Write(Command[Row], action="toy.rows.write"):
    word: str
    then: str | None = None  # raise the error of this code after writing
    wait_s: float = 0.0
    password: Secret | None = None


class WriteTwice(Command[list[Row]], action="toy.rows.write_twice"):
    words: list[str]
    fail_second: bool = False
    swallow: bool = False


class Refuse(Command[None], action="toy.refuse"):
    code: str
    message: str | None = None
    retry_ms: int | None = None


class Sleep(Command[str], action="toy.sleep"):
    s: float


class Remaining(Command[float], action="toy.remaining"):
    """How many seconds the handler has left."""


class Echo(Command[Any], action="toy.echo"):
    value: Any = None
    secret: Secret | None = None


class WhoCalls(Command[dict[str, Any]], action="toy.who"):
    pass


class Public(Command[str], action="toy.public"):
    pass


class Limited(Command[str], action="toy.limited"):
    pass


class Inside(Command[str], action="toy.inside"):
    """Only for services."""


class BossOnly(Command[str], action="toy.boss_only"):
    pass


class Hooks(Command[None], action="toy.hooks"):
    fail: bool = False


class Steps(Command[int], action="toy.steps"):
    """Transactions of its own."""

    word: str


class Wrote(Event, event="toy.wrote"):
    word: str


@action(Write, needs=PERSON)
async def write(ctx: Context, command: Write) -> Row:
    """Write a word."""
    row_id = ctx.ids.next()
    await ctx.tx.execute(_INSERT, row_id, ctx.enterprise_id, command.word)
    ctx.emit(Wrote(enterprise_id=ctx.enterprise_id, word=command.word))
    ctx.audit(object=row_id)
    if command.wait_s:
        await asyncio.sleep(command.wait_s)
    if command.then == "crash":
        raise RuntimeError("the word was 13800000001")
    if command.then is not None:
        raise errors.from_code(command.then, detail={"word": "taken"})
    return Row(row_id=row_id, word=command.word)


@action(WriteTwice, needs=PERSON)
async def write_twice(ctx: Context, command: WriteTwice) -> list[Row]:
    """Write several words by calling another action."""
    rows = []
    for n, word in enumerate(command.words):
        then = "conflict" if n == 1 and command.fail_second else None
        try:
            rows.append(await ctx.call(Write(word=word, then=then)))
        except errors.Conflict:
            if not command.swallow:
                raise
    return rows


@action(Refuse, needs=PERSON, audited=False)
async def refuse(ctx: Context, command: Refuse) -> None:
    """Raise what was asked for."""
    raise errors.BY_CODE[command.code](command.message, retry_ms=command.retry_ms, detail={"n": 1})


@action(Sleep, needs=PERSON, audited=False)
async def sleep(ctx: Context, command: Sleep) -> str:
    """Take a while."""
    await asyncio.sleep(command.s)
    return "woke"


@action(Remaining, needs=PERSON, audited=False)
async def remaining(ctx: Context, command: Remaining) -> float:
    """Say how much time is left."""
    return ctx.remaining_s()


@action(Echo, needs=PERSON, audited=False)
async def echo(ctx: Context, command: Echo) -> Any:
    """Say it back."""
    return command.secret.get_secret_value() if command.secret else command.value


@action(WhoCalls, needs=PERSON, audited=False)
async def who(ctx: Context, command: WhoCalls) -> dict[str, Any]:
    """Say who calls, from where, in which trace."""
    principal = ctx.caller
    return {
        "person": str(principal.person_id),
        "enterprise": str(principal.enterprise_id),
        "roles": sorted(principal.roles),
        "session": str(principal.session_id),
        "device": principal.device,
        "address": ctx.source.address,
        "edge": ctx.source.edge,
        "trace": ctx.trace.trace_id,
    }


@action(Public, needs=PUBLIC, audited=False)
async def public(ctx: Context, command: Public) -> str:
    """Anybody may."""
    return "hello"


@action(Limited, needs=PERSON, audited=False, limit=Rate(burst=2, per_s=0.001))
async def limited(ctx: Context, command: Limited) -> str:
    """Twice."""
    return "ok"


@action(Inside, needs=INTERNAL, audited=False)
async def inside(ctx: Context, command: Inside) -> str:
    """For services."""
    return "inside"


@action(BossOnly, needs=Permission("toys:rule", "玩具", {"boss"}))
async def boss_only(ctx: Context, command: BossOnly) -> str:
    """For the boss, who calls what only services may."""
    return await ctx.call(Inside())


@action(Hooks, needs=PERSON, audited=False)
async def hooks(ctx: Context, command: Hooks) -> None:
    """Leave two hooks, the first of which fails."""
    assert isinstance(ctx.service, Toy)
    heard = ctx.service.heard

    def broken() -> None:
        raise ValueError("a hook that fails")

    async def good() -> None:
        heard.append("hook")

    ctx.after_commit(broken)
    ctx.after_commit(good)
    if command.fail:
        raise errors.Conflict


@action(Steps, needs=PERSON, transaction=False)
async def steps(ctx: Context, command: Steps) -> int:
    """Write in a transaction of its own, then fail: what was written stays."""

    async def step(ctx: Context, word: str) -> int:
        await ctx.tx.execute(_INSERT, ctx.ids.next(), ctx.enterprise_id, word)
        return 1

    await ctx.transact(step, command.word)
    raise errors.Conflict("after the step")


@on(Wrote)
async def wrote(ctx: Context, event: Wrote) -> None:
    """Remember what happened by writing the word backwards."""
    await ctx.tx.execute(_INSERT, ctx.ids.next(), event.enterprise_id, event.word[::-1])


class Toy(Service):
    """The toy service."""

    name = "toy"
    actions = actions_in(sys.modules[__name__])
    handlers = (wrote,)

    def __init__(self) -> None:
        self.heard: list[str] = []
