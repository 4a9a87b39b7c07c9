"""A service, and the host that runs a set of them in one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import structlog

from core.actions import Action, EventHandler
from core.errors import Invalid

if TYPE_CHECKING:
    from core.jobs import Job
    from core.runtime import Runtime

log = structlog.get_logger(__name__)


class Service:
    """One package's wiring: what it offers, what it listens to, what it does by itself, how it starts and stops.

    Handlers reach the instance by `ctx.service`. `start` is awaited after the actions of all services of the
    process are registered; `stop` in the reverse order, and it must be safe after a `start` that failed half-way.
    """

    name: ClassVar[str]
    actions: Sequence[Action[Any, Any]] = ()
    handlers: Sequence[EventHandler[Any]] = ()
    jobs: Sequence[Job] = ()

    async def start(self, runtime: Runtime) -> None:
        """Begin to work. The runtime's database and bus are open."""

    async def stop(self) -> None:
        """Finish what was accepted and let go of everything."""


class Host:
    """The services of this process, started and stopped as one."""

    def __init__(self, runtime: Runtime, services: Sequence[Service]) -> None:
        self.runtime = runtime
        self.services: dict[str, Service] = {}
        self._started: list[Service] = []
        for service in services:
            if service.name in self.services:
                raise Invalid(f"service {service.name} is there twice")
            self.services[service.name] = service
            runtime.registry.add(service.name, service.actions, service.handlers)

    async def start(self) -> None:
        """Open calls, then start the services in the given order; if one fails, stop those before it and raise."""
        await self.runtime.calls.open(self.runtime, self.services)
        try:
            for service in self.services.values():
                self._started.append(service)
                await service.start(self.runtime)
                log.info("service.started", service=service.name)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop in reverse order. One that fails to stop is logged and does not keep the others up."""
        while self._started:
            service = self._started.pop()
            try:
                await service.stop()
                log.info("service.stopped", service=service.name)
            except Exception:
                log.exception("service.stop_failed", service=service.name)
        await self.runtime.calls.close()
