"""The hub as a service: a node behind a listening socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import structlog

from core.actions import ID_MAX, Principal, actions_in
from core.context import Source
from core.dpop import WINDOW, BadProof, Shown, Window, spend
from core.errors import TooManyRequests
from core.limits import CallerLimits
from core.runtime import Runtime
from core.service import Service
from core.settings import Settings
from core.telemetry import parse_trace
from hub import metrics, sessions
from hub.inboxes import SqlInboxes
from hub.node.node import Node
from hub.node.ports import Files, Gate, StreamPolicy
from hub.server.connection import Connection
from hub.streams.store import StreamStore
from hub.wire.frames import Call
from hub.wire.limits import Limits

log = structlog.get_logger(__name__)

CALL_DEADLINE_MS = 15_000  # of a CALL that names none
BACKLOG = 4096  # connections not accepted yet: everybody comes back at once
SEND_BUFFER_BYTES = 128 * 1024  # the kernel's share of a slow reader; it would grow to 4 MiB by itself


class HubService(Service):
    """One worker's hub. `gate`, `policy` and `files` come from the packages above by the composition root.

    Without `files` messages that carry any are refused.
    """

    name = "hub"
    actions = actions_in(sessions)

    def __init__(
        self, gate: Gate, policy: StreamPolicy, *, files: Files | None = None, listen: bool = True
    ) -> None:
        self._gate, self._policy, self._files, self._listen = gate, policy, files, listen
        self._server: asyncio.AbstractServer | None = None
        self.node: Node | None = None

    async def start(self, runtime: Runtime) -> None:
        """Opens the node, then the door."""
        settings = runtime.settings

        limits = CallerLimits(runtime.limits, settings)

        async def call(principal: Principal, frame: Call, address: str) -> Any:
            await limits.caller(principal)
            answer = await runtime.calls.perform(
                frame.action, frame.params or {}, principal=principal, source=Source(address, "hub"), key=frame.key,
                deadline_s=(frame.deadline_ms or CALL_DEADLINE_MS) / 1000, trace=parse_trace(frame.trace),
                step_up=None if frame.step_up is None else min(int(frame.step_up), ID_MAX),
            )  # fmt: skip
            return answer.value

        def refused(
            what: str, outcome: str, address: str, who: Principal | None = None, device: str = ""
        ) -> None:
            runtime.refusals.note(what, outcome, Source(address, "hub"), who=who, device=device)

        self.node = Node(
            name=runtime.node, store=StreamStore(runtime.db), bus=runtime.bus, clock=runtime.clock, rng=runtime.rng,
            ids=runtime.ids, gate=LimitedDoor(self._gate, limits, Window.of(settings)), policy=self._policy,
            inboxes=SqlInboxes(runtime.db, runtime.clock, runtime.ids), call=call, limits=limits_of(settings),
            origins=settings.gateway_origins, proxies=settings.gateway_trusted_proxies,
            hosts=settings.gateway_hosts, files=self._files, refused=refused,
        )  # fmt: skip
        await self.node.start()
        metrics.watch(self.node)
        if self._listen:
            sock = listening_socket(settings.hub_host, settings.hub_port)
            node = self.node
            self._server = await node.loop.create_server(lambda: Connection(node), sock=sock, backlog=BACKLOG)
            log.info("hub.listening", port=sock.getsockname()[1])

    async def stop(self) -> None:
        """Closes the door, tells the clients when to come back, commits what was accepted."""
        if self._server is not None:
            self._server.close()
        if self.node is not None:
            await self.node.drain(5.0)
            await self.node.stop()
            self.node = None


def limits_of(settings: Settings) -> Limits:
    """The limits of sessions that settings say."""
    return Limits(**{name: getattr(settings, f"hub_{name}") for name in Limits.__struct_fields__})


class LimitedDoor:
    """The gate, and before it the limit of HELLOs; proofs are used up here."""

    def __init__(self, gate: Gate, limits: CallerLimits, window: Window = WINDOW) -> None:
        self._gate, self._limits, self._window = gate, limits, window

    def authenticate(self, token: str, shown: Shown | None = None) -> Principal:
        """See `Gate`."""
        return self._gate.authenticate(token, shown)

    async def admit(self, principals: Sequence[Principal]) -> list[str | None]:
        """See `Gate`."""
        return await self._gate.admit(principals)

    async def greet(self, coming: Sequence[tuple[Principal, Shown | None]]) -> list[str | None]:
        """See `Door`."""
        return list(await asyncio.gather(*(self._may_come(who, shown) for who, shown in coming)))

    async def _may_come(self, who: Principal, shown: Shown | None) -> str | None:
        try:
            await self._limits.hello(who)
            if shown is not None:
                await spend(self._limits.limits, shown.proof, self._window)
        except TooManyRequests:
            return "too_many"
        except BadProof:
            return "replayed"
        return None


def listening_socket(host: str, port: int) -> socket.socket:
    """A TCP socket that several workers may listen on (SO_REUSEPORT). Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
