"""An action is declared once: command, result, who may call it, and how it behaves.

From the declaration come the HTTP route, the hub's CALL, OpenAPI, the permission check, the audit and idempotency
records and the tests that call every action as every role and as another tenant. `core.dispatch` runs them.

    class Rename(Command[Card], action="oa.cards.rename"):
        card_id: Id
        name: Text

    @action(Rename, needs=CARDS_MANAGE)
    async def rename(ctx: Context, command: Rename) -> Card: ...

    @on(MemberRemoved)
    async def forget(ctx: Context, event: MemberRemoved) -> None: ...
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from core.access import (
    BANK,
    INTERNAL,
    MEMBER,
    PERSON,
    PUBLIC,
    REGISTERED,
    ROLES,
    STAFF,
    Access,
    Needs,
    Permission,
    Principal,
    Resource,
    service_principal,
)
from core.context import Context
from core.errors import NotFound
from core.limits import Rate
from core.values import ID_MAX, WIRE, Bytes, Id, Secret, Value

__all__ = [
    "BANK",
    "ID_MAX",
    "INTERNAL",
    "MEMBER",
    "PERSON",
    "PUBLIC",
    "REGISTERED",
    "ROLES",
    "STAFF",
    "WIRE",
    "Access",
    "Action",
    "Bytes",
    "Command",
    "Context",
    "Event",
    "EventHandler",
    "Id",
    "Needs",
    "Permission",
    "Principal",
    "Rate",
    "Registry",
    "Resource",
    "Secret",
    "Value",
    "action",
    "actions_in",
    "handlers_in",
    "on",
    "service_principal",
]

R = TypeVar("R")
C = TypeVar("C", bound="Command[Any]")
E = TypeVar("E", bound="Event")

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){1,3}")


class Command(BaseModel, Generic[R]):
    """What a caller asks for, and (as `R`) what it gets. Subclasses name their action; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    action_name: ClassVar[str] = ""
    result: ClassVar[TypeAdapter[Any]]

    @classmethod
    def __pydantic_init_subclass__(cls, *, action: str | None = None, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if action is None:
            return
        if not _NAME.fullmatch(action):
            raise TypeError(f"{action!r} does not name an action: service.feature.verb")
        cls.action_name = action
        for base in cls.__mro__:
            metadata = getattr(base, "__pydantic_generic_metadata__", None)
            if metadata and metadata["origin"] is Command:
                cls.result = TypeAdapter(metadata["args"][0])
                return
        raise TypeError(f"{cls.__name__} says what it gives: Command[Result]")

    def __init_subclass__(cls, *, action: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # pydantic's own hook, which knows the fields, takes the name


class Event(BaseModel):
    """Something that has happened, of one enterprise. Delivered at least once, handled exactly once."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    event_name: ClassVar[str] = ""
    leaves: ClassVar[bool] = False

    enterprise_id: Id

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, event: str | None = None, webhook: bool = False, **kwargs: Any
    ) -> None:
        """`webhook`: the enterprise may have it sent to a machine of its own; its fields are ids and facts only."""
        super().__pydantic_init_subclass__(**kwargs)
        if event is None:
            return
        cls.leaves = webhook
        if not _NAME.fullmatch(event):
            raise TypeError(f"{event!r} does not name an event: service.what_happened")
        known = EVENTS.setdefault(event, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"event {event} is declared twice")
        cls.event_name = event

    def __init_subclass__(cls, *, event: str | None = None, webhook: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # pydantic's own hook, which knows the fields, takes the name

    def order_key(self) -> str | None:
        """Events of one key reach a handler in the order of their commits; None: in any order, side by side.

        At most 200 characters, beginning with the service: ``f"im.conversations:{self.conversation_id}"``.
        """
        return None


EVENTS: Final[dict[str, type[Event]]] = {}
"""Every event this process has imported, by name."""


# --- declarations ---------------------------------------------------------------------------------------------------


Handler = Callable[["Context", C], Awaitable[R]]
StepUp = Literal["sign", "factor"]


@dataclass(frozen=True, slots=True, eq=False)
class Action(Generic[C, R]):
    """One declared action. Calling it calls its handler, for tests of the handler alone."""

    command: type[C]
    needs: Needs
    handler: Callable[[Context, C], Awaitable[R]]
    idempotent: bool
    audited: bool
    transaction: bool
    limit: Rate | None
    step_up: StepUp | None
    step_up_when: Callable[[C, Principal], bool] | None
    describe: Callable[[C], list[str]] | None

    @property
    def name(self) -> str:
        return self.command.action_name

    @property
    def service(self) -> str:
        return self.name.partition(".")[0]

    @property
    def summary(self) -> str:
        return (self.handler.__doc__ or "").strip().partition("\n")[0]

    async def __call__(self, ctx: Context, command: C) -> R:
        return await self.handler(ctx, command)


def action(
    command: type[C],
    *,
    needs: Needs,
    idempotent: bool | None = None,
    audited: bool = True,
    transaction: bool = True,
    limit: Rate | None = None,
    step_up: StepUp | None = None,
    step_up_when: Callable[[C, Principal], bool] | None = None,
    describe: Callable[[C], list[str]] | None = None,
) -> Callable[[Callable[[Context, C], Awaitable[R]]], Action[C, R]]:
    """Declare the action of `command`.

    `needs` has no default: who may call is part of every declaration (`core.access`). `idempotent` keeps the answer
    under the caller's key; by default every write does that has a caller and one transaction to keep it in. The others
    refuse a key, so that nobody trusts in one that is not looked at.
    `audited=False` is for reads only: such an action must not write. `transaction=False` runs
    the handler without one (it hashes, waits or talks to others first) and lets it open its own by `ctx.transact`.
    `limit` is per person, or per address where nobody is logged in. `step_up` names the proof asked for first
    (`core.stepup`): a signature by the trusted device where there is one ("sign"), or any second factor ("factor");
    only for the calls that `step_up_when` picks. `describe` says in Chinese what the caller confirms, the first line
    in few words.
    Raises `TypeError` for a declaration that makes no sense.
    """
    if not command.action_name:
        raise TypeError(f'{command.__name__} names no action: class {command.__name__}(…, action="…")')
    storable = transaction and needs is not PUBLIC
    if idempotent is None:
        idempotent = audited and storable
    elif idempotent and not storable:
        raise TypeError(
            f"{command.action_name}: a stored answer needs a caller and a transaction to be stored in"
        )

    if step_up is not None and (not audited or needs in (PUBLIC, INTERNAL)):
        raise TypeError(
            f"{command.action_name}: who confirms it has to be somebody, and it has to be a write"
        )

    def declare(handler: Callable[[Context, C], Awaitable[R]]) -> Action[C, R]:
        return Action(
            command,
            needs,
            handler,
            idempotent,
            audited,
            transaction,
            limit,
            step_up,
            step_up_when,
            describe,
        )

    return declare


@dataclass(frozen=True, slots=True, eq=False)
class EventHandler(Generic[E]):
    """One handler of one event; `name` is what its inbox rows are kept under, so it must not change lightly."""

    event: type[E]
    name: str
    handler: Callable[[Context, E], Awaitable[None]]

    async def __call__(self, ctx: Context, event: E) -> None:
        await self.handler(ctx, event)


def on(event: type[E]) -> Callable[[Callable[[Context, E], Awaitable[None]]], EventHandler[E]]:
    """Declare a handler of `event`: run in one transaction with its inbox row, so its writes happen once."""
    if not event.event_name:
        raise TypeError(f'{event.__name__} names no event: class {event.__name__}(…, event="…")')

    def declare(handler: Callable[[Context, E], Awaitable[None]]) -> EventHandler[E]:
        return EventHandler(event, f"{handler.__module__}.{handler.__qualname__}", handler)

    return declare


def actions_in(*modules: ModuleType) -> tuple[Action[Any, Any], ...]:
    """All actions that these modules declare, in order of declaration."""
    return tuple(
        dict.fromkeys(thing for m in modules for thing in vars(m).values() if isinstance(thing, Action))
    )


def handlers_in(*modules: ModuleType) -> tuple[EventHandler[Any], ...]:
    """All event handlers that these modules declare, in order of declaration."""
    found = (thing for m in modules for thing in vars(m).values() if isinstance(thing, EventHandler))
    return tuple(dict.fromkeys(found))


class Registry:
    """The actions and event handlers of the services in this process."""

    def __init__(self) -> None:
        self.actions: dict[str, Action[Any, Any]] = {}
        self.handlers: dict[str, list[EventHandler[Any]]] = {}
        self.services: set[str] = set()

    def add(
        self, service: str, actions: Iterable[Action[Any, Any]], handlers: Iterable[EventHandler[Any]] = ()
    ) -> None:
        """Take in a service. Raises `TypeError` for a name that is taken or that belongs to another service."""
        self.services.add(service)
        for declared in actions:
            if declared.service != service:
                raise TypeError(f"{declared.name} does not belong to service {service}")
            if declared.name in self.actions:
                raise TypeError(f"action {declared.name} is declared twice")
            self.actions[declared.name] = declared
        for handler in handlers:
            listening = self.handlers.setdefault(handler.event.event_name, [])
            if any(other.name == handler.name for other in listening):
                raise TypeError(f"handler {handler.name} is declared twice")
            listening.append(handler)

    def get(self, name: str) -> Action[Any, Any]:
        """The action of this name. Raises `NotFound`."""
        found = self.actions.get(name)
        if found is None:
            raise NotFound(f"there is no action {name!r} here" if len(name) <= 100 else None)
        return found

    def public(self) -> list[Action[Any, Any]]:
        """What callers from outside may see, by name."""
        return [a for _, a in sorted(self.actions.items()) if a.needs is not INTERNAL]
