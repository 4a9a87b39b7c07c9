"""What a handler is given: who asks, the transaction, time, ids, and the ways to make other things happen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from core.access import (
    SERVICE_GRANTS,
    Decision,
    Grant,
    Grants,
    Permission,
    Principal,
    Reach,
    Resource,
    Scope,
    scope_of,
    within,
)
from core.errors import Internal, Unauthenticated

if TYPE_CHECKING:
    from core.actions import Action, Command, Event
    from core.audit import Row
    from core.clock import Clock
    from core.crypto.columns import Columns
    from core.db import Transaction
    from core.device_key import DeviceKey
    from core.dispatch import Dispatcher
    from core.ids import Ids
    from core.rng import Rng
    from core.runtime import Runtime
    from core.service import Service
    from core.telemetry import Trace

R = TypeVar("R")
Hook = Callable[[], Awaitable[None] | None]


class Source(NamedTuple):
    """Where a call came from: the client address, the edge it came through, its user agent."""

    address: str = ""
    edge: str = "process"  # http | page (a person on a page of ours) | hub | internal | event | job | process
    agent: str = ""
    key: DeviceKey | None = (
        None  # which the caller proved to have, where the action is open to anybody (login)
    )


@dataclass(slots=True)
class Effects:
    """What one attempt at a transaction has asked for; thrown away when the attempt is rolled back."""

    events: list[Event] = field(default_factory=list)
    records: list[Row] = field(default_factory=list)  # for the audit: of this invocation and those it called
    hooks: list[Hook] = field(default_factory=list)
    calls: int = 0  # nested calls so far: numbers their idempotency keys
    doomed: bool = False  # a nested write failed half-way: nothing of this may be committed


class Context:
    """One invocation of an action or event handler. Not shared between tasks."""

    __slots__ = (
        "_invocation",
        "action",
        "deadline",
        "dispatcher",
        "effects",
        "grants",
        "inside",
        "key",
        "noted",
        "principal",
        "recorded",
        "runtime",
        "service",
        "source",
        "step_up",
        "trace",
        "transaction",
    )

    def __init__(
        self,
        runtime: Runtime,
        dispatcher: Dispatcher,
        *,
        service: Service | None,
        principal: Principal | None,
        deadline: float,
        trace: Trace,
        source: Source,
        invocation: str | None = None,
        key: str | None = None,
        action: Action[Any, Any] | None = None,
        step_up: int | None = None,
        inside: bool = True,
    ) -> None:
        self.runtime = runtime
        self.dispatcher = dispatcher
        self.service = service  # the Service instance the action belongs to: in-process state lives there
        self.principal = principal
        self.deadline = deadline  # by clock.monotonic_s()
        self.trace = trace
        self.source = source
        self._invocation = invocation
        self.key = key
        self.action = action  # None: an event is handled
        self.step_up = step_up  # the challenge that the caller has proved for this call
        self.inside = inside  # one of our services calls, or nobody does
        self.grants: Grants | None = None  # of the principal; None: nobody is logged in, or a service
        self.transaction: Transaction | None = None
        self.effects = Effects()
        self.noted: dict[str, object] = {}  # for the audit row
        self.recorded = False  # the handler has written that row itself, in a transaction of its own

    @property
    def invocation(self) -> str:
        """What this invocation is called; the same over retries of its transaction."""
        if self._invocation is None:
            self._invocation = self.runtime.rng.token()[:32]
        return self._invocation

    @property
    def tx(self) -> Transaction:
        """The transaction everything of this invocation happens in."""
        if self.transaction is None:
            raise Internal("this action was declared without a transaction; use ctx.transact")
        return self.transaction

    @property
    def clock(self) -> Clock:
        return self.runtime.clock

    @property
    def ids(self) -> Ids:
        return self.runtime.ids

    @property
    def rng(self) -> Rng:
        return self.runtime.rng

    @property
    def columns(self) -> Columns:
        """What seals and opens the values of encrypted columns."""
        return self.runtime.columns

    @property
    def caller(self) -> Principal:
        """The principal, where one must be there. Raises `Unauthenticated`."""
        if self.principal is None:
            raise Unauthenticated
        return self.principal

    @property
    def enterprise_id(self) -> int:
        """The caller's tenant: the only one this invocation may touch. Raises `Unauthenticated`."""
        return self.caller.enterprise_id

    @property
    def held(self) -> tuple[Grants, Grant]:
        """What the caller has, and how far the permission goes that this action needs."""
        if self.caller.is_service or self.grants is None:
            return SERVICE_GRANTS, Grant()
        needs = self.action.needs if self.action is not None else None
        grant = self.grants.of(needs) if isinstance(needs, Permission) else None
        return self.grants, grant or Grant(Reach.OWN)

    def allow(self, resource: Resource) -> None:
        """Whether this record is within what the caller holds. Raises `Forbidden`: say `NotFound` where that tells."""
        grants, grant = self.held
        decision: Decision = within(grant, grants, self.caller, resource)
        if decision.refusal is not None:
            raise decision.refusal

    @property
    def reach(self) -> Scope:
        """Which records a list of this action may show."""
        grants, grant = self.held
        return scope_of(grant, grants, self.caller.person_id)

    def remaining_s(self) -> float:
        """Time left before the caller stops waiting; negative when it has."""
        return self.deadline - self.clock.monotonic_s()

    async def call(
        self, command: Command[R], *, as_service: bool = False, enterprise_id: int | None = None
    ) -> R:
        """Call another action, wherever it lives, on behalf of the caller or (`as_service`) for ourselves,
        then in `enterprise_id` if that is not the caller's own (somebody joins it).

        Where the target is in this process it joins this transaction: both commit or neither. If it fails and may
        have written (its action is audited), this transaction can no longer be committed, even if the error is
        caught. Where the target is elsewhere it commits on its own, before us: its action should be idempotent
        (our retries carry the same key), or better an event. The remaining deadline and the trace go along.
        """
        return await self.dispatcher.nested(self, command, as_service=as_service, enterprise_id=enterprise_id)

    def emit(self, event: Event) -> None:
        """Write `event` to the outbox in this transaction (in one batch, at its end)."""
        self.effects.events.append(event)

    def after_commit(self, hook: Hook) -> None:
        """Run `hook` once when the outermost transaction has committed; never when it has not.

        For waking somebody up, not for effects that must happen: those are events. A failing hook is logged only.
        """
        self.effects.hooks.append(hook)

    def audit(self, **fields: object) -> None:
        """Add ids and digests to the audit record: `object`, `before`, `after`, … Never contents."""
        self.noted.update(fields)

    async def transact(self, step: Callable[..., Awaitable[R]], *args: Any) -> R:
        """Run `step(ctx, *args)` in a transaction of its own: for actions declared with ``transaction=False``.

        What `step` emits goes out with it, and it is committed when this returns, whatever happens after.
        `step` may run several times, so it changes nothing outside the database.
        """
        return await self.dispatcher.transact(self, step, *args)
