"""Runs actions and event handlers: the one way from every edge to every handler.

For each invocation: rate limit, permission, validation, deadline, then one transaction with the handler's writes, the
nested calls that joined it, the outbox rows, the audit row and the idempotency row; then the after-commit hooks.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog
from pydantic import ValidationError

from core import audit, idempotency, outbox
from core.access import INTERNAL, PUBLIC, SERVICE_GRANTS, Grants, Principal, decide, service_principal
from core.actions import Action, Command, Context, Event, EventHandler, Rate
from core.addresses import source_of
from core.context import Effects, Source
from core.db import UniqueViolation
from core.deadline import deadline
from core.errors import (
    BankhubError,
    Conflict,
    Forbidden,
    Internal,
    Invalid,
    StepUpRequired,
    TooManyRequests,
    Unavailable,
)
from core.stepup import guard as stepup
from core.telemetry import Trace, counter, histogram, span
from core.values import WIRE

if TYPE_CHECKING:
    from core.db import Transaction
    from core.runtime import Runtime
    from core.service import Service

log = structlog.get_logger(__name__)

R = TypeVar("R")
E = TypeVar("E", bound=Event)
C = TypeVar("C", bound=Command[Any])

_CALLS = counter("bankhub_actions_total", "Invocations of actions by outcome", ("action", "edge", "code"))
_SECONDS = histogram("bankhub_action_seconds", "From admission to answer, commit included", ("action",))
_outcomes, _seconds = cache(_CALLS.labels), cache(_SECONDS.labels)  # to look one up costs more than to count
_REFUSALS = Rate(
    burst=20, per_s=0.5
)  # audit rows of refused access: enough to see it, too few to fill a disk


class Call(NamedTuple):
    """Everything about a call but the command."""

    principal: Principal | None
    deadline: float  # by clock.monotonic_s()
    trace: Trace
    source: Source
    key: str | None = None
    internal: bool = False  # it comes from one of our services
    step_up: int | None = None  # the challenge that was proved for it


class Outcome(NamedTuple):
    """An answer, and whether it is one that was given before under the same key."""

    result: Any
    replayed: bool = False
    refusal: BankhubError | None = None  # the answer given before was this one


class _Raced(Exception):
    """Another transaction took the idempotency key first: look at what it stored."""


class Dispatcher:
    """The services of this process behind one door."""

    def __init__(self, runtime: Runtime, services: Mapping[str, Service]) -> None:
        self.runtime = runtime
        self._services = services
        self._secret = idempotency.secret_of(runtime.settings)
        self._running: dict[tuple[int, int, str, str], asyncio.Future[None]] = {}

    # --- from outside ---------------------------------------------------------------------------------------------

    async def run(self, name: str, given: Command[Any] | Mapping[str, Any], call: Call) -> Outcome:
        """Run the action `name` with a command or its plain fields. Raises errors of `core.errors` only."""
        action = self.runtime.registry.get(name)
        clock, began_s, code = self.runtime.clock, self.runtime.clock.monotonic_s(), "internal"
        with self._span(name, call.trace, call.principal, call.source.edge) as trace:
            try:
                outcome = await self._within_deadline(action, given, call, trace)
                code = "ok"
                return outcome
            except BankhubError as error:
                code = error.code
                if isinstance(error, Internal | Unavailable):
                    log.exception("action.failed")
                raise
            except Exception as error:
                log.exception("action.failed")
                raise Internal from error
            finally:
                _outcomes(name, call.source.edge, code).inc()
                _seconds(name).observe(clock.monotonic_s() - began_s)

    async def _within_deadline(
        self, action: Action[Any, Any], given: Command[Any] | Mapping[str, Any], call: Call, trace: Trace
    ) -> Outcome:
        ctx = self._context(action, call, trace)
        try:
            with deadline(ctx.remaining_s()):
                await self._admit(action, call, ctx, given)
                command = given if isinstance(given, Command) else parse(action, given)
                return await self._execute(action, command, ctx)
        except TimeoutError as error:
            raise Unavailable from error

    # --- admission ------------------------------------------------------------------------------------------------

    async def _admit(self, action: Action[Any, Any], call: Call, ctx: Context, given: object) -> None:
        who = call.principal
        caller: object = (who.person_id, who.device) if who and who.is_service else who and who.person_id
        caller = caller or call.source.address
        if action.limit is not None:
            rate = action.limit.scaled(self.runtime.settings.rate_actions_scale)
            try:
                await self.runtime.limits.take(action.name, caller, rate)
            except TooManyRequests as refusal:
                self._note(ctx, action, refusal.code)
                raise
        try:
            ctx.grants = await self._grants(action, who)
            permit(action, who, ctx.grants, internal=call.internal)
        except BankhubError as refusal:
            if refusal.temporary:
                raise
            if who is None:
                self._note(ctx, action, refusal.code)
            elif await self._worth_recording(ctx, action, refusal.code):
                await self.runtime.db.run(
                    audit.insert, [audit.row_of(ctx, action, given, None, refusal.code)]
                )
            raise

    async def _worth_recording(self, ctx: Context, action: Action[Any, Any], outcome: str) -> bool:
        """Whether this refusal has a row of its own: not if this caller has had many lately; then it is counted."""
        who = ctx.principal
        caller: object = who and ((who.person_id, who.device) if who.is_service else who.person_id)
        caller = caller or source_of(ctx.source.address)
        try:
            await self.runtime.limits.take("refusals", caller, _REFUSALS)
        except TooManyRequests:
            self._note(ctx, action, outcome)
            return False
        return True

    def _note(self, ctx: Context, action: Action[Any, Any], outcome: str) -> None:
        """One row for many, by and by."""
        self.runtime.refusals.note(
            action.name, outcome, ctx.source, who=ctx.principal, trace_id=ctx.trace.trace_id
        )

    async def _grants(self, action: Action[Any, Any], who: Principal | None) -> Grants | None:
        """What the caller has, as far as it matters here; seconds old at most."""
        if who is None or action.needs is PUBLIC:
            return None
        return SERVICE_GRANTS if who.is_service else await self.runtime.access.grants(who)

    async def _permit_now(self, tx: Transaction, action: Action[Any, Any] | None, ctx: Context) -> None:
        """Ask again in the transaction of a write: what was taken away a moment ago is gone."""
        who = ctx.principal
        if action is None or not action.audited or action.needs in (PUBLIC, INTERNAL):
            return
        if who is not None and not who.is_service:
            ctx.grants = await self.runtime.access.grants_now(tx, who)
            permit(action, who, ctx.grants, internal=True)

    # --- execution ------------------------------------------------------------------------------------------------

    async def _execute(self, action: Action[Any, Any], command: Command[Any], ctx: Context) -> Outcome:
        request = command.model_dump() if action.audited else None
        slot = self._slot(action, command, ctx)
        if slot is None:
            return await self._once(action, command, request, None, ctx)
        while (running := self._running.get(slot.place)) is not None:
            await asyncio.shield(running)  # the same key in this process: wait without holding a connection
        done = self._running[slot.place] = asyncio.get_running_loop().create_future()
        try:
            for _ in range(3):
                try:
                    return await self._once(action, command, request, slot, ctx)
                except _Raced:
                    continue
            raise Conflict("a request with this idempotency key is in progress", retry_ms=200)
        finally:
            del self._running[slot.place]
            done.set_result(None)

    def _slot(self, action: Action[Any, Any], command: Command[Any], ctx: Context) -> idempotency.Slot | None:
        if ctx.key is None or not (action.idempotent or action.audited):
            return None  # to read twice does nothing twice
        if not action.idempotent or ctx.principal is None:
            if ctx.inside:
                return None  # a service of ours numbers all of its calls
            raise idempotency.NotSupported
        if not 1 <= len(ctx.key) <= idempotency.KEY_CHARACTERS:
            raise Invalid(f"an idempotency key has 1 to {idempotency.KEY_CHARACTERS} characters")
        who = ctx.principal
        return idempotency.Slot(
            who.enterprise_id,
            who.person_id,
            action.name,
            ctx.key,
            idempotency.request_digest(self._secret, action.name, command),
        )

    async def _once(
        self,
        action: Action[Any, Any],
        command: Command[Any],
        request: object,
        slot: idempotency.Slot | None,
        ctx: Context,
    ) -> Outcome:
        try:
            if not action.transaction:
                return Outcome(await self._bare(action, command, request, ctx))
            run = self.runtime.db.run if action.audited or slot is not None else self.runtime.db.read
            outcome = await run(self._attempt, action, command, request, slot, ctx)
        except (idempotency.KeyReused, idempotency.Unreadable):
            raise  # nothing was tried, so there is nothing to remember
        except UniqueViolation as error:
            raise Conflict("another request did the same at this moment") from error
        except BankhubError as refusal:
            await self._remember_refusal(action, command, request, slot, ctx, refusal)
            raise
        await self._after_commit(ctx)
        if outcome.refusal is not None:
            outcome.refusal.replayed = True
            raise outcome.refusal
        return outcome

    async def _attempt(
        self,
        tx: Transaction,
        action: Action[Any, Any],
        command: Command[Any],
        request: object,
        slot: idempotency.Slot | None,
        ctx: Context,
    ) -> Outcome:
        begin(ctx, tx)
        ctx.noted.clear()
        if slot is not None:
            stored = await idempotency.read(tx, ctx.columns, slot)
            if stored is None:
                try:
                    await idempotency.claim(tx, slot, self.runtime.clock.now())
                except UniqueViolation as error:
                    raise _Raced from error
            elif stored.refusal is not None:
                return Outcome(None, replayed=True, refusal=stored.refusal)
            else:
                return Outcome(command.result.validate_python(stored.value), replayed=True)
        await self._permit_now(tx, action, ctx)
        if stepup.demanded(action, command, ctx):
            await stepup.spend(tx, action, command, ctx)
        result = await action.handler(ctx, command)
        if action.audited:
            await self._record_answer(ctx, action, command, request, result)
        elif "outcome" in ctx.noted:
            self._note(ctx, action, str(ctx.noted["outcome"]))
        await self._seal(tx, ctx)
        if slot is not None:
            value = command.result.dump_python(
                result, context=WIRE
            )  # as it leaves: secrets that are shown once, too
            await idempotency.finish(tx, ctx.columns, slot, value)
        return Outcome(result)

    async def _record_answer(
        self, ctx: Context, action: Action[Any, Any], command: Command[Any], request: object, result: object
    ) -> None:
        """The row of an answer; one that refuses (`ctx.audit(outcome=…)`) is a refusal like any other."""
        outcome = str(ctx.noted.get("outcome", "ok"))
        if outcome == "ok" or ctx.principal is not None or await self._worth_recording(ctx, action, outcome):
            ctx.effects.records.append(audit.row_of(ctx, action, command, request, outcome, result=result))

    async def _bare(
        self, action: Action[Any, Any], command: Command[Any], request: object, ctx: Context
    ) -> Any:
        """A handler that opens its own transactions; its audit row comes after, in one more, unless it was in one of
        them (`Context.recorded`).

        A step-up is spent before, in one of its own: whatever the handler then does, it does once.
        """
        if stepup.demanded(action, command, ctx):
            await self.runtime.db.run(stepup.spend, action, command, ctx)
        result = await action.handler(ctx, command)
        if action.audited and not ctx.recorded:
            await self.runtime.db.run(
                audit.insert, [audit.row_of(ctx, action, command, request, "ok", result=result)]
            )
        return result

    async def _remember_refusal(
        self,
        action: Action[Any, Any],
        command: Command[Any],
        request: object,
        slot: idempotency.Slot | None,
        ctx: Context,
        refusal: BankhubError,
    ) -> None:
        """Store what would be refused again, and audit it. The caller gets the refusal even if this fails."""
        storable = (
            slot is not None and idempotency.storable(refusal) and not isinstance(refusal, StepUpRequired)
        )  # the same request goes through once it has been confirmed
        if isinstance(refusal, TooManyRequests):
            self._note(ctx, action, refusal.code)
            return
        recorded = action.audited and ctx.principal is not None
        if not recorded and (action.audited or isinstance(refusal, Forbidden)):
            recorded = await self._worth_recording(ctx, action, refusal.code)
        if not (storable or recorded):
            return
        row = audit.row_of(ctx, action, command, request, refusal.code) if recorded else None

        async def store(tx: Transaction) -> None:
            if storable and slot is not None:
                await idempotency.refuse(tx, ctx.columns, slot, refusal, self.runtime.clock.now())
            if row is not None:
                await audit.insert(tx, [row])

        try:
            await self.runtime.db.run(store)
        except UniqueViolation as error:
            raise _Raced from error
        except Exception:
            log.exception("action.refusal_not_recorded")

    async def transact(self, ctx: Context, step: Callable[..., Awaitable[R]], *args: Any) -> R:
        """`Context.transact`: a transaction of its own inside an action that has none."""
        if ctx.transaction is not None:
            raise Internal("there is a transaction already")

        async def attempt(tx: Transaction) -> R:
            begin(ctx, tx)
            await self._permit_now(tx, ctx.action, ctx)
            result = await step(ctx, *args)
            await self._seal(tx, ctx)
            return result

        try:
            result = await self.runtime.db.run(attempt)
        finally:
            ctx.transaction = None
        await self._after_commit(ctx)
        return result

    async def _seal(self, tx: Transaction, ctx: Context) -> None:
        """The last statements before a commit."""
        if ctx.effects.doomed:
            raise Internal("a nested call failed half-way and its error was swallowed")
        if ctx.effects.events:
            await outbox.append(tx, ctx.effects.events, ids=ctx.ids, clock=ctx.clock, trace=ctx.trace)
        if ctx.effects.records:
            await audit.insert(tx, ctx.effects.records)

    async def _after_commit(self, ctx: Context) -> None:
        hooks, ctx.effects = ctx.effects.hooks, Effects()
        ctx.transaction = None
        for hook in hooks:
            try:
                waiting = hook()
                if inspect.isawaitable(waiting):
                    await waiting
            except Exception:
                log.exception("action.hook_failed")

    # --- from handlers --------------------------------------------------------------------------------------------

    async def nested(
        self, ctx: Context, command: Command[R], *, as_service: bool, enterprise_id: int | None = None
    ) -> R:
        """`Context.call`."""
        name = command.action_name
        service = name.partition(".")[0]
        who = ctx.principal
        if as_service:
            expires_ms = ctx.clock.now_ms() + 60_000
            caller = ctx.service.name if ctx.service is not None else ctx.runtime.node
            home = who.enterprise_id if who else 0
            who = service_principal(home if enterprise_id is None else enterprise_id, expires_ms, caller)
        ctx.effects.calls += 1
        key = f"{ctx.invocation}.{ctx.effects.calls}"
        call = Call(who, ctx.deadline, ctx.trace, ctx.source, key=key, internal=True)
        if service not in self._services or ctx.transaction is None:
            outcome = await ctx.runtime.calls.send(
                command, call, caller=ctx.service.name if ctx.service else ""
            )
            result: R = outcome.result
            return result
        action = ctx.runtime.registry.get(name)
        grants = ctx.grants if who is ctx.principal else SERVICE_GRANTS
        permit(action, who, grants, internal=True)
        if not action.transaction:
            raise Internal(f"{name} opens its own transactions and cannot join one")
        with self._span(name, ctx.trace, who, "nested") as trace:
            inner = self._context(action, call, trace, ctx.invocation)
            inner.transaction, inner.effects, inner.grants = ctx.transaction, ctx.effects, grants
            try:
                result = await action.handler(inner, command)
                if action.audited:
                    ctx.effects.records.append(
                        audit.row_of(inner, action, command, command.model_dump(), "ok", result=result)
                    )
            except BaseException:
                if action.audited:
                    ctx.effects.doomed = True
                raise
            return result

    async def deliver(
        self,
        handler: EventHandler[E],
        event: E,
        *,
        trace: Trace,
        deadline: float,
        claim: Callable[[Transaction], Awaitable[bool]],
    ) -> bool:
        """Run an event handler in one transaction with `claim`, which writes the inbox row.

        Returns False, with nothing done, when `claim` says that the event was handled before. Errors pass through:
        the relay retries.
        """
        service = handler.name.partition(".")[0]
        with span(event.event_name, trace, self.runtime.rng, edge="event") as inside:
            ctx = Context(
                self.runtime,
                self,
                service=self._services.get(service),
                principal=service_principal(
                    event.enterprise_id, self.runtime.clock.now_ms() + 60_000, service
                ),
                deadline=deadline,
                trace=inside,
                source=Source(edge="event"),
            )

            async def attempt(tx: Transaction) -> bool:
                begin(ctx, tx)
                if not await claim(tx):
                    return False
                await handler.handler(ctx, event)
                await self._seal(tx, ctx)
                return True

            async with asyncio.timeout(ctx.remaining_s()):
                done = await self.runtime.db.run(attempt)
            await self._after_commit(ctx)
            return done

    def _span(self, name: str, parent: Trace, who: Principal | None, edge: str) -> span:
        session_id = who.session_id if who is not None else 0
        return span(name, parent, self.runtime.rng, edge=edge, action=name, session_id=session_id)

    def _context(
        self, action: Action[Any, Any], call: Call, trace: Trace, invocation: str | None = None
    ) -> Context:
        return Context(
            self.runtime,
            self,
            service=self._services.get(action.service),
            principal=call.principal,
            deadline=call.deadline,
            trace=trace,
            source=call.source,
            invocation=invocation,
            key=call.key,
            action=action,
            step_up=call.step_up,
            inside=call.internal,
        )


def begin(ctx: Context, tx: Transaction) -> None:
    """Start an attempt: nothing of an earlier one that was rolled back is left."""
    ctx.transaction, ctx.effects = tx, Effects()


def permit(action: Action[Any, Any], who: Principal | None, grants: Grants | None, *, internal: bool) -> None:
    """Whether this caller may call this action, by its declaration.

    Raises `Unauthenticated` or `Forbidden`, and `NotFound` for internal actions: they do not exist from outside.
    """
    refusal = decide(action.needs, who, grants, internal=internal).refusal
    if refusal is not None:
        raise refusal


def parse(action: Action[Any, Any], fields: object) -> Command[Any]:
    """The command of these plain fields. Raises `Invalid` naming the fields, never quoting what was in them."""
    return command_of(action.command, fields)


def command_of(command: type[C], fields: object) -> C:
    """The same, for who knows which command."""
    try:
        return command.model_validate(fields)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        named = [
            {"field": ".".join(map(str, e["loc"]))[:100], "type": e["type"], "message": e["msg"]}
            for e in wrong[:20]
        ]
        raise Invalid(detail={"fields": named}) from None
